"""The hand-off between speed and batch: merged = every distinct valid event below the speed position, at every moment.

State changes only inside the SQL functions of sql/40 to sql/60; this module brings rows to them. Every call is one
transaction and may be repeated after any failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal, LiteralString

import polars as pl
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from contract.errors import CatalogueError, OffsetRefused, PublicationRefused, RunRefused
from contract.master import OffsetRange
from contract.views import VIEWS, View, catalogue_digest
from serving.database import Connection, answering, one_row, one_value, refusing, transaction
from serving.row_arrays import Argument, row_array, view_rows

STORED_VALUE_BYTES = 4_096
LEDGER_SCHEMA = pl.Schema({"day": pl.Date, "partition": pl.Int32, "counted": pl.Int64, "duplicate": pl.Int64})
_GARBAGE_ROWS = 20_000
_ARGUMENT_ROWS = 20_000
"""So many rows of a view, or rejects, are in memory as one argument of a batch run's call."""


Kind = Literal["full", "incremental", "audit"]


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
    """A batch run: it computes all below `cut`; `base` is the cut of the publication it was planned on, empty if none.

    `base_received` is how many records were below that, by partition. It may be full although that was not asked for.
    """

    run_id: int
    kind: Kind
    base_generation: int
    base: dict[int, Cut]
    base_received: dict[int, int]
    cut: dict[int, Cut]


def positions(connection: Connection, partitions: int = 0) -> dict[int, int]:
    """The next offset to commit of each partition; `partitions` of them exist afterwards, or more. Any writing role."""
    with answering(connection):
        rows = connection.execute("SELECT partition, next_offset FROM serving.positions(%s)", [partitions]).fetchall()
    return dict(rows)


def commit_range(
    connection: Connection,
    offsets: OffsetRange,
    rows: Mapping[str, pl.DataFrame],
    counts: Counts,
    rejects: pl.DataFrame,
    topic: str,
    judged_generation: int | None = None,
    views: Sequence[View] = VIEWS,
) -> bool:
    """The range counts from now on: True if this call did it, False if an earlier one did. Role speed.

    `judged_generation` is the publication whose day filters its events were held against; None: against none. `views` are
    those that the rows are of. Changes nothing and raises OffsetRefused if the partition does not stand at the range's first
    offset, PublicationRefused if another publication is live, CatalogueChanged if the database has other views.
    """
    with refusing(), _of_catalogue(connection, views), answering(connection):
        position, live_generation = one_row(
            connection,
            "SELECT * FROM serving.commit_range(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                catalogue_digest(views),
                offsets.partition,
                offsets.first_offset,
                offsets.next_offset,
                counts.received,
                counts.counted,
                counts.duplicate,
                view_rows(connection, rows),
                None if rejects.is_empty() else _quarantined(connection, topic, rejects),
                judged_generation,
            ],
        )
    if position >= offsets.next_offset:
        return False
    if position != offsets.first_offset:
        raise OffsetRefused(offsets.partition, offsets.first_offset, position)
    if judged_generation is not None and judged_generation != live_generation:
        raise PublicationRefused(judged_generation, live_generation)
    return True


def merge_appended(connection: Connection, partition: int, least_rows: int) -> int:
    """Rows that commits of the partition appended are merged where there are so many; no merged view changes. Role speed.

    Returns how many rows came of it. Each commit appends its rows, because merging them at once takes ten times as long.
    """
    with answering(connection):
        return int(one_value(connection, "SELECT serving.merge_appended(%s, %s)", [partition, least_rows]))


def begin_run(
    connection: Connection, kind: Kind, archive_next: Mapping[int, int] | None = None, views: Sequence[View] = VIEWS
) -> Run:
    """All that the speed layer has committed belongs to the new run; what it commits from now on does not. Role batch.

    Where `archive_next`, by partition, is ahead of the speed layer the run takes the offsets between over, and the speed
    layer goes on after them. They are in flight until a run is published. An incremental run becomes a full one if one of
    the views has no history yet. Raises CatalogueChanged if the database has other views.
    """
    archived = dict(archive_next or {})
    with refusing(), transaction(connection):
        run_id, generation, kind = one_row(
            connection,
            "SELECT * FROM serving.begin_run(%s, %s, %s, %s)",
            [catalogue_digest(views), kind, list(archived), list(archived.values())],
        )
        cuts = connection.execute("SELECT * FROM serving.cuts(%s)", [run_id]).fetchall()
    return Run(
        run_id,
        kind,
        generation,
        base={partition: Cut(offset, epoch) for partition, _, _, offset, epoch, _ in cuts if offset is not None},
        base_received={partition: received for partition, _, _, _, _, received in cuts if received is not None},
        cut={partition: Cut(offset, epoch) for partition, offset, epoch, _, _, _ in cuts},
    )


def add_surveyed(connection: Connection, found: Iterable[tuple[OffsetRange, Iterable[date]]]) -> None:
    """Of each range the days that its events are on, for later runs. Role batch."""
    facts = [{**asdict(offsets), "days": [day.isoformat() for day in days]} for offsets, days in found]
    with answering(connection):
        connection.execute("SELECT serving.add_surveyed(%s)", [Jsonb(facts)])


def surveyed_without(connection: Connection, days: Iterable[date]) -> list[OffsetRange]:
    """Ranges of which it is known that none of their events is on any of the days; they may overlap. Role batch."""
    with answering(connection):
        rows = connection.execute("SELECT * FROM serving.surveyed_without(%s::date[])", [list(days)]).fetchall()
    return [OffsetRange(*row) for row in rows]


