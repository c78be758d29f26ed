"""The hand-off between speed and batch: merged = every distinct valid event below the speed position, at every moment.

State changes only inside the SQL functions of sql/40 to sql/60; this module brings rows to them. Every call is one
transaction and may be repeated after any failure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from datetime import date
from typing import Any, Literal, LiteralString

import msgspec
import numpy as np
import polars as pl
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from contract.errors import CatalogueError, OffsetRefused, PublicationRefused, RunRefused, StatementsRefused
from contract.log_position import LogPosition
from contract.losses import Loss
from contract.master import OffsetRange
from contract.views import VIEWS, View, catalogue_digest
from serving.database import Connection, answering, one_row, one_value, refusing, transaction
from serving.row_arrays import Argument, row_array, view_rows

STORED_VALUE_BYTES = 4_096
LEDGER_SCHEMA = pl.Schema({"day": pl.Date, "partition": pl.Int32, "counted": pl.Int64, "duplicate": pl.Int64})
_GARBAGE_ROWS = 20_000
_GARBAGE_EVENTS = 50_000
_ARGUMENT_ROWS = 20_000
ARGUMENT_BYTES = 4 << 20
"""So many rows of a view, or rejects, and so much of their contents, are one argument of a batch run's call: PostgreSQL
takes some seven times as much memory for it."""
_PLAIN_ROW_BYTES = 100
MERGED_ROWS = 20_000
"""So many speed rows are merged in one call, which takes a second or less."""


Kind = Literal["full", "incremental", "audit"]


@dataclass(frozen=True)
class Counts:
    """What a range of offsets held: records read, events counted, repeats of events, forgotten; the rest are rejects."""

    received: int
    counted: int
    duplicate: int
    forgotten: int = 0


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


def positions(connection: Connection, partitions: int = 0) -> dict[int, LogPosition]:
    """Where to go on in each partition; `partitions` of them exist afterwards, or more. Any writing role."""
    with answering(connection):
        rows = connection.execute("SELECT * FROM serving.positions(%s)", [partitions]).fetchall()
    return {partition: LogPosition(*position) for partition, *position in rows}


def commit_range(
    connection: Connection,
    offsets: OffsetRange,
    rows: Mapping[str, pl.DataFrame],
    counts: Counts,
    rejects: pl.DataFrame,
    topic: str,
    judged_generation: int | None = None,
    views: Sequence[View] = VIEWS,
    position: LogPosition | None = None,
    known_statement: int | None = None,
) -> bool:
    """The range counts from now on: True if this call did it, False if an earlier one did. Role speed.

    `judged_generation` is the publication whose day filters its events were held against; None: against none. `views` are
    those that the rows are of, `position` the one at the range's end, None if that is not known. Changes nothing and raises
    OffsetRefused if the partition does not stand at the range's first offset, PublicationRefused if another publication is
    live, CatalogueChanged if the database has other views, PositionLost if the partition stands in another log,
    StatementsRefused if more is forgotten than statement `known_statement` and those before it say; None: do not look.
    """
    at = position or LogPosition(offsets.next_offset)
    with refusing(), _of_catalogue(connection, views), answering(connection):
        before, live_generation, last_statement = one_row(
            connection,
            "SELECT * FROM serving.commit_range(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                catalogue_digest(views),
                offsets.partition,
                offsets.first_offset,
                offsets.next_offset,
                counts.received,
                counts.counted,
                counts.duplicate,
                view_rows(connection, rows),
                None if rejects.is_empty() else _quarantined(connection, topic, _as_stored(rejects)),
                judged_generation,
                at.topic_id,
                at.leader_epoch,
                None if position is None else at.shift,
                counts.forgotten,
                known_statement,
            ],
        )
    if before >= offsets.next_offset:
        return False
    if before != offsets.first_offset:
        raise OffsetRefused(offsets.partition, offsets.first_offset, before)
    if judged_generation is not None and judged_generation != live_generation:
        raise PublicationRefused(judged_generation, live_generation)
    if known_statement is not None and known_statement != last_statement:
        raise StatementsRefused(known_statement, last_statement)
    return True


def merge_appended(connection: Connection, partition: int, least_rows: int, most_rows: int = MERGED_ROWS) -> int | None:
    """Rows that commits of the partition appended are merged where there are so many; no merged view changes. Role speed.

    Returns how many were merged: at most `most_rows`, and if it is so many, another call may find more. None: others merge
    or delete rows at this moment, and nothing was looked at. Each commit appends its rows, because merging them at once
    takes ten times as long.
    """
    with answering(connection):
        merged = one_value(connection, "SELECT serving.merge_appended(%s, %s, %s)", [partition, least_rows, most_rows])
    return None if merged is None else int(merged)


def begin_run(
    connection: Connection,
    kind: Kind,
    archive_next: Mapping[int, int] | None = None,
    views: Sequence[View] = VIEWS,
    archive: Mapping[int, LogPosition] | None = None,
    going_on: Collection[int] = (),
) -> Run:
    """All that the speed layer has committed belongs to the new run; what it commits from now on does not. Role batch.

    Where `archive_next`, by partition, is ahead of the speed layer the run takes the offsets between over, and the speed
    layer goes on after them. They are in flight until a run is published. An incremental run becomes a full one if one of
    the views has no history yet. `archive` says where, and in which log, the archive ends. Where that log follows the speed
    layer's, the run takes over all that the speed layer has committed by now in the partitions `going_on`: there Kafka has
    what it read. Raises CatalogueChanged if the database has other views, PositionLost if the archive is of another log than
    the speed layer's rows.
    """
    archived, ends = dict(archive_next or {}), dict(archive or {})
    with refusing(), transaction(connection):
        run_id, generation, kind = one_row(
            connection,
            "SELECT * FROM serving.begin_run(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                catalogue_digest(views),
                kind,
                list(archived),
                list(archived.values()),
                list(ends),
                [end.topic_id for end in ends.values()],
                [end.leader_epoch for end in ends.values()],
                [end.shift for end in ends.values()],
                list(going_on),
            ],
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
    """Ranges, in order and apart, of which it is known that none of their events is on any of the days. Role batch."""
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
    days = {*ledger["day"], *(day for frame in rows.values() for day in frame["bucket"].dt.date().unique())}
    nothing: list[Any] = [[] for _ in LEDGER_SCHEMA]
    with refusing(), _of_catalogue(connection, views), transaction(connection):
        calls = _calls(rows)
        for number, some in enumerate(calls):
            # guard: days are locked after all tables
            is_last = number == len(calls) - 1
            # The rows of all calls or of none are there, so the first one's claim speaks for all.
            written = one_value(
                connection,
                "SELECT serving.write_task(%s, %s, %s, %s::date[], %s::date[], %s, %s, %s)",
                [
                    run_id,
                    f"{task_id}/{number}",
                    view_rows(connection, some),
                    sorted(days) if is_last else [],
                    *([ledger[name].to_list() for name in LEDGER_SCHEMA] if is_last else nothing),
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


def record_lost(connection: Connection, lost: Iterable[Loss], is_known: bool = False) -> None:
    """The ledger says from now on which offsets are lost; what was said before stays as it is. Role batch.

    The next run that publishes takes them out of the views; one that began before does not, unless it `is_known` to the run
    of this transaction.
    """
    if facts := [msgspec.to_builtins(loss) for loss in lost]:
        with answering(connection):
            connection.execute("SELECT serving.record_lost(%s, %s)", [Jsonb(facts), is_known])


def publish(
    connection: Connection,
    run_id: int,
    days: Iterable[date],
    received: Mapping[int, int],
    rejects: Iterable[tuple[OffsetRange, pl.DataFrame]],
    topic: str,
    lost: Iterable[Loss] = (),
    forgotten: Mapping[int, int] | None = None,
) -> int:
    """The run's rows answer for `days` from now on, a full run's for no other day; returns the generation. Role batch.

    `received` counts the records below the cut by partition. `rejects` are ranges below the cut, in order, with all that
    the archive has of each: in these ranges they are what quarantine has from now on, whatever the speed layer has
    rejected there. They are taken one after the other, and must cover what is above the base's cut.
    `lost` is what the files that the run has read say is lost: a database that was made anew does not know it; `forgotten`
    counts, by partition, the records of these files that are forgotten.
    Raises RunRefused if another publication came between; the run has failed then.
    """
    gone = forgotten or {}
    try:
        with refusing(), transaction(connection):
            for whole, frame in rejects:
                for offsets, some in _judged_slices(whole, _as_stored(frame)):
                    _judge(connection, offsets, some, topic)
            record_lost(connection, lost, is_known=True)
            # Last, because from here on locks are held that others wait for.
            generation = one_value(
                connection,
                "SELECT serving.publish(%s, %s::date[], %s, %s, %s::bigint[])",
                [run_id, list(days), list(received), list(received.values()), [gone.get(p, 0) for p in received]],
            )
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
    batch_rows = _until(
        connection, "SELECT serving.collect_run_days(%s)", [_GARBAGE_EVENTS], lambda deleted: deleted is None
    )
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


def _judge(connection: Connection, offsets: OffsetRange, rejects: pl.DataFrame, topic: str) -> None:
    """Quarantine has these rejects of the range; the values of those that it has already are not sent."""
    lacking = connection.execute(
        "SELECT serving.judge_rejects(%s, %s, %s, %s::bigint[], %s::text[], %s::text[])",
        [*astuple(offsets), *(rejects[name].to_list() for name in ("offset", "reason", "detail"))],
    ).fetchall()
    if lacking:
        new = rejects.filter(pl.col("offset").is_in([offset for (offset,) in lacking]))
        connection.execute("SELECT serving.add_rejects('batch', %s)", [_quarantined(connection, topic, new)])


def _judged_slices(offsets: OffsetRange, rejects: pl.DataFrame) -> Iterator[tuple[OffsetRange, pl.DataFrame]]:
    """The rejects of the range in slices of limited size, one at least, each with the offsets up to the next one's first."""
    slices = list(_slices(rejects.sort("offset"))) or [rejects]
    # guard: no offset is between two slices
    firsts = [offsets.first_offset, *(int(some["offset"][0]) for some in slices[1:])]
    for first, after, some in zip(firsts, [*firsts[1:], offsets.next_offset], slices, strict=True):
        yield OffsetRange(offsets.partition, first, after), some


