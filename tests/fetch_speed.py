"""CPU time of taking and decoding a record, either way that contract/fetcher.py has: `python -m tests.fetch_speed`.

Both in turn, from librdkafka's broker in memory, which has a process of its own. Commits are not in it, nor is how fast a
broker answers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import islice

from confluent_kafka import Producer, TopicPartition

from contract.event import decode_records
from contract.fetcher import Fetcher, fetcher
from contract.records import Records
from ingest.simulate import events
from tests.fixtures.kafka_records import consumer_of

# As many as that broker keeps of a partition.
_RECORDS, _RANGE, _TIMES, _ROUNDS = 50_000, 25_000, 5, 4
_TOPIC = "pageviews"


def serve() -> None:
    """Say where the broker is, and be there until nobody listens any more."""
    producer = Producer(
        {"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0, "linger.ms": 20, "compression.type": "lz4"}
    )
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    for key, value in islice(events(1, lambda: datetime.now(UTC), "speed"), _RECORDS):
        producer.produce(_TOPIC, value, key=key, partition=0)
    assert producer.flush(60) == 0
    print(f"{broker.host}:{broker.port}", flush=True)
    sys.stdin.read()


def cpu_us_per_record(by: Fetcher, consumer: object) -> tuple[float, float]:
    """Of the thread that takes and decodes, and of the whole process, librdkafka's threads among it."""
    records, taken = Records(), 0
    thread_s, process_s = time.thread_time(), time.process_time()
    for _ in range(_TIMES):
        consumer.assign([TopicPartition(_TOPIC, 0, 0)])  # type: ignore[attr-defined]
        for _ in range(_RECORDS // _RANGE):
            while len(records) < _RANGE:
                for _, piece in by.fetch(0.2, _RANGE - len(records)).records:
                    records.add(piece)
            decode_records(0, records.take(_RANGE))
            taken += _RANGE
    return (time.thread_time() - thread_s) / taken * 1e6, (time.process_time() - process_s) / taken * 1e6


def main() -> None:
    """Print a line for each round."""
    broker = subprocess.Popen([sys.executable, "-m", "tests.fetch_speed", "serve"], stdin=-1, stdout=-1, text=True)
    assert broker.stdout is not None
    bootstrap = broker.stdout.readline().strip()
    one, other = consumer_of(bootstrap), consumer_of(bootstrap)
    candidates = {"own call": (Fetcher(one), one), "from the queue": (fetcher(other, print), other)}
    for by, consumer in candidates.values():
        # The first time loads what is compiled.
        cpu_us_per_record(by, consumer)
    for number in range(_ROUNDS):
        for name in list(candidates)[:: 1 if number % 2 == 0 else -1]:
            thread_us, process_us = cpu_us_per_record(*candidates[name])
            print(f"{thread_us:5.2f} us, with librdkafka's threads {process_us:5.2f} us  {name}", flush=True)
    for by, _ in candidates.values():
        by.close()
    broker.communicate()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
