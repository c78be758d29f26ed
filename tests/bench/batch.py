"""How fast batch runs are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.bench.place import Place
from tests.bench.report import Row, throughput_rows
from tests.bench.rounds import Sample, Spread

_EVENTS = 8_000_000
_SEED = 5
# So few that a run's time is its start and its end; all of one day, which none of the others is on.
FEW_EVENTS, FEW_DAYS_AGO = 1_000, 20
_TARGET = 1_000_000
_FEW = "few new events"
_NOTHING_NEW = "nothing new"


def run(place: Place, *arguments: str) -> Sample:
    """A batch run, after which the views have each event that the ledger counts."""
    records = place.records()
    with place.containers.metered() as used:
        seconds = place.batch_run_s(*arguments)
    counted = place.stack.ask("SELECT sum(counted)::bigint FROM ledger")[0][0]
    views = place.stack.ask("SELECT sum(views)::bigint FROM site_traffic")[0][0]
    assert views == counted, f"{views:,} views of {counted:,} events"
    return Sample(records, seconds, used.cpu_s, used.memory_bytes)


def one_process(place: Place, engine: str) -> Sample:
    """The same views from the same files in one process."""
    place.say(f"the same with {engine} in one process")
    said = place.inside("tests", "python", "-m", "tests.bench.rivals.one_process", engine)
    counted = place.stack.ask("SELECT sum(counted)::bigint FROM ledger")[0][0]
    assert said["views"] == counted, f"{said['views']:,} views of {counted:,} events"
    return Sample(place.records(), said["seconds"], {"tests": said["cpu_s"]})


def full(place: Place, rounds: int) -> Iterator[Row]:
    """A full recompute from HDFS with exact removal of repeats, start-up included, against Spark alone and one process.

    Steady is what a run does in the time that it takes longer than a run of the same round with next to nothing to compute.
    """
    place.start_anew()

    def few() -> Sample:
        sent = place.send(FEW_EVENTS, FEW_DAYS_AGO, FEW_DAYS_AGO)
        return replace(run(place), events=sent)

    def native() -> Sample:
        place.say("the same with Spark's own aggregates")
        with place.containers.metered() as used:
            said = place.inside("tests", "python", "-m", "tests.bench.rivals.spark_native")
        counted = place.stack.ask("SELECT sum(counted)::bigint FROM ledger")[0][0]
        assert set(said["views"].values()) == {counted}, f"{said['views']} views of {counted:,} events"
        return Sample(place.records(), said["seconds"], used.cpu_s)

    rivals = {
        "R8 Spark's aggregates": native,
        "L2 DuckDB": lambda: one_process(place, "duckdb"),
        "L2 Polars": lambda: one_process(place, "polars"),
    }
    place.fill(_EVENTS, _SEED)
    place.settle()
    samples = place.in_turn(
        {"Braid": lambda: run(place, "--full"), _FEW: few, _NOTHING_NEW: lambda: run(place)}, rivals, rounds
    )
    starts = samples.pop(_FEW)
    # Such a run does not even start Spark.
    yield Row("batch, nothing new", Spread.of([sample.seconds for sample in samples.pop(_NOTHING_NEW)]), "s")
    targets = {"R8 Spark's aggregates": 3.0, "L2 DuckDB": 0.33, "L2 Polars": 0.33}
    yield Row(f"batch, {FEW_EVENTS:,} events of a day", Spread.of([sample.seconds for sample in starts]), "s")
    steady = [_more(whole, start) for whole, start in zip(samples["Braid"], starts, strict=True)]
    yield from throughput_rows("batch, full recompute, steady", {"Braid": steady}, _TARGET, {})
    yield from throughput_rows("batch, full recompute, whole", samples, _TARGET, targets)
    gigabytes = Spread.of([sum(sample.memory_bytes.values()) / 1e9 for sample in samples["Braid"]])
    yield Row("memory, while a batch run works", gigabytes, "GB", "<= 8", gigabytes.median <= 8)


def _more(of: Sample, than: Sample) -> Sample:
    """What one of two samples has that the other has not."""
    cpu_s = {service: of.cpu_s[service] - than.cpu_s.get(service, 0.0) for service in of.cpu_s}
    return Sample(of.events - than.events, of.seconds - than.seconds, cpu_s)