def write_task(
    connection: Connection,
    run_id: int,
    task_id: str,
    rows: Mapping[str, pl.DataFrame],
    ledger: pl.DataFrame,
    views: Sequence[View] = VIEWS,
) -> bool:
    """A task's rows become the run's, unseen by readers: True if this call did it, False if an earlier one did. Role batch.

    Tasks of a run must not share a row's bucket and keys; they may share a day and partition of the ledger, which has
    LEDGER_SCHEMA. Raises RunRefused if the run has ended, as it has when the views are others than the rows are of.
    """
    with refusing(), _of_catalogue(connection, views), transaction(connection):
        for number, part in enumerate(_parts(rows)):
            # All parts or none are there, so the first one's claim speaks for all.
            written = one_value(
                connection,
                "SELECT serving.write_task(%s, %s, %s, %s::date[], %s, %s, %s)",
                [
                    run_id,
                    f"{task_id}/{number}",
                    view_rows(connection, part),
                    *(ledger[name].to_list() if number == 0 else [] for name in LEDGER_SCHEMA),
                ],
            )
            if not written:
                return False
    return True


def received_below_cut(connection: Connection, run_id: int) -> dict[int, int]:
    """How many records the ledger counts below the run's cut, by partition. Role batch."""
    with answering(connection):
        return dict(connection.execute("SELECT partition, received FROM serving.received_below(%s)", [run_id]).fetchall())


def end_audit(connection: Connection, run_id: int) -> None:
    """A run of kind audit has done its work; garbage collection may take its rows. Role batch."""
    with answering(connection):
        connection.execute("SELECT serving.end_audit(%s)", [run_id])


def publish(
    connection: Connection, run_id: int, days: Iterable[date], received: Mapping[int, int], rejects: pl.DataFrame, topic: str
) -> int:
    """The run's rows answer for `days` from now on, a full run's for no other day; returns the generation. Role batch.

    `received` counts the records below the cut by partition. `rejects` may hold any below the cut, and must hold those
    above the base's cut: quarantine lacks the ones that no speed commit brought. Raises RunRefused if another
    publication came between; the run has failed then.
    """
    try:
        with refusing(), transaction(connection):
            generation = one_value(
                connection,
                "SELECT serving.publish(%s, %s::date[], %s, %s)",
                [run_id, list(days), list(received), list(received.values())],
            )
            for part in rejects.iter_slices(_ARGUMENT_ROWS):
                connection.execute("SELECT serving.add_rejects(%s)", [_quarantined(connection, topic, part)])
            return int(generation)
    except RunRefused as refusal:
        fail_run(connection, run_id, str(refusal))
        raise


def fail_run(connection: Connection, run_id: int, error: str) -> None:
    """The run ends without effect on readers; a run that was published or has failed stays as it is. Role batch."""
    with answering(connection):
        connection.execute("SELECT serving.fail_run(%s, %s)", [run_id, error])


def collect_garbage(connection: Connection, keep_runs: int) -> dict[str, int]:
    """How much was deleted of what neither readers, nor a rollback to one of `keep_runs` runs, nor running runs need.

    Works in small transactions, so it may be stopped at any time and run beside everything else. Role batch.
    """
    with answering(connection):
        pruned = one_value(connection, "SELECT serving.prune_publications(%s)", [keep_runs])
    batch_rows = _until(connection, "SELECT serving.collect_run_day()", [], lambda deleted: deleted is None)
    speed_rows = _until(connection, "SELECT serving.collect_epochs(%s)", [_GARBAGE_ROWS], lambda deleted: deleted == 0)
    versions = _until(connection, "SELECT serving.drop_version()", [], lambda dropped: dropped == 0)
    return {"publications": pruned, "batch_rows": batch_rows, "speed_rows": speed_rows, "view_versions": versions}


def vacuum(connection: Connection) -> None:
    """Readers no longer visit speed rows that were deleted, as they would until autovacuum comes. Role batch.

    No transaction must be open. Waits for nothing, and stops giving the end of a file back when somebody waits for it.
    """
    with answering(connection):
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'serving'::regnamespace AND relkind = 'r' "
            "AND has_table_privilege(oid, 'MAINTAIN')"
        ).fetchall()
        for (table,) in tables:
            # Another run may have dropped an old version's table.
            with suppress(psycopg.errors.UndefinedTable):
                connection.execute(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(sql.Identifier("serving", table)))


def _until(connection: Connection, query: LiteralString, parameters: list[Any], done: Callable[[Any], bool]) -> int:
    total = 0
    while True:
        with answering(connection):
            deleted = one_value(connection, query, parameters)
        if done(deleted):
            return total
        total += deleted


def _parts(rows: Mapping[str, pl.DataFrame]) -> Iterator[dict[str, pl.DataFrame]]:
    """The rows in parts of limited size, one at least."""
    longest = max(map(len, rows.values()), default=0)
    for first in range(0, max(longest, 1), _ARGUMENT_ROWS):
        yield {name: frame[first : first + _ARGUMENT_ROWS] for name, frame in rows.items() if first < len(frame)}


def _quarantined(connection: Connection, topic: str, rejects: pl.DataFrame) -> Argument:
    """Rejects as contract.event.decode gives them; of the value only the first STORED_VALUE_BYTES."""
    stored = rejects.with_columns(pl.lit(topic).alias("topic"), pl.col("value").bin.slice(0, STORED_VALUE_BYTES))
    return row_array(connection, "public.quarantine", stored)


@contextmanager
def _of_catalogue(connection: Connection, views: Sequence[View]) -> Iterator[None]:
    """Rows of other views than the database has fail in many ways, by types or columns; that is what they are told as."""
    try:
        yield
    except (psycopg.DataError, psycopg.ProgrammingError, CatalogueError):
        with answering(connection):
            connection.execute("SELECT serving.require_catalogue(%s)", [catalogue_digest(views)])
        raise
