"""The whole pipeline as a plain-Python fold: what every layer's rows are compared with. It shares no code with the kernel.

Only expected_rows() uses contract.sketches, to turn sets and lists into the stored form; SQL itself tests those bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import isinf
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from contract.sketches import histogram, hll
from contract.sketches.hash import hash_texts

Record = tuple[int, int, int, bytes | None]  # partition, offset, kafka_time_ms, value

_SITE, _PAGE, _REFERRER = ("site",), ("site", "page"), ("site", "referrer_host")
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_TRAFFIC = ("views", "errors", "bytes_sent", "visitors", "durations")
VIEWS = {
    "site_traffic": (_SITE, _MINUTE, _TRAFFIC),
    "site_traffic_by_day": (_SITE, _DAY, _TRAFFIC),
    "page_traffic": (_PAGE, _HOUR, _TRAFFIC),
    "page_traffic_by_day": (_PAGE, _DAY, _TRAFFIC),
    "referrers": (_REFERRER, _HOUR, ("views", "visitors")),
    "referrers_by_day": (_REFERRER, _DAY, ("views", "visitors")),
}
TEXTS = {
    "event_id": 256,
    "event_time": 64,
    "site": 253,
    "page": 2048,
    "visitor_id": 128,
    "referrer": 2048,
    "user_agent": 2048,
}
LINE_REASONS = {"not_a_log_line", "not_a_request", "bad_time"}
OPTIONAL = {"duration_ms", "referrer", "user_agent"}
NUMBERS = {"status": (100, 599), "bytes_sent": (0, 2**40), "duration_ms": (0, 86_400_000)}
_FIELDS = TEXTS.keys() | NUMBERS.keys()
_REQUIRED = _FIELDS - OPTIONAL
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]+)?)?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)(?:\[[A-Za-z0-9_+/-]+\])?"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rejected(Exception):
    """args[0] is the reason."""


@dataclass
class Row:
    """What one (bucket, keys…) of a view holds."""

    views: int = 0
    errors: int = 0
    bytes_sent: int = 0
    visitors: set[str] = field(default_factory=set)
    durations: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """rows[view][(bucket, *keys)], and what became of every record."""

    rows: dict[str, dict[tuple[Any, ...], Row]] = field(default_factory=lambda: {view: defaultdict(Row) for view in VIEWS})
    received: int = 0
    counted: int = 0
    duplicate: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    seen: set[tuple[date, str]] = field(default_factory=set)

    def take(self, value: bytes | None, kafka_time_ms: int) -> dict[str, Any] | None:
        """One record more; its event if it counts."""
        self.received += 1
        try:
            event, time = event_of(value, kafka_time_ms)
        except Rejected as rejected:
            self.rejects[rejected.args[0]] += 1
            return None
        if (time.date(), event["event_id"]) in self.seen:
            self.duplicate += 1
            return None
        self.seen.add((time.date(), event["event_id"]))
        self.counted += 1
        of_event = {**event, "referrer_host": host_of(event.get("referrer"))}
        for view, (keys, width, _) in VIEWS.items():
            row = self.rows[view][(time - (time - EPOCH) % width, *(of_event[key] for key in keys))]
            row.views += 1
            row.errors += event["status"] >= 500
            row.bytes_sent += event["bytes_sent"]
            row.visitors.add(event["visitor_id"])
            if event.get("duration_ms") is not None:
                row.durations.append(float(event["duration_ms"]))
        return event


def pipeline(records: Iterable[Record]) -> Outcome:
    """Every view's rows for these records; each offset once, in any order."""
    outcome = Outcome()
    for _, _, kafka_time_ms, value in sorted(records, key=lambda record: record[:2]):
        outcome.take(value, kafka_time_ms)
    return outcome


