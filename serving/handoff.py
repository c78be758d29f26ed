"""The hand-off between speed and batch: merged = every distinct valid event below the speed position, at every moment.

State changes only inside the SQL functions of sql/40 to sql/60; this module brings rows to them. Every call is one
transaction and may be repeated after any failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, LiteralString

import polars as pl
import psycopg

from contract.errors import OffsetRefused, RunRefused
from contract.master import OffsetRange
from serving.database import Connection, transaction
from serving.staging import stage_ledger, stage_rejects, stage_rows

_RUN_REFUSED = "BR001"  # as raised in sql/50_batch.sql
_GARBAGE_ROWS = 20_000


@dataclass(frozen=True)
class Counts:
    """What a range of offsets held: records read, events counted, repeats of events; the rest are rejects."""

    received: int
    counted: int
    duplicate: int


@dataclass(frozen=True)
class Cut:
    """Offsets below next_offset, and speed rows of epochs up to `epoch`."""

    next_offset: int
    epoch: int


@dataclass(frozen=True)
class Run:
    """A batch run: it computes all below `cut`; `base` is the cut of the publication it was planned on, empty if none."""

    run_id: int
    base_generation: int
    base: dict[int, Cut]
    cut: dict[int, Cut]


def positions(connection: Connection, partitions: int = 0) -> dict[int, int]:
    """The next offset to commit of each partition; `partitions` of them exist afterwards, or more. Any writing role."""
    with transaction(connection):
        rows = connection.execute("SELECT partition, next_offset FROM serving.positions(%s)", [partitions]).fetchall()
    return dict(rows)


def commit_range(
    connection: Connection,
    offsets: OffsetRange,
    rows: Mapping[str, pl.DataFrame],
    counts: Counts,
    rejects: pl.DataFrame,
    topic: str,
) -> bool:
    """The range counts from now on: True if this call did it, False if an earlier one did. Role speed.

    Raises OffsetRefused, and changes nothing, if the partition does not stand at the range's first offset.
    """
    with transaction(connection):
        stage_rows(connection, rows)
        stage_rejects(connection, topic, rejects)
        position = _value(
            connection,
            "SELECT serving.commit_range(%s, %s, %s, %s, %s, %s)",
            [
                offsets.partition,
                offsets.first_offset,
                offsets.next_offset,
                counts.received,
                counts.counted,
                counts.duplicate,
            ],
        )
    if position >= offsets.next_offset:
        return False
    if position != offsets.first_offset:
        raise OffsetRefused(offsets.partition, offsets.first_offset, position)
    return True


def begin_run(
    connection: Connection, kind: Literal["full", "incremental"], archive_next: Mapping[int, int] | None = None
) -> Run:
    """All that the speed layer has committed belongs to the new run; what it commits from now on does not. Role batch.

    Where `archive_next`, by partition, is ahead of the speed layer the run takes the offsets between over, and the speed
    layer goes on after them. They are in flight until a run is published.
    """
    archived = dict(archive_next or {})
    with transaction(connection):
        run_id, generation = _row(
            connection, "SELECT * FROM serving.begin_run(%s, %s, %s)", [kind, list(archived), list(archived.values())]
        )
        cuts = connection.execute("SELECT * FROM serving.cuts(%s)", [run_id]).fetchall()
    return Run(
        run_id,
        generation,
        base={partition: Cut(offset, epoch) for partition, _, _, offset, epoch in cuts if offset is not None},
        cut={partition: Cut(offset, epoch) for partition, offset, epoch, _, _ in cuts},
    )


def write_task(
    connection: Connection, run_id: int, task_id: str, rows: Mapping[str, pl.DataFrame], ledger: pl.DataFrame
) -> bool:
    """A task's rows become the run's, unseen by readers: True if this call did it, False if an earlier one did. Role batch.

    Tasks of a run must not share a row's bucket and keys; they may share a day and partition of the ledger, which has
    staging.LEDGER_SCHEMA. Raises RunRefused if the run has ended.
    """
    with _refusing(), transaction(connection):
        stage_rows(connection, rows)
        stage_ledger(connection, ledger)
        return bool(_value(connection, "SELECT serving.write_task(%s, %s)", [run_id, task_id]))


def publish(
    connection: Connection, run_id: int, days: Iterable[date], received: Mapping[int, int], rejects: pl.DataFrame, topic: str
) -> int:
    """The run's rows answer for `days` from now on, a full run's for no other day; returns the generation. Role batch.

    `received` counts the records below the cut by partition. `rejects` may hold any below the cut, and must hold those
    above the base's cut: quarantine lacks the ones that no speed commit brought. Raises RunRefused if another
    publication came between; the run has failed then.
    """
    try:
        with _refusing(), transaction(connection):
            stage_rejects(connection, topic, rejects)
            return int(
                _value(
                    connection,
                    "SELECT serving.publish(%s, %s::date[], %s, %s)",
                    [run_id, list(days), list(received), list(received.values())],
                )
            )
    except RunRefused as refusal:
        fail_run(connection, run_id, str(refusal))
        raise


def fail_run(connection: Connection, run_id: int, error: str) -> None:
    """The run ends without effect on readers; a run that was published or has failed stays as it is. Role batch."""
    with transaction(connection):
        connection.execute("SELECT serving.fail_run(%s, %s)", [run_id, error])


def collect_garbage(connection: Connection, keep_runs: int) -> dict[str, int]:
    """How much was deleted of what neither readers, nor a rollback by up to `keep_runs` publications, nor running runs need.

    Works in small transactions, so it may be stopped at any time and run beside everything else. Role batch.
    """
    with transaction(connection):
        pruned = _value(connection, "SELECT serving.prune_publications(%s)", [keep_runs])
    batch_rows = _until(connection, "SELECT serving.collect_run_day()", [], lambda deleted: deleted is None)
    speed_rows = _until(connection, "SELECT serving.collect_epochs(%s)", [_GARBAGE_ROWS], lambda deleted: deleted == 0)
    return {"publications": pruned, "batch_rows": batch_rows, "speed_rows": speed_rows}


def _until(connection: Connection, query: LiteralString, parameters: list[Any], done: Callable[[Any], bool]) -> int:
    total = 0
    while True:
        with transaction(connection):
            deleted = _value(connection, query, parameters)
        if done(deleted):
            return total
        total += deleted


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except psycopg.DatabaseError as error:
        if error.sqlstate != _RUN_REFUSED:
            raise
        raise RunRefused.because(error.diag.message_primary) from None


def _row(connection: Connection, query: LiteralString, parameters: list[Any]) -> tuple[Any, ...]:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None  # a function call gives one row
    return row


def _value(connection: Connection, query: LiteralString, parameters: list[Any]) -> Any:
    return _row(connection, query, parameters)[0]
