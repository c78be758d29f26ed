"""How fast the speed layer is when it has work."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.place import Place
from tests.bench.report import Row, throughput_rows
from tests.bench.rounds import Sample, in_turn

_EVENTS = 2_000_000
_SEED = 7


def drain(place: Place, rounds: int) -> Iterator[Row]:
    """The speed layer, drain of a full topic: events/s into merged SQL, against one loop without Storm.

    Everything on: strict decoder, removal of repeats, both views; the ledger must hold every record at the end.
    """
    records = place.fill(_EVENTS, _SEED)

    def braid() -> Sample:
        place.say("draining through Storm")
        place.containers.stop("supervisor")
        place.empty_views()
        place.containers.start("supervisor")
        sample = place.sample(place.counted, records)
        assert place.truth()["received"] == records
        return sample

    def loop() -> Sample:
        place.say("draining in one loop without Storm")
        place.containers.stop("supervisor")
        place.empty_views()
        place.stack.compose("run", "--detach", "--rm", "--no-deps", "--name", "bench-loop", "tests", "python", "-m", _LOOP)
        sample = place.sample(place.counted, records)
        assert place.truth()["received"] == records
        return sample

    samples = in_turn({"Braid": braid, "L1 one loop": loop}, rounds)
    yield from throughput_rows(
        "speed layer, drain", samples, target_events_per_s=400_000, target_ratios={"L1 one loop": 1.0}
    )


_LOOP = "tests.bench.rivals.loop"
