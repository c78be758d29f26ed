"""The page-view event: its fields, limits and decoder. A value is an event or a reject with a reason, never an exception.

decode() is a pure function of Kafka records, so archiver and speed layer always agree on which records count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl
from msgspec import Meta

from contract.plain_time import plain_times
from contract.wire import WireForm

MAX_VALUE_BYTES = 65_536
MAX_NESTING = 64
MAX_AHEAD = timedelta(days=1)
MAX_PAGE_LENGTH = 2_048
MAX_BYTES_SENT = 1 << 40  # so that 8 million of the largest responses fit the 64-bit sum of one bucket
MAX_DURATION_MS = 86_400_000

EVENT_ID_LENGTH, SITE_LENGTH, VISITOR_ID_LENGTH = 256, 253, 128
_Text = Annotated[str, Meta(max_length=MAX_PAGE_LENGTH)]


class Event(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """One page view. Unknown further fields are ignored, so producers may be newer than Braid."""

    event_id: Annotated[
        str,
        Meta(min_length=1, max_length=EVENT_ID_LENGTH, description="source + position; the same id on one day counts once"),
    ]
    event_time: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            description="RFC 3339 with offset, 1970 or later, at most one day ahead of the broker",
        ),
    ]
    site: Annotated[str, Meta(min_length=1, max_length=SITE_LENGTH, description="the web site, e.g. its host name")]
    page: Annotated[str, Meta(min_length=1, max_length=MAX_PAGE_LENGTH, description="the request target")]
    visitor_id: Annotated[
        str, Meta(min_length=1, max_length=VISITOR_ID_LENGTH, description="a pseudonym; also the Kafka key")
    ]
    status: Annotated[int, Meta(ge=100, le=599, description="HTTP status")]
    bytes_sent: Annotated[int, Meta(ge=0, le=MAX_BYTES_SENT, description="size of the response body")]
    duration_ms: Annotated[float, Meta(ge=0, le=MAX_DURATION_MS, description="time to serve it, if known")] | None = None
    referrer: Annotated[_Text, Meta(description="where the visitor came from, if known")] | None = None
    user_agent: Annotated[_Text, Meta(description="the client's own name, if known")] | None = None


FIELDS = Event.__struct_fields__

EVENT_SCHEMA = pl.Schema(
    {
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "kafka_time": pl.Datetime("ms", "UTC"),
        "event_id": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
        "site": pl.String(),
        "page": pl.String(),
        "visitor_id": pl.String(),
        "status": pl.Int32(),
        "bytes_sent": pl.Int64(),
        "duration_ms": pl.Float64(),
        "referrer": pl.String(),
        "user_agent": pl.String(),
    }
)
FIELD_SCHEMA = pl.Schema({name: pl.String() if name == "event_time" else EVENT_SCHEMA[name] for name in FIELDS})
"""The fields as they are in the value, event_time as its text."""
REJECT_SCHEMA = pl.Schema(
    {
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "kafka_time": pl.Datetime("ms", "UTC"),
        "reason": pl.String(),
        "detail": pl.String(),
        "value_bytes": pl.Int64(),
        "value": pl.Binary(),
    }
)

REASONS = {
    "empty_value": "the record has no value",
    "too_large": f"the value is larger than {MAX_VALUE_BYTES} bytes",
    "too_deep": f"the JSON is nested more than {MAX_NESTING} levels deep",
    "not_utf8": "the value is not UTF-8 text",
    "not_json": "the value is not one JSON document",
    "not_an_object": "the JSON document is not an object",
    "missing_field": "a required field is missing",
    "wrong_type": "a field has another JSON type",
    "too_long": "a text is longer than its limit",
    "empty_text": "a required text is empty",
    "out_of_range": "a number is outside its range",
    "nul_character": "a text holds the character U+0000, which SQL text cannot store",
    "bad_time": "event_time is not an RFC 3339 time with offset, 1970 or later",
    "too_far_ahead": "event_time is more than one day after the broker received the record",
}

_decode_event = msgspec.json.Decoder(Event).decode
_encode_event = msgspec.json.Encoder().encode
# Reads a whole document and judges nothing but its syntax.
_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode
_time_decoder = msgspec.json.Decoder(datetime)
# A string that is never closed matches too, or the search for its end would start again at every quote in it.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_ESCAPED_NUL = b"\\u0000"
_wire_form = WireForm(Event, FIELD_SCHEMA)
# Below that, reading the wire form takes longer than the JSON decoder.
_FEW_RECORDS = 1_000
# So many records stay in the processor's cache.
_CHUNK_RECORDS = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_REASON_OF_TIME = (
    pl.when(pl.col("event_time").is_null() | (pl.col("event_time") < _EPOCH))
    .then(pl.lit("bad_time"))
    .when(pl.col("event_time") > pl.col("kafka_time").cast(EVENT_SCHEMA["event_time"]) + MAX_AHEAD)
    .then(pl.lit("too_far_ahead"))
)


@dataclass(frozen=True)
class Decoded:
    """events has EVENT_SCHEMA, rejects has REJECT_SCHEMA, both in the order of the records."""

    events: pl.DataFrame
    rejects: pl.DataFrame


class _Rejected(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def decode(partition: int, offsets: Sequence[int], kafka_times_ms: Sequence[int], values: Sequence[bytes | None]) -> Decoded:
    """Every record of one partition becomes an event or a reject; the three sequences have one item a record."""
    chunks = [_parse(values[first : first + _CHUNK_RECORDS]) for first in range(0, len(values), _CHUNK_RECORDS)]
    rejected = [
        (number * _CHUNK_RECORDS + position, reason, detail)
        for number, (_, some) in enumerate(chunks)
        for position, reason, detail in some
    ]
    kept = np.delete(np.arange(len(values)), [position for position, _, _ in rejected])
    frame = _frame(
        partition,
        np.asarray(offsets, np.int64)[kept],
        np.asarray(kafka_times_ms, np.int64)[kept],
        [one for one, _ in chunks],
    )
    reasons = frame.select(_REASON_OF_TIME).to_series()
    wrong = np.flatnonzero(reasons.is_not_null())
    if len(wrong):
        rejected += [
            (int(kept[at]), reason, REASONS[reason]) for at, reason in zip(wrong, reasons.gather(wrong), strict=True)
        ]
        rejected.sort()
        frame = frame.filter(reasons.is_null())
    return Decoded(frame, _rejects(partition, offsets, kafka_times_ms, values, rejected))


def _rejects(
    partition: int,
    offsets: Sequence[int],
    kafka_times_ms: Sequence[int],
    values: Sequence[bytes | None],
    rejected: list[tuple[int, str, str]],
) -> pl.DataFrame:
    rows = [
        (partition, offsets[at], kafka_times_ms[at], reason, detail, len(values[at] or b""), values[at])
        for at, reason, detail in rejected
    ]
    if not rows:
        return pl.DataFrame(schema=REJECT_SCHEMA)
    return pl.DataFrame(rows, schema={**REJECT_SCHEMA, "kafka_time": pl.Int64}, orient="row").cast(REJECT_SCHEMA)


def encode(event: Event) -> bytes:
    """The wire form of an event: one compact JSON object; fields that are not known are left out."""
    return _encode_event(event)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the wire form, generated from Event."""
    return msgspec.json.schema(Event)


