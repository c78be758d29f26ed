"""One batch run: cut, compute, publish. Readers see the old views until the last step and the new ones from then on."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from threading import Thread

import polars as pl

from batch import job
from batch.archive import Archive
from batch.cut import require_one_log, require_reachable, rescue
from batch.progress import Progress
from batch.share import Describer, Files, rejects_of
from contract import logs
from contract.errors import BraidError, ForgettingUnfinished
from contract.forgotten import Said
from contract.losses import Loss
from contract.master import OffsetRange, without
from contract.settings import Settings
from serving.database import Connection, connect
from serving.drift import compare
from serving.forgotten import record_forgotten
from serving.handoff import (
    Kind,
    Run,
    add_surveyed,
    begin_run,
    collect_garbage,
    fail_run,
    positions,
    publish,
    surveyed_without,
    vacuum,
)

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
"""What asks a run to end: Ctrl-C and `docker stop`."""


@dataclass(frozen=True)
class Done:
    """What a published run was: `received`, `quarantined` and `forgotten` of the records that are new to the views, or of
    all if it was a full run; `counted` and `duplicate` of all on the days that it computed."""

    run_id: int
    kind: Kind
    days: int
    received: int
    counted: int
    duplicate: int
    quarantined: int
    seconds: float
    forgotten: int = 0

    def text(self) -> str:
        """For people, in one line."""
        return ", ".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in asdict(self).items()
        )


@dataclass(frozen=True)
class Result:
    """How the events of each computed day and partition were judged; events, rejects and forgotten records that are new, by
    partition, or all for a full run; what the archive rejects of these, range by range, which is read when it is asked for,
    once; what the files say is lost."""

    days: list[job.DayCounts] = field(default_factory=list)
    events: Counter[int] = field(default_factory=Counter)
    quarantined: Counter[int] = field(default_factory=Counter)
    rejects: Iterable[tuple[OffsetRange, pl.DataFrame]] = ()
    lost: list[Loss] = field(default_factory=list)
    forgotten: Counter[int] = field(default_factory=Counter)

    @property
    def received(self) -> Counter[int]:
        """Events, rejects and what is forgotten, by partition."""
        # guard: what is forgotten was received
        return self.events + self.quarantined + self.forgotten


def run(settings: Settings, say: Callable[[str], None], full: bool = False, progress: Progress | None = None) -> Done:
    """Compute every view anew for the days of all records that came since the last publication, or for all days; publish.

    A run that fails, or is interrupted, is marked so and leaves the published views as they are.
    """
    progress = progress or Progress()
    progress.step("beginning")
    started = time.monotonic()
    archive = Archive(settings)
    kind: Kind = "full" if full else "incremental"

    def begin(connection: Connection) -> Run:
        said = archive.said()
        require_forgotten(said)
        # A database that was made anew does not know it, and neither does an archive.
        # guard: an archive that was made anew knows what is forgotten
        if (known := record_forgotten(connection, said)) > said.version:
            raise ForgettingUnfinished.not_on_hdfs(known, said.version)
        extents = archive.extents()
        stands_at = positions(connection)
        committed = {partition: at.next_offset for partition, at in stands_at.items()}
        rescued = rescue(settings, extents, stands_at, say)
        taken_over = {partition: at.next_offset for partition, at in rescued.ends.items()}
        cut = {p: max(committed.get(p, 0), taken_over.get(p, 0)) for p in {*committed, *taken_over}}
        require_reachable(settings, extents, cut)
        archive_ends = {partition: extent.end for partition, extent in extents.items()} | dict(rescued.ends)
        return begin_run(connection, kind, taken_over, archive=archive_ends, going_on=rescued.going_on)

    with open_run(settings, begin) as (begun, let_through):
        progress.begun(begun.run_id)
        logs.bind(run_id=begun.run_id)
        let_through()
        # What the database knew when the run began was on HDFS before.
        # guard: a run begins when the files keep to what was said
        require_forgotten(archive.said())
        if begun.kind != kind:
            say(
                f"run {begun.run_id}: a view is new or has changed, or counted events are lost or forgotten, "
                "so all days are computed"
            )
        result = _compute_and_publish(settings, archive, begun, say, progress)
    progress.step("clearing up")
    with connect(settings, "batch") as connection:
        freed = collect_garbage(connection, settings.keep_runs)
        vacuum(connection)
    say(f"run {begun.run_id}: freed " + ", ".join(f"{count:,} {name}" for name, count in freed.items()))
    return Done(
        begun.run_id,
        begun.kind,
        len({day.day for day in result.days}),
        result.received.total(),
        sum(day.counted for day in result.days),
        sum(day.duplicate for day in result.days),
        result.quarantined.total(),
        round(time.monotonic() - started, 1),
        result.forgotten.total(),
    )


def _compute_and_publish(
    settings: Settings, archive: Archive, begun: Run, say: Callable[[str], None], progress: Progress
) -> Result:
    cut = {partition: point.next_offset for partition, point in begun.cut.items()}
    say(f"run {begun.run_id}: cut at {sum(cut.values()):,} offsets in {len(cut)} partitions, waiting for the archive")
    progress.step("waiting for the archive")
    # guard: a run waits for its cut
    archive.wait_for(cut, progress.advanced)
    require_one_log(settings, archive)
    is_full = begun.kind == "full"
    known = {} if is_full else {partition: point.next_offset for partition, point in begun.base.items()}
    with computed(settings, archive, begun.run_id, cut, known, say, with_filters=True, progress=progress) as result:
        progress.step("comparing with what readers have")
        before = {} if is_full else begun.base_received
        received = {partition: before.get(partition, 0) + result.received[partition] for partition in cut}
        with connect(settings, "batch") as connection:
            for drift in compare(connection, begun.run_id, settings.dedupe_false_positive_rate):
                say(f"run {begun.run_id}: {drift.text()}")
            days = {day.day for day in result.days}
            progress.step("publishing")
            publish(connection, begun.run_id, days, received, result.rejects, settings.topic, result.lost, result.forgotten)
        progress.published()
        say(f"run {begun.run_id}: published")
        return result


@contextmanager
def open_run(settings: Settings, begin: Callable[[Connection], Run]) -> Iterator[tuple[Run, Callable[[], None]]]:
    """The run that `begin` begins; it is marked failed if the block raises.

    Before the run has its id nobody could mark it failed, so Ctrl-C waits until the block calls what comes with the run.
    """
    with _interrupts_held_back() as let_through:
        # A run may last longer than a database connection, so each step opens its own.
        with connect(settings, "batch") as connection:
            begun = begin(connection)
        try:
            yield begun, let_through
        except BaseException as error:
            # Ctrl-C included: a run that is left open keeps its rows for ever. The first error is the one to report.
            # A second signal, as container engines send, must not break off the marking.
            with _interrupts_held_back(), suppress(BraidError), connect(settings, "batch") as connection:
                fail_run(connection, begun.run_id, _one_line(error))
            raise


@contextmanager
def _interrupts_held_back() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits until the block calls what is yielded: that raises it. If the block ends without, an error is its end."""
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda caught, _: received.append(caught)) for number in INTERRUPTS}

    def let_through() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            received.clear()
            raise KeyboardInterrupt

    try:
        yield let_through
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def require_forgotten(said: Said) -> None:
    """ForgettingUnfinished if files of the archive may still hold what was said to be forgotten."""
    for one in said.unfinished:
        raise ForgettingUnfinished.before_run(one.number, one.said_at)


