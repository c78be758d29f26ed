"""One batch run: cut, compute, publish. Readers see the old views until the last step and the new ones from then on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import psycopg
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from serving.database import connect
from serving.handoff import Run, begin_run, collect_garbage, fail_run, positions, publish, write_rejects

from batch import job
from batch.archive import Archive
from contract.errors import BraidError
from contract.event import REJECT_SCHEMA
from contract.settings import Settings

_KIND = "full"


def run(settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """Recompute every view from the master dataset and publish it; returns what was done, with numbers.

    A run that fails, or is interrupted, is marked so and leaves the published views as they are.
    """
    started = time.monotonic()
    archive = Archive(settings)
    with connect(settings, "batch") as connection:
        begun = begin_run(connection, _KIND, _rescue(settings, archive, connection, say))
        cut = {partition: point.next_offset for partition, point in begun.cut.items()}
        say(f"run {begun.run_id}: cut at {sum(cut.values()):,} offsets in {len(cut)} partitions, waiting for the archive")
        try:
            archive.wait_for(cut)
            counts = _compute(settings, archive, begun, cut, connection, say)
        except BaseException as error:
            # Ctrl-C included: the run must not stay open, or its rows are kept for ever.
            fail_run(connection, begun.run_id, _one_line(error))
            raise
        freed = collect_garbage(connection, settings.keep_runs)
    say(f"run {begun.run_id}: published; {freed} rows of earlier runs and absorbed epochs deleted")
    return {
        "run_id": begun.run_id,
        "kind": _KIND,
        "offsets": sum(cut.values()),
        **counts,
        "seconds": round(time.monotonic() - started, 1),
    }


def _rescue(
    settings: Settings, archive: Archive, connection: psycopg.Connection[Any], say: Callable[[str], None]
) -> Mapping[int, int] | None:
    """The archive's ends if the run must cut there, because the speed layer is too far behind to be waited for."""
    committed, archived = positions(connection), archive.next_offsets()
    behind = sum(max(0, archived[partition] - offset) for partition, offset in committed.items())
    if behind < settings.rescue_offsets:
        return None
    say(f"the speed layer is {behind:,} offsets behind the archive: this run takes them over")
    return archived


def _compute(
    settings: Settings,
    archive: Archive,
    begun: Run,
    cut: Mapping[int, int],
    connection: psycopg.Connection[Any],
    say: Callable[[str], None],
) -> dict[str, int]:
    slices = archive.slices(cut)
    say(f"run {begun.run_id}: reading {len(slices)} files with Spark at {settings.spark_master}")
    spark = job.session(settings)
    try:
        days = job.compute(job.read_slices(spark, slices, archive.url), begun.run_id) if slices else []
        rejects = _rejects(spark, archive, cut)
    finally:
        spark.stop()
    received = Counter(dict.fromkeys(cut, 0))
    for day in days:
        received[day.partition] += day.counted + day.duplicate
    received.update(rejects["partition"].to_list())
    write_rejects(connection, settings.topic, rejects)
    publish(connection, begun.run_id, {day.day for day in days}, received)
    return {
        "days": len({day.day for day in days}),
        "received": received.total(),
        "counted": sum(day.counted for day in days),
        "duplicate": sum(day.duplicate for day in days),
        "quarantined": len(rejects),
    }


def _rejects(spark: SparkSession, archive: Archive, cut: Mapping[int, int]) -> pl.DataFrame:
    """Every archived reject below the cut, once; the database may lack those that the speed layer never read."""
    urls = archive.quarantined(cut)
    if not urls:
        return pl.DataFrame(schema=REJECT_SCHEMA)
    ends = F.create_map(*(F.lit(item) for pair in cut.items() for item in pair))
    rejects = (
        spark.read.parquet(*urls).where(F.col("offset") < ends[F.col("partition")]).dropDuplicates(["partition", "offset"])
    )
    return pl.DataFrame(pl.from_arrow(rejects.select(*REJECT_SCHEMA).toArrow())).cast(REJECT_SCHEMA)


def _one_line(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return (
        " ".join(str(error).split())[:500]
        if isinstance(error, BraidError)
        else f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    )
