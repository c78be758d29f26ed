"""Traffic of some web sites, by seed: what real producers do, their mistakes included, at a steady pace.

Zipf pages and visitors, log-normal latency; by default 2 % late by up to 3 days, 1 % sent twice, 0.1 % malformed.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice

import msgspec

from contract.event import MAX_NESTING, MAX_VALUE_BYTES, Event, encode
from contract.settings import Settings
from ingest.progress import LineProgress
from ingest.sender import Sender, connect
from ingest.stop import Stop
from ingest.topics import next_offsets

SITES = ("www.example.com", "shop.example.com")
_DAY_S = 86_400
RESENT_WITHIN = 500
"""A record that is sent twice comes again after at most so many others."""
_PAGES, _VISITORS = 400, 20_000
_STATUSES, _STATUS_WEIGHTS = (200, 304, 301, 404, 500, 503), (86, 6, 3, 4, 0.7, 0.3)
_AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) Firefox/149.0", "Mozilla/5.0 (iPhone) Safari/26.1", "Googlebot/2.1")
_TICK_S = 0.05
_DAY_SWING = 0.2

Record = tuple[str, bytes]


@dataclass(frozen=True)
class Shares:
    """Which part of the events, from 0 to 1, is late, is sent twice, is malformed; and by how many days late at most."""

    late: float = 0.02
    twice: float = 0.01
    malformed: float = 0.001
    late_days: int = 3


@dataclass
class Simulated:
    """What was sent; a reader of each partition that stands at next_offsets has read all of it."""

    sent: int = 0
    next_offsets: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """The result for people."""
        return f"{self.sent:,} records sent"

    def json(self) -> str:
        """The result for programs."""
        return msgspec.json.encode(asdict(self)).decode()


def events(
    seed: int, now: Callable[[], datetime], producer_id: str, sites: Sequence[str] = SITES, shares: Shares = Shares()
) -> Iterator[Record]:
    """Endless (key, value) records, the same for the same arguments; `now` is asked once an event.

    The ids hold the time of the first event, so a producer that starts again repeats none of its earlier ids.
    """
    rng = random.Random(seed)
    visitors = [f"{rng.getrandbits(128):032x}" for _ in range(_VISITORS)]
    pages, ranks = _pages(), _zipf(_PAGES)
    visitor_ranks = _zipf(_VISITORS)
    start_ms = int(now().timestamp() * 1000)
    again: list[tuple[int, Record]] = []
    sequence = 0
    while True:
        moment = now()
        if rng.random() < shares.late:
            moment -= timedelta(seconds=rng.uniform(0, shares.late_days * _DAY_S))
        page = rng.choices(pages, cum_weights=ranks)[0]
        event = Event(
            event_id=f"{producer_id}-{start_ms}:{sequence}",
            event_time=moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            site=rng.choice(sites),
            page=page,
            visitor_id=rng.choices(visitors, cum_weights=visitor_ranks)[0],
            status=rng.choices(_STATUSES, _STATUS_WEIGHTS)[0],
            bytes_sent=int(rng.lognormvariate(9, 1.2)),
            duration_ms=round(rng.lognormvariate(3.5, 0.8), 3),
            referrer=rng.choice((None, "https://search.example.org/")),
            user_agent=rng.choice(_AGENTS),
        )
        sequence += 1
        value = encode(event)
        if rng.random() < shares.malformed:
            value = rng.choice(MISTAKES)(value)
        record = (event.visitor_id, value)
        yield record
        if rng.random() < shares.twice:
            heapq.heappush(again, (sequence + rng.randint(1, RESENT_WITHIN), record))
        if again and again[0][0] <= sequence:
            yield heapq.heappop(again)[1]


def day_curve(moment: datetime) -> float:
    """The rate at a time of day relative to the day's mean: highest at 20:00 UTC, lowest at 08:00."""
    hour = moment.hour + moment.minute / 60
    return 1 + _DAY_SWING * math.cos((hour - 20) * math.pi / 12)


def pace(
    records: Iterable[Record],
    rate: Callable[[], float],
    send: Callable[[Sequence[Record]], None],
    wait: Callable[[float], bool],
    clock_s: Callable[[], float] = time.monotonic,
) -> Iterator[int]:
    """Send at `rate()` records a second until `wait` says stop or they end; yields after each tick how many went.

    After a stall at most one second's records are caught up on.
    """
    records = iter(records)
    due, last_s = 1.0, clock_s()
    while True:
        wanted = int(due)
        together = list(islice(records, wanted))
        send(together)
        due -= wanted
        yield len(together)
        if len(together) < wanted or wait(_TICK_S):
            return
        now_s, per_s = clock_s(), rate()
        due += min(now_s - last_s, 1.0) * per_s
        last_s = now_s


def simulate(
    settings: Settings, stop: Stop, rate: int, seed: int, limit: int | None, sites: Sequence[str], shares: Shares
) -> Simulated:
    """Send traffic until `stop` is set or `limit` records are sent; returns when Kafka has all of it."""

    def now() -> datetime:
        return datetime.now(UTC)

    result, sender = Simulated(), Sender(settings, connect(settings), stop)
    records = islice(events(seed, now, "simulator", sites, shares), limit)
    try:
        with LineProgress("simulate") as progress:
            for sent in pace(records, lambda: rate * day_curve(now()), sender.send, stop.wait):
                result.sent += sent
                sender.poll()
                progress.update(result.sent)
        sender.finish()
    except KeyboardInterrupt:
        sender.abandon()
        raise KeyboardInterrupt(f"interrupted: {sender.delivered:,} simulated records are in Kafka") from None
    result.next_offsets = next_offsets(settings)
    return result


def _pages() -> list[str]:
    sections = ("news", "docs", "products", "about")
    return ["/", *(f"/{sections[number % len(sections)]}/{number}" for number in range(1, _PAGES))]


def _zipf(count: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def _with(**changed: object) -> Callable[[bytes], bytes]:
    return lambda value: msgspec.json.encode(msgspec.json.decode(value) | changed)


def _without_site(value: bytes) -> bytes:
    return msgspec.json.encode({name: item for name, item in msgspec.json.decode(value).items() if name != "site"})


MISTAKES: tuple[Callable[[bytes], bytes], ...] = (
    lambda value: value[: len(value) // 2],
    lambda value: value.replace(b'"page":"', b'"page":"\xff', 1),
    lambda value: b"[" + value + b"]",
    lambda value: b"",
    lambda value: value[:-1] + b',"x":' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}",
    lambda value: value[:-1] + b" " * MAX_VALUE_BYTES + b"}",
    _without_site,
    _with(status="200"),
    _with(status=999),
    _with(site=""),
    _with(page="/" + "a" * 3_000),
    _with(page="/\0"),
    _with(event_time="17/May/2015:10:05:03 +0000"),
    _with(event_time="9999-12-31T23:59:59Z"),
)
"""What careless producers do to an event, one for each reason of a reject; nothing else is wrong with the record."""