@contextmanager
def computed(
    settings: Settings,
    archive: Archive,
    run_id: int,
    cut: Mapping[int, int],
    known: Mapping[int, int],
    say: Callable[[str], None],
    with_filters: bool,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Write the run's rows of all days that an event from offsets `known` up to `cut` is on, whatever else is on them.

    The days' filters are written too, if the run is to be published. Records are counted apart from how the kernel judges
    them, or the ledger would prove nothing.
    """
    progress = progress or Progress()
    slices = archive.slices(cut)
    # Listed together: a merge that replaces files later takes both of a pair away.
    rejected = frozenset(piece.file for piece in archive.quarantined(slices))
    new = without(slices, _below(known))
    if not new:
        yield Result()
        return
    say(f"run {run_id}: reading {len(new)} of {len(slices)} files with Spark at {settings.spark_master}")
    progress.step("connecting to Spark")
    spark = job.context(settings)
    # Spark takes a second to end. The block need not wait for that, but the next run must.
    stopping = Thread(target=spark.stop, daemon=True)
    try:
        try:
            with progress.on_spark(spark):
                progress.step("reading what is new")
                found = job.describe(spark, Describer(settings, rejected), new, progress.planned)
                days = sorted({day for one in found for day in one.days})
                with connect(settings, "batch") as connection:
                    add_surveyed(connection, ((one.offsets, one.days) for one in found))
                    # guard: old events of a dirty day
                    needed = without(slices, surveyed_without(connection, days))
                say(f"run {run_id}: computing {len(days)} days from {len({piece.file for piece in needed})} files")
                progress.step("computing")
                counts = job.compute(spark, settings, run_id, needed, days, with_filters, progress.planned)
        finally:
            stopping.start()
        events, rejects, forgotten = Counter[int](), Counter[int](), Counter[int]()
        for one in found:
            events[one.offsets.partition] += one.events
            rejects[one.offsets.partition] += one.rejects
            forgotten[one.offsets.partition] += one.forgotten
        # Where the driver is there is no folder of Spark's.
        lost = [loss for one in found for loss in one.lost]
        yield Result(counts, events, rejects, rejects_of(Files(settings, None), found), lost, forgotten)
    finally:
        # An interrupt may come before it has begun.
        if stopping.is_alive():
            stopping.join()


def _below(offsets: Mapping[int, int]) -> list[OffsetRange]:
    return [OffsetRange(partition, 0, next_offset) for partition, next_offset in offsets.items()]


def _one_line(error: BaseException) -> str:
    # A second signal may end the block before it has heard of the first.
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        return "interrupted"
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, BraidError) else f"{type(error).__name__}: {text}"
