"""How long after it was sent an event shows in SQL, and what the stack uses when nothing is sent."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from confluent_kafka import Producer

from contract.event import Event, encode
from serving.database import connect
from tests.bench.place import Place
from tests.bench.report import Row
from tests.bench.rounds import Spread
from tests.fixtures.stack import ROOT

_RATES = {2_000: (50, 150), 100_000: (100, 300)}
"""Events a second, and the targets for the median and the 99th percentile in milliseconds."""
_WHILE_BATCH_MS = 1_000
_CANARIES_PER_S = 50
_ROUND_S = 20
_WARM_S = 5
_CALM_S = 60
_REST_S = 30
_LEAST_TRAFFIC = 0.98


def freshness(place: Place, rounds: int) -> Iterator[Row]:
    """From sending an event until SQL shows it, under traffic: canaries of a connection of their own, sent on schedule."""
    for rate, (median_ms, worst_ms) in _RATES.items():
        place.settle()
        place.say(f"canaries at {rate:,} events/s")
        with traffic(place, rate) as events_per_s:
            time.sleep(_WARM_S)
            delays_ms = [delays_ms_of(place) for _ in range(rounds)]
            sent = _sent_row(f"sent at {rate:,}/s", events_per_s(), rate)
        yield sent
        for fraction, limit_ms in ((50, median_ms), (99, worst_ms)):
            yield _delay_row(f"freshness p{fraction}, {rate:,}/s", delays_ms, fraction, limit_ms, sent)
    rate = min(_RATES)
    place.settle()
    with traffic(place, rate) as events_per_s:
        delays_ms = []
        for _ in range(rounds):
            place.say(f"canaries at {rate:,} events/s while a full batch run works")
            command = ["compose/engine", "compose", "run", "--rm", "-T", "--no-deps", "batch", "python", "-m", "batch"]
            with subprocess.Popen(
                [*command, "run", "--full"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as run:
                delays_ms.append(delays_ms_of(place))
                said, _ = run.communicate()
            assert run.returncode == 0, said
        sent = _sent_row("sent, batch running", events_per_s(), rate)
    yield sent
    yield _delay_row("freshness p99, batch running", delays_ms, 99, _WHILE_BATCH_MS, sent)


def _sent_row(name: str, events_per_s: float, rate: int) -> Row:
    """How much of the traffic came about: what was measured beside less of it says nothing of the whole."""
    least = _LEAST_TRAFFIC * rate
    return Row(name, Spread.of([events_per_s]), "events/s", f">= {least:,.0f}", events_per_s >= least)


def _delay_row(name: str, delays_ms: list[list[float]], fraction: int, limit_ms: int, sent: Row) -> Row:
    """Met only if the traffic was all sent: a sender that falls behind flatters the delays."""
    value = Spread.of([float(np.percentile(some, fraction)) for some in delays_ms])
    return Row(name, value, "ms", f"<= {limit_ms}", bool(sent.met) and value.median <= limit_ms)


def idle(place: Place, rounds: int) -> Iterator[Row]:
    """Cores that the whole stack uses when nothing is sent, health checks included, and its resident memory."""
    cores, gigabytes = [], []
    place.settle()
    place.say(f"resting for {_CALM_S} s")
    # What came before goes on a while: Java compiles, the archiver merges files, the database checkpoints.
    time.sleep(_CALM_S)
    for _ in range(rounds):
        place.say(f"resting for {_REST_S} s")
        with place.containers.metered() as used:
            time.sleep(_REST_S)
        cores.append(sum(used.cpu_s.values()) / _REST_S)
        gigabytes.append(sum(used.memory_bytes.values()) / 1e9)
    value = Spread.of(cores)
    yield Row("idle", value, "cores", "<= 0.3", value.median <= 0.3)
    yield Row("memory, idle", Spread.of(gigabytes), "GB")


@contextmanager
def traffic(place: Place, rate: int, old_days: int = 0) -> Iterator[Callable[[], float]]:
    """Traffic inside the block; what is given says how many events/s Kafka has stored since it began.

    With `old_days`, 2 % of it is late by up to 3 days, and 0.1 % by up to so many.
    """
    command = [
        "compose/engine",
        "compose",
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "tests",
        "python",
        "-m",
        "tests.bench.inside.traffic",
    ]
    process = subprocess.Popen(
        [*command, str(rate), "1", str(old_days)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        first, started_s = place.records(), time.monotonic()
        yield lambda: (place.records() - first) / (time.monotonic() - started_s)
    finally:
        process.communicate("", timeout=60)


def delays_ms_of(place: Place) -> list[float]:
    """Of each canary of a round. All have one key, so they stay in order, and a count says which ones are there."""
    settings, site = place.stack.settings, f"canary-{uuid.uuid4().hex[:8]}"
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "acks": "all", "linger.ms": 0})
    canaries = _CANARIES_PER_S * _ROUND_S
    sent_s: list[float] = []

    def send() -> None:
        started_s = time.monotonic()
        for number in range(canaries):
            # Sent when due, not when the one before has arrived: a stall must show in all that were due meanwhile.
            time.sleep(max(0.0, started_s + number / _CANARIES_PER_S - time.monotonic()))
            value = encode(
                Event(
                    event_id=f"{site}:{number}",
                    event_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    site=site,
                    page="/",
                    visitor_id=site,
                    status=200,
                    bytes_sent=1,
                )
            )
            sent_s.append(started_s + number / _CANARIES_PER_S)
            producer.produce(settings.topic, value, site)
            producer.poll(0)
        producer.flush()

    sending = threading.Thread(target=send)
    sending.start()
    delays_ms: list[float] = []
    with connect(settings, "reader") as reader:
        while len(delays_ms) < canaries:
            query = "SELECT coalesce(sum(views), 0)::bigint FROM site_traffic WHERE site = %s"
            ((seen,),) = reader.execute(query, [site]).fetchall()
            now_s = time.monotonic()
            delays_ms += [1_000 * (now_s - at_s) for at_s in sent_s[len(delays_ms) : seen]]
            time.sleep(0.005)
    sending.join()
    return delays_ms