def _parse(values: Sequence[bytes | None]) -> tuple[pl.DataFrame, list[tuple[int, str, str]]]:
    """The fields of those values that are events by JSON and limits, as they are; position, reason, detail of the others."""
    if len(values) < _FEW_RECORDS:
        return _parse_json(values)
    written, is_written = _wire_form.read([value if value and len(value) <= MAX_VALUE_BYTES else b"" for value in values])
    others = np.flatnonzero(~is_written)
    if not len(others):
        return written, []
    events, rejected = _parse_json([values[position] for position in others.tolist()])
    row_of = np.arange(len(values))
    row_of[np.delete(others, [position for position, _, _ in rejected])] = len(values) + np.arange(len(events))
    kept = np.delete(row_of, [others[position] for position, _, _ in rejected])
    return pl.concat([written, events])[kept], [
        (int(others[position]), reason, detail) for position, reason, detail in rejected
    ]


def _parse_json(values: Sequence[bytes | None]) -> tuple[pl.DataFrame, list[tuple[int, str, str]]]:
    """What the JSON decoder says of the values, in the form of _parse."""
    events: list[Event] = []
    rejected: list[tuple[int, str, str]] = []
    # One by one gives the same and takes longer.
    decode_one: Callable[[Any], Event] = _decode_event if _none_is_exceptional(values) else _decode_closely
    decoded = map(decode_one, values)
    while True:
        try:
            for event in decoded:
                events.append(event)
            break
        except (_Rejected, msgspec.DecodeError, UnicodeDecodeError) as error:
            position = len(events) + len(rejected)
            rejected.append((position, *_reason_of(values[position] or b"", error)))
    columns = {name: list(map(attrgetter(name), events)) for name in FIELDS}
    return pl.DataFrame(columns, schema=FIELD_SCHEMA, strict=False), rejected