def _until(connection: Connection, query: LiteralString, parameters: list[Any], done: Callable[[Any], bool]) -> int:
    total = 0
    while True:
        with answering(connection):
            deleted = one_value(connection, query, parameters)
        if done(deleted):
            return total
        total += deleted


def _calls(rows: Mapping[str, pl.DataFrame]) -> list[dict[str, pl.DataFrame]]:
    """The rows, by the call that brings them: each of limited size, one at least. By name, so that tasks take the locks of
    tables in one order."""
    return [{name: some} for name, frame in sorted(rows.items()) for some in _slices(frame)] or [{}]


def _slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows in slices of at most ARGUMENT_BYTES and _ARGUMENT_ROWS; a row that alone has more is one."""
    sizes = np.full(len(frame), _PLAIN_ROW_BYTES, np.int64)
    for column in frame.iter_columns():
        if column.dtype == pl.String:
            sizes += column.str.len_bytes().fill_null(0).to_numpy()
        elif column.dtype == pl.Binary:
            sizes += column.bin.size().fill_null(0).to_numpy()
        elif isinstance(column.dtype, pl.List):
            sizes += 8 * column.list.len().fill_null(0).to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    first = 0
    while first < len(frame):
        before = int(ends[first - 1]) if first else 0
        # guard: arguments are bounded
        fitting = int(np.searchsorted(ends, before + ARGUMENT_BYTES, "right"))
        after = min(max(first + 1, fitting), first + _ARGUMENT_ROWS)
        yield frame[first:after]
        first = after


def _as_stored(rejects: pl.DataFrame) -> pl.DataFrame:
    """Rejects as contract.event.decode gives them; of the value only the first STORED_VALUE_BYTES."""
    return rejects.with_columns(pl.col("value").bin.slice(0, STORED_VALUE_BYTES))


def _quarantined(connection: Connection, topic: str, stored: pl.DataFrame) -> Argument:
    return row_array(connection, "serving.quarantined", stored.with_columns(pl.lit(topic).alias("topic")))


@contextmanager
def _of_catalogue(connection: Connection, views: Sequence[View]) -> Iterator[None]:
    """Rows of other views than the database has fail in many ways, by types or columns; that is what they are told as."""
    try:
        yield
    except (psycopg.DataError, psycopg.ProgrammingError, CatalogueError):
        with answering(connection):
            connection.execute("SELECT serving.require_catalogue(%s)", [catalogue_digest(views)])
        raise
