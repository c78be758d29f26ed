"""How fast the speed layer is when it has work."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tests.bench import streams
from tests.bench.place import Place
from tests.bench.report import Row, throughput_rows
from tests.bench.rounds import Sample, Spread

_EVENTS = 3_000_000
_SEED = 7


def drain(place: Place, rounds: int) -> Iterator[Row]:
    """The speed layer, drain of a full topic: events/s into merged SQL, against one loop, Spark, Flink, a naive topology.

    Everything on: strict decoder, removal of repeats, all views; the ledger must hold every record at the end, and every
    event but the few that the Bloom filters may drop.
    """
    place.start_anew()
    place.fill(_EVENTS, _SEED)
    records, events = place.settle(), place.exact_events()

    def judge(sample: Sample) -> Sample:
        truth, expected_drops = place.truth(), events * place.stack.settings.dedupe_false_positive_rate
        assert truth["received"] == records, f"the ledger holds {truth['received']:,} of {records:,} records"
        # As far from what is expected as `make audit` allows.
        allowed_drops = expected_drops + 4 * math.sqrt(expected_drops) + 3
        dropped = events - truth["counted"]
        assert 0 <= dropped <= allowed_drops, f"counted {truth['counted']:,} of {events:,} events"
        return sample

    def braid() -> Sample:
        place.say("draining through Storm")
        place.containers.stop("supervisor")
        place.empty_views()
        place.containers.start("supervisor")
        return judge(place.sample(place.counted, records))

    def loop() -> Sample:
        place.say("draining in one loop without Storm")
        place.containers.stop("supervisor")
        place.empty_views()
        place.stack.compose("run", "--detach", "--rm", "--no-deps", "--name", "bench-loop", "tests", "python", "-m", _LOOP)
        return judge(place.sample(place.counted, records))

    rivals = {
        "L1 one loop": loop,
        streams.STRUCTURED_STREAMING.title: lambda: streams.structured_streaming(place, records, events),
        streams.FLINK.title: lambda: streams.flink(place, records, events),
        streams.NAIVE.title: lambda: streams.naive(place),
    }
    samples = place.in_turn({"Braid": braid}, rivals, rounds)
    place.containers.start("supervisor")
    targets = dict(zip(rivals, (1.0, 3.0, 1.5, 30.0), strict=True))
    yield from throughput_rows("speed layer, drain", samples, 400_000, targets)
    gigabytes = Spread.of([sum(sample.memory_bytes.values()) / 1e9 for sample in samples["Braid"]])
    yield Row("memory, while draining", gigabytes, "GB", "<= 8", gigabytes.median <= 8)


_LOOP = "tests.bench.rivals.loop"
