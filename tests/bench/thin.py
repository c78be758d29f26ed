"""How fast batch runs are where history is long and thin: some three years, a thousand events on each day."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.batch import FEW_DAYS_AGO, FEW_EVENTS, one_process, run
from tests.bench.place import Place
from tests.bench.report import Row
from tests.bench.rounds import Sample, Spread

_DAYS, _EVENTS_A_DAY, _NEW_A_DAY = 1_070, 1_093, 10
_SEED = 7
_TARGET_S, _TARGET_MS_A_DAY, _TARGET_RATIO = 24.0, 3.0, 1.2


def thin(place: Place, rounds: int) -> Iterator[Row]:
    """A full recompute of 1,070 thin days, and runs after some new events on each of them or on one.

    What a day costs is what a full run takes longer than one of the same round that computes a single day, by days.
    """
    if place.records():
        place.start_anew()
    place.thin_history(_DAYS, _EVENTS_A_DAY, _SEED)

    seeds = iter(range(_SEED + _DAYS, 1 << 30, _DAYS))

    def touching_all() -> Sample:
        place.thin_history(_DAYS, _NEW_A_DAY, next(seeds))
        return run(place)

    def touching_one() -> Sample:
        place.send(FEW_EVENTS, FEW_DAYS_AGO, FEW_DAYS_AGO)
        return run(place)

    # The first one takes over what the speed layer has counted, all at once.
    run(place, "--full")
    samples = place.in_turn(
        {"full": lambda: run(place, "--full"), "all": touching_all, "one": touching_one},
        {"L2 DuckDB": lambda: one_process(place, "duckdb")},
        rounds,
    )
    full, every, one = (samples[name] for name in ("full", "all", "one"))

    def seconds(of: list[Sample]) -> Spread:
        return Spread.of([sample.seconds for sample in of])

    whole = seconds(full)
    yield Row(f"batch, full, {_DAYS:,} thin days", whole, "s", f"<= {_TARGET_S:g}", whole.median <= _TARGET_S)
    yield Row("batch, new events on one thin day", seconds(one), "s")
    a_day = Spread.of([1e3 * (a.seconds - b.seconds) / _DAYS for a, b in zip(full, one, strict=True)])
    yield Row("batch, a thin day of history", a_day, "ms", f"<= {_TARGET_MS_A_DAY:g}", a_day.median <= _TARGET_MS_A_DAY)
    yield Row(f"batch, new events on {_DAYS:,} thin days", seconds(every), "s")
    times = Spread.of([a.seconds / b.seconds for a, b in zip(every, full, strict=True)])
    yield Row("the same, to a full run", times, "x", f"<= {_TARGET_RATIO:g}", times.median <= _TARGET_RATIO)
    if rivals := samples.get("L2 DuckDB"):
        yield Row("the same views in DuckDB from files", seconds(rivals), "s")