def event_of(value: bytes | None, kafka_time_ms: int) -> tuple[dict[str, Any], datetime]:
    """The fields of a valid event and its time in UTC; raises Rejected with the reason of any other value."""
    if not value:
        raise Rejected("empty_value")
    if len(value) > 65_536:
        raise Rejected("too_large")
    try:
        value.decode()
        if value.count(b"[") + value.count(b"{") > 64 and _nesting(value) > 64:  # looking at each character takes long
            raise Rejected("too_deep")
        pairs = json.loads(value.decode(), object_pairs_hook=Pairs, parse_constant=_no_constant, parse_int=_whole_number)
        json.dumps(pairs, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except UnicodeDecodeError as error:
        raise Rejected("not_utf8") from error
    except (ValueError, RecursionError) as error:
        raise Rejected("not_json") from error
    if not isinstance(pairs, Pairs):
        raise Rejected("not_an_object")
    for name, item in pairs:  # of a repeated name the last one counts, but each must be valid
        _check(name, item)
    event = dict(pairs)
    if not event.keys() >= _REQUIRED:
        raise Rejected(_said_of_a_line(pairs) or "missing_field")
    if any("\0" in (event.get(name) or "") for name in TEXTS):
        raise Rejected("nul_character")
    time_us = microseconds(event["event_time"])
    if time_us > (kafka_time_ms + 86_400_000) * 1000:
        raise Rejected("too_far_ahead")
    return event, EPOCH + timedelta(microseconds=time_us)


def expected_rows(outcome: Outcome, view: str) -> list[tuple[Any, ...]]:
    """(bucket, keys…, measures…) of a view, sorted, with hll bytes and histogram integers: what the tables hold."""
    stored = {"visitors": sketch_of, "durations": histogram_of}
    _, _, measures = VIEWS[view]
    return [
        (*group, *(stored.get(name, int)(getattr(row, name)) for name in measures))
        for group, row in sorted(outcome.rows[view].items())
    ]


def host_of(referrer: str | None) -> str:
    """The name of the server in a URL, in lower case; empty if there is no URL, and no name that a site may have."""
    try:
        parts = urlsplit(referrer or "")
    except ValueError:
        return ""
    name = (parts.hostname or "") if parts.scheme else ""
    return name if len(name) <= TEXTS["site"] and not re.search(r"[\s:\\]", name) else ""


def sketch_of(visitors: Iterable[str]) -> bytes:
    """The canonical hll of a set."""
    return hll.encode(hll.entries_of(hash_texts(visitors)))


def histogram_of(durations: list[float]) -> list[int]:
    """The canonical histogram of a list: bin << 48 | count, sorted."""
    bins, _ = histogram.decode(histogram.entries_of(np.array(durations, dtype=np.float64)))
    return [(int(number) << 48) + count for number, count in sorted(Counter(bins.tolist()).items())]


class Pairs(list):
    """The members of a JSON object in the order in which they are written."""


def _nesting(value: bytes) -> int:
    depth, deepest, in_string, escaped = 0, 0, False, False
    for character in value.decode():
        if in_string:
            in_string, escaped = escaped or character != '"', character == "\\" and not escaped
        elif character == '"':
            in_string = True
        else:
            depth += (character in "[{") - (character in "]}")
            deepest = max(deepest, depth)
    return deepest


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _whole_number(digits: str) -> float:
    # No limit of ours is near 30 digits, and Python refuses to read thousands of them.
    return float(digits) if isinf(float(digits)) else int(digits[:30])


def _check(name: str, item: Any) -> None:
    if item is None and name in OPTIONAL:
        return
    if name in _FIELDS and type(item) is float and isinf(item):  # no JSON number that a double can hold
        raise Rejected("out_of_range")
    if name in TEXTS:
        if type(item) is not str:
            raise Rejected("wrong_type")
        if len(item) > TEXTS[name]:
            raise Rejected("too_long")
        if not item and name not in OPTIONAL:
            raise Rejected("empty_text")
    elif name in NUMBERS:
        if type(item) not in (int, float):
            raise Rejected("wrong_type")
        if not NUMBERS[name][0] <= item <= NUMBERS[name][1]:
            raise Rejected("out_of_range")
        if name != "duration_ms" and item != int(item):
            raise Rejected("wrong_type")


def _said_of_a_line(pairs: Pairs) -> str | None:
    """Why a log line is no event, if the object says so."""
    said = dict(pairs)
    good = all(
        type(item) is str and 0 < len(item) <= 200 and "\0" not in item if name == "detail" else type(item) is str
        for name, item in pairs
        if name in ("rejected", "detail", "at", "line")
    )
    reasons = [item for name, item in pairs if name == "rejected"]
    if not good or not {"rejected", "detail", "at", "line"} <= said.keys() or not set(reasons) <= LINE_REASONS:
        return None
    return reasons[-1]


def microseconds(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time, further digits cut; raises Rejected of anything else."""
    match = TIME.fullmatch(text)
    if not match:
        raise Rejected("bad_time")
    fraction = int(Fraction("0" + match[7]) * 1_000_000) if match[7] else 0
    try:
        moment = datetime(*(int(part or 0) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
        moment += timedelta(microseconds=fraction)
    except ValueError as error:
        raise Rejected("bad_time") from error
    east = (int(match[9]) * 60 + int(match[10] or 0)) * (1 if match[8] == "+" else -1) if match[8] else 0
    microseconds = (moment - EPOCH) // timedelta(microseconds=1) - east * 60_000_000
    if microseconds < 0:
        raise Rejected("bad_time")
    return microseconds
