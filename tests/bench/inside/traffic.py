"""Run in the stack: sends simulated events at a steady rate until its input ends; cheap enough for 100,000 a second.

None is late, or 2 % by up to 3 days and 0.1 % by up to as many as are asked for.
"""

from __future__ import annotations

import random
import select
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import islice

from confluent_kafka import Producer

from contract.settings import Settings
from ingest.sender import connect
from ingest.simulate import Shares, events

_DIFFERENT = 50_000
_OLD = 0.001
_TICK_S = 0.02
_ID = b'{"event_id":"'


def main() -> None:
    """Arguments: events a second, seed, days. Each event is one of many with an id of its own; 1 % come twice."""
    rate, seed, old_days = map(int, sys.argv[1:])
    producer = connect(Settings.from_env())
    now, chance = datetime.now(UTC), random.Random(seed)

    def moment() -> datetime:
        is_old = chance.random() < _OLD
        return now - timedelta(days=chance.uniform(0, old_days)) if is_old else now

    shares = Shares(late=Shares.late if old_days else 0, malformed=0)
    records = list(islice(events(seed, moment, "bench", shares=shares), _DIFFERENT))
    print("ready", flush=True)
    sent, started_s = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], _TICK_S)[0]:
        due = int((time.monotonic() - started_s) * rate)
        _send(producer, records, sent, due)
        sent = due
    producer.flush()


def _send(producer: Producer, records: list[tuple[str, bytes]], first: int, after: int) -> None:
    topic = Settings.from_env().topic
    for number in range(first, after):
        key, value = records[number % _DIFFERENT]
        while True:
            try:
                producer.produce(topic, _ID + b"%d." % (number // _DIFFERENT) + value[len(_ID) :], key)
                break
            except BufferError:
                producer.poll(0.01)
    producer.poll(0)


if __name__ == "__main__":
    main()
