"""One batch run: cut, compute, publish. Readers see the old views until the last step and the new ones from then on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial

import polars as pl

from batch import job
from batch.archive import Archive
from contract.aggregate import columns_read
from contract.errors import BraidError
from contract.event import REJECT_SCHEMA
from contract.master import MASTER, QUARANTINE, Slice
from contract.settings import Settings
from serving.database import connect
from serving.handoff import begin_run, collect_garbage, fail_run, positions, publish

_KIND = "full"


@dataclass(frozen=True)
class Done:
    """What a published run was: records below its cut, and how they were judged."""

    run_id: int
    kind: str
    days: int
    received: int
    counted: int
    duplicate: int
    quarantined: int
    seconds: float

    def text(self) -> str:
        """For people, in one line."""
        return ", ".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in asdict(self).items()
        )


def run(settings: Settings, say: Callable[[str], None]) -> Done:
    """Recompute every view from the master dataset and publish it.

    A run that fails, or is interrupted, is marked so and leaves the published views as they are.
    """
    started = time.monotonic()
    archive = Archive(settings)
    # A run may last longer than a database connection, so each step opens its own.
    with connect(settings, "batch") as connection:
        rescued = _rescue(settings, archive, positions(connection, settings.topic_partitions), say)
        begun = begin_run(connection, _KIND, rescued)
    cut = {partition: point.next_offset for partition, point in begun.cut.items()}
    say(f"run {begun.run_id}: cut at {sum(cut.values()):,} offsets in {len(cut)} partitions, waiting for the archive")
    try:
        archive.wait_for(cut)
        slices = archive.slices(cut)
        say(f"run {begun.run_id}: reading {len(slices)} files with Spark at {settings.spark_master}")
        days, rejects = _compute(settings, archive, begun.run_id, slices)
        received = Counter(dict.fromkeys(cut, 0))
        for day in days:
            received[day.partition] += day.counted + day.duplicate
        received.update(rejects["partition"].to_list())
        with connect(settings, "batch") as connection:
            publish(connection, begun.run_id, {day.day for day in days}, received, rejects, settings.topic)
    except BaseException as error:
        # Ctrl-C included: a run that is left open keeps its rows for ever. The first error is the one to report.
        with suppress(BraidError), connect(settings, "batch") as connection:
            fail_run(connection, begun.run_id, _one_line(error))
        raise
    with connect(settings, "batch") as connection:
        freed = collect_garbage(connection, settings.keep_runs)
    say(f"run {begun.run_id}: published; freed " + ", ".join(f"{count:,} {name}" for name, count in freed.items()))
    return Done(
        begun.run_id,
        _KIND,
        len({day.day for day in days}),
        received.total(),
        sum(day.counted for day in days),
        sum(day.duplicate for day in days),
        len(rejects),
        round(time.monotonic() - started, 1),
    )


def _rescue(
    settings: Settings, archive: Archive, committed: Mapping[int, int], say: Callable[[str], None]
) -> Mapping[int, int] | None:
    """The archive's ends if the run must cut there, because the speed layer is too far behind to be waited for."""
    archived = archive.next_offsets()
    behind = sum(max(0, archived[partition] - offset) for partition, offset in committed.items())
    if behind < settings.rescue_offsets:
        return None
    say(f"the speed layer is {behind:,} offsets behind the archive: this run takes them over")
    return archived


def _compute(
    settings: Settings, archive: Archive, run_id: int, slices: Sequence[Slice]
) -> tuple[list[job.DayCounts], pl.DataFrame]:
    """The run's rows are written; returns how each day's events were judged, and every reject of the slices."""
    rejects = pl.DataFrame(schema=REJECT_SCHEMA)
    if not slices:
        return [], rejects
    spark = job.session(settings)
    try:
        events = job.read_slices(spark, slices, partial(archive.url, dataset=MASTER), columns_read())
        days = job.compute(events, settings, run_id)
        if quarantined := archive.quarantined(slices):
            rows = job.read_slices(spark, quarantined, partial(archive.url, dataset=QUARANTINE), list(REJECT_SCHEMA))
            rejects = pl.DataFrame(pl.from_arrow(rows.toArrow())).cast(REJECT_SCHEMA)
        return days, rejects
    finally:
        spark.stop()


def _one_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, BraidError) else f"{type(error).__name__}: {text}"