def _none_is_exceptional(values: Sequence[bytes | None]) -> bool:
    """Whether the JSON decoder alone judges each of the values rightly; False if that cannot be said of them together."""
    present = [value for value in values if value]
    together = b"\n".join(present)
    if len(present) < len(values) or _ESCAPED_NUL in together or max(map(len, present)) > MAX_VALUE_BYTES:
        return False
    if sum(max(map(bytes.count, present, repeat(bracket))) for bracket in (b"[", b"{")) > MAX_NESTING:
        return False
    try:
        # The JSON decoder skips what it need not read, and would not see broken text in an unknown field.
        return together.isascii() or bool(together.decode())
    except UnicodeDecodeError:
        return False


def _decode_closely(value: bytes | None) -> Event:
    """The event; raises _Rejected too, for what the JSON decoder does not refuse."""
    if not value:
        raise _Rejected("empty_value", REASONS["empty_value"])
    if len(value) > MAX_VALUE_BYTES:
        raise _Rejected("too_large", f"{len(value)} bytes")
    value.decode()
    # The decoder's own limit depends on how deep the caller's stack is, so two layers could judge differently.
    if value.count(b"[") + value.count(b"{") > MAX_NESTING and _nesting(value) > MAX_NESTING:
        raise _Rejected("too_deep", REASONS["too_deep"])
    event = _decode_event(value)
    if _ESCAPED_NUL in value:
        for name in FIELDS:
            if "\0" in str(getattr(event, name)):
                raise _Rejected("nul_character", f"in `$.{name}`")
    return event


def _nesting(value: bytes) -> int:
    """How many brackets outside of strings are open at once, at most."""
    depth = deepest = 0
    for token in _TOKEN.findall(value):
        depth += 1 if token in (b"[", b"{") else -1 if token in (b"]", b"}") else 0
        deepest = max(deepest, depth)
    return deepest


def _reason_of(value: bytes, error: Exception) -> tuple[str, str]:
    """Reason and detail of a value that is no event; the detail quotes no part of the value."""
    if isinstance(error, _Rejected):
        return error.reason, error.detail
    # The decoder stops at the first thing it dislikes; what is wrong with the whole value comes before a field.
    try:
        value.decode()
        _check_syntax(value)
    except UnicodeDecodeError as invalid:
        return "not_utf8", f"invalid byte at {invalid.start}"
    except msgspec.DecodeError as invalid:
        return "not_json", str(invalid)
    return _reason_of_validation(str(error)), str(error)


def _reason_of_validation(message: str) -> str:
    if "missing required field" in message:
        return "missing_field"
    if " - at `$." not in message:
        return "not_an_object"
    if " of length <=" in message:
        return "too_long"
    if " of length >=" in message:
        return "empty_text"
    if "<=" in message or ">=" in message or "out of range" in message:
        return "out_of_range"
    return "wrong_type"


def _frame(partition: int, offsets: np.ndarray, kafka_times_ms: np.ndarray, parts: list[pl.DataFrame]) -> pl.DataFrame:
    fields = pl.concat([pl.DataFrame(schema=FIELD_SCHEMA), *parts]).to_dict()
    columns = fields | {
        "partition": pl.Series(np.full(len(offsets), partition, np.int32)),
        "offset": pl.Series(offsets),
        "kafka_time": pl.Series(kafka_times_ms).cast(EVENT_SCHEMA["kafka_time"]),
        "event_time": _times(fields["event_time"]),
    }
    return pl.DataFrame({name: columns[name] for name in EVENT_SCHEMA})


def _times(texts: pl.Series) -> pl.Series:
    parsed = plain_times(texts)
    if parsed.null_count():
        others = parsed.is_null().arg_true()
        parsed = parsed.scatter(others, [_time(text) for text in texts.gather(others)])
    return parsed.cast(EVENT_SCHEMA["event_time"])


def _time(text: str) -> int | None:
    """Microseconds since 1970 of any RFC 3339 time with offset; None if it is not one."""
    try:
        moment = _time_decoder.decode(msgspec.json.encode(text))
        return (moment - _EPOCH) // _MICROSECOND if moment.tzinfo else None
    except (msgspec.MsgspecError, OverflowError):
        return None
