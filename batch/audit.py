"""Proof on request, while traffic goes on: archive whole, positions consistent, ledger balanced, views equal a recompute.

The recompute is a batch run like any other, but it is compared with what readers had at its cut and never published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka.admin import AdminClient
from psycopg.rows import dict_row
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from batch.archive import Archive
from batch.audit_archive import ArchiveAudit
from batch.cut import require_reachable
from batch.findings import LISTED, Check, Report
from batch.progress import Progress
from batch.run import computed, open_run
from contract.errors import ArchiveDamaged, BraidError, JobFailed, PositionLost
from contract.extent import Extent
from contract.master import MASTER, OffsetRange, last_file
from contract.settings import Settings
from serving.database import Connection, connect
from serving.drift import DifferingRow, Drift, compare, differing_rows
from serving.gaps import OpenGap, open_gaps, with_empty
from serving.handoff import Run, begin_run, collect_garbage, end_audit, positions, received_below_cut
from serving.log_check import lost_positions
from serving.log_ends import log_ends
from serving.unread import Unread, unread_partitions

_FILE = "see docs/operations.md, 'a file of the archive is damaged or gone'"
_RETENTION = "`make status` says what is lost; see docs/operations.md, 'retention overtook a reader'"
_REPLACED = "see docs/operations.md, 'the topic was replaced'"
_DRIFT = "`make batch FULL=1` computes every row anew; see docs/operations.md, 'drift'"


_NOT_ALIKE = (
    "readers had less than all below the cut, offsets are in flight; or they had more, which is lost or forgotten: "
    "`make batch`"
)
CHECKS = ("archive", "positions", "ledger", "recompute")


@dataclass(frozen=True)
class Offsets:
    """Where a partition stands; None where nothing is known of it. Observed in this order, because all of them grow."""

    low: int | None
    speed: int | None
    cut: int | None
    archive: int | None
    high: int | None


def audit(
    settings: Settings, say: Callable[[str], None], only: str | None = None, progress: Progress | None = None
) -> Report:
    """Every check of CHECKS, or one, also after one has failed; one that cannot be made has a finding that says why."""
    progress = progress or Progress()
    archive = Archive(settings)
    files = ArchiveAudit(settings, archive, say, progress.advanced)
    checks: dict[str, Callable[[], Check]] = {
        "archive": files.run,
        "positions": lambda: _positions(settings, archive),
        "ledger": lambda: check_ledger(_ledger(settings)),
        "recompute": lambda: _recompute(settings, archive, files.unusable, say, progress),
    }
    return Report([_made(settings, name, checks[name], progress) for name in CHECKS if only in (None, name)])


def check_positions(
    offsets: Mapping[int, Offsets],
    lost: Mapping[str, Sequence[PositionLost]] | None = None,
    unread: Sequence[Unread] = (),
    missing: Sequence[OpenGap] = (),
) -> Check:
    """No part of a partition is ahead of what it reads from, none has lost what it has still to read, and all are read.

    `lost` has, by reader, the positions that are none of the log that Kafka has; `unread` the partitions that a reader has
    not begun with; `missing` what no file of the archive has.
    """
    check = Check("positions", f"Kafka, archive, speed layer and live cut of {len(offsets)} partitions")
    for reader, errors in (lost or {}).items():
        for error in errors:
            check.found(reader, str(error), _REPLACED)
    for one in unread:
        # guard: a partition that nobody reads is found
        if one.is_overdue(datetime.now(UTC)):
            check.found(f"partition {one.partition}", one.text(), one.next())
        else:
            check.notes.append(one.text())
    for gap in missing:
        place = f"partition {gap.partition}, offsets [{gap.first_offset}, {gap.next_offset})"
        check.found(
            place, "no file of the archive has them, so no run above them can be published", f"{gap.advice}; {_FILE}"
        )
    for partition, at in sorted(offsets.items()):
        place = f"partition {partition}"
        if at.low is None or at.high is None:
            check.found(place, "the topic has no such partition, but the archive or the speed layer has", _REPLACED)
            continue
        readers = {"archive": at.archive, "speed layer": at.speed}
        for reader, offset in ((reader, offset) for reader, offset in readers.items() if offset is not None):
            if offset < at.low:
                check.found(place, f"the {reader} is at offset {offset}, but Kafka's first is {at.low}", _RETENTION)
            if offset > at.high:
                check.found(place, f"the {reader} is at offset {offset}, but the topic ends at {at.high}", _REPLACED)
        if at.cut is not None and at.cut > (at.archive or 0):
            check.found(
                place, f"the batch views cover offsets below {at.cut}, but the archive ends at {at.archive or 0}", _FILE
            )
        if at.cut is not None and at.speed is not None and at.cut > at.speed:
            check.found(place, f"the batch views cover offsets below {at.cut}, but the speed layer is at {at.speed}", _DRIFT)
    return check


def check_ledger(ledger: Sequence[Mapping[str, int]]) -> Check:
    """In each partition received = counted + duplicate + quarantined + forgotten, and nothing is in flight."""
    sides = ("received", "counted", "duplicate", "quarantined", "forgotten")
    check = Check("ledger", ", ".join(f"{sum(row[side] for row in ledger):,} {side}" for side in sides))
    for row in ledger:
        place = f"partition {row['partition']}"
        if row["difference"]:
            numbers = ", ".join(f"{side} {row[side]:,}" for side in sides)
            check.found(place, f"the difference is {row['difference']:,} ({numbers})", _DRIFT)
        if row["in_flight"]:
            check.found(
                place,
                f"{row['in_flight']:,} offsets are in flight: a run took them over from the speed layer and is not live",
                "`make batch` brings them into the views",
            )
    return check


def check_recompute(
    cut: Mapping[int, int],
    archived: Mapping[int, int],
    received: Mapping[int, int],
    drifts: Sequence[Drift],
    rows: Mapping[str, Sequence[DifferingRow]],
) -> Check:
    """Below `cut` the archive has the records that the ledger has, and the views had the rows that follow from them.

    By partition: next offset, records of the archive, records of the ledger. By view: the first rows that differ.
    """
    checked = ", ".join(f"{drift.row_count:,} rows of {drift.view_name}" for drift in drifts)
    check = Check("recompute", f"{checked} from {sum(archived.values()):,} records below offsets {dict(cut)}")
    for partition in sorted(cut):
        if archived[partition] != received[partition]:
            check.found(
                f"partition {partition}, offsets below {cut[partition]}",
                f"the archive has {archived[partition]:,} records, the ledger {received[partition]:,}",
                _DRIFT,
            )
    for drift in drifts:
        if drift.verdict == "explained":
            check.notes.append(drift.text())
        if drift.verdict != "wrong":
            continue
        check.found(
            drift.view_name,
            f"{drift.rows_differ:,} of {drift.row_count:,} rows differ: {drift.unexplained:,} unexplained; "
            f"{drift.dropped:,} events dropped ({drift.allowed_drops:,} allowed) and {drift.repeated:,} repeats counted, "
            f"but the ledger has counted {drift.ledger_difference:+,}",
            _DRIFT,
        )
        for row in rows[drift.view_name]:
            check.found(f"{drift.view_name} {row.place()}", row.text(), _DRIFT)
        check.more += drift.rows_differ - len(rows[drift.view_name])
    return check


def _made(settings: Settings, name: str, make: Callable[[], Check], progress: Progress) -> Check:
    progress.step(f"checking {name}")
    try:
        return make()
    except (PySparkException, Py4JError) as error:
        reason = str(JobFailed.of(settings.spark_master, str(error)))
    except BraidError as error:
        reason = str(error)
    check = Check(name, "not done")
    check.found("the whole check", reason, "`make audit` again when that is settled")
    return check


def _positions(settings: Settings, archive: Archive) -> Check:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    with connect(settings, "batch") as connection:
        stored = positions(connection)
    extents: dict[int, Extent] = {}
    with_folder = archive.partitions()
    for partition in with_folder:
        # A damaged file does not say in which log it ends. The check of the archive names it.
        with suppress(ArchiveDamaged):
            extents[partition] = archive.extent(partition)
    archived = {partition: extent.end for partition, extent in extents.items()}
    lost = {
        reader: list(lost_positions(settings, admin, reader, held).values())
        for reader, held in (("the archiver", archived), ("the speed layer", stored))
    }
    # What is damaged was read.
    known = {"the archiver": set(with_folder), "the speed layer": stored.keys()}
    ends = log_ends(settings)
    unread = unread_partitions(settings, ends, known)
    shifts = {p: max(held[p].shift for held in (archived, stored) if p in held) for p in {*archived, *stored}}
    # What Kafka deleted behind the end of the archive shows in the offsets, unless there is no folder.
    missing = [
        gap
        for gap in open_gaps(settings, with_empty(extents, ends.keys() - with_folder), ends)
        if gap.partition not in archived or gap.first_offset < archived[gap.partition].next_offset
    ]
    return check_positions(_observe(settings, archive, shifts), lost, unread, missing)


def _observe(settings: Settings, archive: Archive, shifts: Mapping[int, int]) -> dict[int, Offsets]:
    """Kafka's own offsets are given as the readers count.

    A partition that the topic does not have, and of whose log nothing was read, is none: it was that of a topic that
    another has followed, which may get it one day.
    """
    before = log_ends(settings)
    ledger = {row["partition"]: row for row in _ledger(settings)}
    last = {partition: last_file(archive.listing(MASTER, partition)) for partition in archive.partitions()}
    files = {partition: file.next_offset if file else 0 for partition, file in last.items()}
    after = log_ends(settings)
    read = ({partition: row["next_offset"] for partition, row in ledger.items()}, files)
    nothing: dict[str, int] = {}
    return {
        partition: Offsets(
            low=before[partition].first_offset + shifts.get(partition, 0) if partition in before else None,
            speed=ledger.get(partition, nothing).get("next_offset"),
            cut=ledger.get(partition, nothing).get("batch_next_offset"),
            archive=files.get(partition),
            high=after[partition].high_watermark + shifts.get(partition, 0) if partition in after else None,
        )
        for partition in {*before, *ledger, *files}
        if partition in before or max(next_offsets.get(partition, 0) for next_offsets in read) > shifts.get(partition, 0)
    }


def _ledger(settings: Settings) -> list[dict[str, int]]:
    with connect(settings, "batch") as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM ledger ORDER BY partition").fetchall()


def _recompute(
    settings: Settings, archive: Archive, unusable: set[OffsetRange], say: Callable[[str], None], progress: Progress
) -> Check:
    def begin(connection: Connection) -> Run:
        cut = {partition: at.next_offset for partition, at in positions(connection).items()}
        require_reachable(settings, archive.extents(), cut)
        return begin_run(connection, "audit")

    with open_run(settings, begin) as (begun, let_through):
        progress.begun(begun.run_id)
        let_through()
        cut = {partition: point.next_offset for partition, point in begun.cut.items()}
        say(f"recompute: run {begun.run_id} below {sum(cut.values()):,} offsets, waiting for the archive")
        progress.step("waiting for the archive")
        archive.wait_for(cut, progress.advanced)
        if damaged := sorted({piece.file for piece in archive.slices(cut)} & unusable):
            path = damaged[0].path(settings.archive_root, MASTER)
            raise ArchiveDamaged.of(path, "no recompute can be right without it")
        # Rejects are counted; none is brought to the quarantine.
        with computed(settings, archive, begun.run_id, cut, {}, say, with_filters=False, progress=progress) as result:
            progress.step("comparing with what readers have")
            say("recompute: comparing every row with what readers had")
            with connect(settings, "batch") as connection:
                received = received_below_cut(connection, begun.run_id)
                drifts = compare(connection, begun.run_id, settings.dedupe_false_positive_rate)
                rows = {
                    drift.view_name: differing_rows(connection, begun.run_id, drift.view_name, LISTED) for drift in drifts
                }
                end_audit(connection, begun.run_id)
    with connect(settings, "batch") as connection:
        collect_garbage(connection, settings.keep_runs)
    if not drifts:
        # The ledger check names them.
        return Check("recompute", "not compared", notes=[_NOT_ALIKE])
    return check_recompute(cut, {p: result.received[p] for p in cut}, received, drifts, rows)
