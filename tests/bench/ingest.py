"""How fast events come into Kafka, and from there to HDFS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from hdfs import InsecureClient

from ingest.topics import ensure_topic
from tests.bench.place import Place
from tests.bench.report import Row, throughput_rows
from tests.bench.rounds import Sample, Spread
from tests.bench.usage import Used

_LINES = _RECORDS = 2_000_000
_ARCHIVED_EVENTS = 3_000_000
_SEED = 3
_LOOK_S = 0.35
_KAFKA_TOOLS = ("run", "--rm", "-T", "--no-deps", "rivals", "java", "-cp", "/opt/braid/rivals/kafka/*")


def produce(place: Place, rounds: int) -> Iterator[Row]:
    """From an access log into Kafka, one process, acks=all and idempotent, against Kafka's own ProducerPerformance."""
    place.containers.stop("supervisor")
    place.containers.stop("archiver")
    # Topics of their own: what one sends is no event, and the other's events are years older than what other cases count.
    ours, limit = (replace(place.stack.settings, topic=topic) for topic in ("bench-produce", "bench-limit"))
    ensure_topic(ours)
    ensure_topic(limit)

    def braid() -> Sample:
        place.say(f"sending {_LINES:,} lines of an access log")
        with place.containers.metered() as used:
            said = place.inside("tests", "python", "-m", "tests.bench.inside.produce", str(_LINES), str(_SEED), ours.topic)
        assert (said["sent"], said["unparsed"]) == (_LINES, said["no_requests"]), said
        return Sample(_LINES, said["seconds"], {"tests": said["cpu_s"], **_of(used, "kafka")})

    def kafka() -> Sample:
        place.say(f"sending {_RECORDS:,} records with ProducerPerformance")
        settings = ("acks=all", "enable.idempotence=true", "compression.type=lz4", "linger.ms=20", "batch.size=262144")
        with place.containers.metered() as used:
            said = place.stack.compose(
                *(*_KAFKA_TOOLS, "org.apache.kafka.tools.ProducerPerformance"),
                *("--topic", limit.topic, "--num-records", str(_RECORDS), "--record-size", "250"),
                *("--throughput", "-1", "--producer-props", "bootstrap.servers=kafka:29092", *settings),
            )
        per_s = float(re.findall(r"([\d.]+) records/sec", said)[-1])
        return Sample(_RECORDS, _RECORDS / per_s, _of(used, "kafka", "rivals"))

    samples = place.in_turn({"Braid": braid}, {"L3 ProducerPerformance": kafka}, rounds)
    yield from throughput_rows("produce from an access log", samples, 150_000, {})
    place.containers.start("supervisor")
    place.containers.start("archiver")


def archive(place: Place, rounds: int) -> Iterator[Row]:
    """From Kafka to Parquet on HDFS, decoder included, against Kafka's own ConsumerPerformance."""
    settings = place.stack.settings
    place.containers.stop("supervisor")
    records = place.fill(_ARCHIVED_EVENTS, _SEED)
    # The last file of a partition is written when it is old enough, not when it is full.
    full_files = records - settings.topic_partitions * settings.archive_flush_rows
    hdfs = InsecureClient(settings.webhdfs_url, user="braid")

    def braid() -> Sample:
        place.say("archiving")
        place.containers.stop("archiver")
        hdfs.delete(settings.archive_root, recursive=True)
        place.containers.start("archiver")
        return place.sample(place.archived, full_files, _LOOK_S)

    def kafka() -> Sample:
        place.say("reading as many records with ConsumerPerformance")
        place.containers.stop("archiver")
        with place.containers.metered() as used:
            said = place.stack.compose(
                *(*_KAFKA_TOOLS, "org.apache.kafka.tools.ConsumerPerformance"),
                *("--bootstrap-server", "kafka:29092", "--topic", settings.topic, "--num-records", str(records)),
            )
        fields = said.strip().splitlines()[-1].split(", ")
        return Sample(int(fields[4]), int(fields[4]) / float(fields[5]), _of(used, "kafka", "rivals"))

    samples = place.in_turn({"Braid": braid}, {"L3 ConsumerPerformance": kafka}, rounds)
    place.containers.start("archiver")
    place.containers.start("supervisor")
    yield from throughput_rows("archive to HDFS", samples, 250_000, {})


def replay(place: Place, rounds: int) -> Iterator[Row]:
    """From HDFS into another topic at SPEED=max, each event once, from the first that is read to the last acknowledged."""
    if not place.records():
        place.fill(_ARCHIVED_EVENTS, _SEED)
    place.settle()
    # From then on it is known exactly how many events there are.
    place.batch_run_s()
    events = place.truth()["counted"]
    ((first, last),) = place.stack.ask("SELECT min(bucket)::date, max(bucket)::date FROM site_traffic")
    target = replace(place.stack.settings, topic="bench-replay")
    ensure_topic(target)
    events_per_s = []
    for _ in range(rounds):
        place.say(f"replaying {events:,} events")
        words = (f"FROM={first}", f"TO={last}", f"TOPIC={target.topic}", "FORMAT=json")
        said = json.loads(place.stack.run("make", "--silent", "replay", *words).stdout)
        assert said["events"] == events, f"{said['events']:,} of {events:,} events were sent"
        events_per_s.append(events / said["seconds"])
    value = Spread.of(events_per_s)
    yield Row("replay of history", value, "events/s", ">= 100,000", value.median >= 100_000)


def _of(used: Used, *services: str) -> dict[str, float]:
    return {service: used.cpu_s.get(service, 0.0) for service in services}
