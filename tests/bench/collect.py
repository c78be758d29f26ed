"""How fast the collector takes events over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ingest.topics import ensure_topic
from tests.bench.place import Place
from tests.bench.report import Row, throughput_rows
from tests.bench.rounds import Sample, Spread

_SECONDS = 10
_TARGET_PER_S = 15_000
_MOST_MS = 50


def collect(place: Place, rounds: int) -> Iterator[Row]:
    """Batches of fifty over HTTP to one core, acknowledged by Kafka, against a bare uvicorn; then at half of the target."""
    place.containers.stop("supervisor")
    place.containers.stop("archiver")
    topic = replace(place.stack.settings, topic="bench-collect")
    ensure_topic(topic)

    def ask(kind: str, rate: int) -> dict[str, float]:
        arguments = ("tests.bench.inside.collect", kind, topic.topic, str(rate), str(_SECONDS))
        return place.inside("tests", "python", "-m", *arguments)

    def sample(kind: str) -> Sample:
        place.say(f"batches of fifty to the {kind}")
        said = ask(kind, 0)
        return Sample(int(said["events"]), said["seconds"], {"tests": said["cpu_s"]})

    samples = place.in_turn({"Braid": lambda: sample("collector")}, {"bare uvicorn": lambda: sample("echo")}, rounds)
    yield from throughput_rows("collect over HTTP, one core", samples, _TARGET_PER_S, {})
    half = [ask("collector", _TARGET_PER_S // 2) for _ in range(rounds)]
    for name, unit, least in (("p99_ms", "ms", _MOST_MS), ("p50_ms", "ms", None), ("memory_mb", "MB", None)):
        value = Spread.of([said[name] for said in half])
        what = f"the same at {_TARGET_PER_S // 2:,}/s, {name.partition('_')[0]}"
        yield Row(what, value, unit, f"<= {least}" if least else "", value.median <= least if least else None)
    place.containers.start("supervisor")
    place.containers.start("archiver")
