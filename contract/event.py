"""The page-view event: its fields, limits and decoder. A value is an event or a reject with a reason, never an exception.

decode() is a pure function of Kafka records, so archiver and speed layer always agree on which records count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from msgspec import Meta
from numpy.typing import NDArray

from contract.event_time import BadTime, time_us
from contract.integral_floats import REFUSED, IntegralFloats
from contract.records import Records
from contract.rejected_line import rejected_line

if TYPE_CHECKING:
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
    """One page view. Further fields are ignored, but for the master dataset, which keeps them: producers may be newer."""

    # The order is that of the wire form, so a new field comes last; with a default, or no event of before is one any more.
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
_MOST_OF_32_BITS = (1 << 31) - 1


def json_schema() -> dict[str, Any]:
    """JSON Schema of the wire form, generated from Event."""
    return msgspec.json.schema(Event)


def _column_type(name: str) -> pl.DataType:
    """What the field is in columns: a time, a text, a whole number or another number."""
    if name == "event_time":
        return pl.Datetime("us", "UTC")
    declared = json_schema()["$defs"]["Event"]["properties"][name]
    (form,) = (one for one in declared.get("anyOf", [declared]) if one["type"] != "null")
    if form["type"] == "integer":
        return pl.Int32() if form["maximum"] <= _MOST_OF_32_BITS else pl.Int64()
    return {"string": pl.String(), "number": pl.Float64()}[form["type"]]


EVENT_SCHEMA = pl.Schema(
    {
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "kafka_time": pl.Datetime("ms", "UTC"),
        **{name: _column_type(name) for name in FIELDS},
    }
)
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
    "not_a_log_line": "a line of a log is not of the log's format; the detail names the field and the column",
    "not_a_request": "a line of a log tells of no request for a page",
}

_decode_event = msgspec.json.Decoder(Event).decode
_integral_floats = IntegralFloats(Event)
_encode_event = msgspec.json.Encoder().encode
# Reads a whole document and judges nothing but its syntax.
_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode
# A string that is never closed matches too, or the search for its end would start again at every quote in it.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_ESCAPED_NUL = b"\\u0000"
_MICROSECOND, _DAY = timedelta(microseconds=1), timedelta(days=1)
_MICROSECONDS_PER_MS = 1_000
_ARROW_EVENTS, _ARROW_REJECTS = (
    schema.to_frame().to_arrow(compat_level=pl.CompatLevel.newest()).schema for schema in (EVENT_SCHEMA, REJECT_SCHEMA)
)
_NO_REJECTS = pl.DataFrame(schema=REJECT_SCHEMA)

Columns = Mapping[str, Any]
Rows = tuple[NDArray[np.int64], Columns]
"""The positions of some records, and columns of what they hold."""


@dataclass(frozen=True)
class Decoded:
    """events has EVENT_SCHEMA, rejects has REJECT_SCHEMA, both in the order of the records.

    `follows` says of which events the value follows from the columns: contract/wire_writer.py writes it of them, byte for
    byte. Of others it may, but is not known to.
    """

    events: pl.DataFrame
    rejects: pl.DataFrame
    follows: NDArray[np.bool_]


class Reject(NamedTuple):
    """Why a value is no event: one of REASONS, and what is wrong where, which quotes nothing of the value."""

    reason: str
    detail: str


class _Rejected(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def decode(
    partition: int,
    offsets: Sequence[int],
    kafka_times_ms: Sequence[int],
    values: Sequence[bytes | None],
    compare: bool = False,
) -> Decoded:
    """decode_records() of records that are objects: the three sequences have one item a record."""
    return decode_records(partition, Records.of(offsets, kafka_times_ms, values), compare)


def decode_records(partition: int, records: Records, compare: bool = False) -> Decoded:
    """Every record of one partition becomes an event or a reject.

    What is of wire form is read as that; all else is read, and judged, by the JSON decoder. Which values follow from the
    columns is found only if it is asked for, by `compare`.
    """
    offset, kafka_time_ms = records.offsets, records.kafka_times_ms
    latest_us = kafka_time_ms * _MICROSECONDS_PER_MS + MAX_AHEAD // _MICROSECOND

    def frame(schema: pa.Schema, at: NDArray[np.int64], columns: Columns) -> pl.DataFrame:
        of_record = {
            "partition": np.full(len(at), partition, np.int32),
            "offset": offset[at],
            "kafka_time": kafka_time_ms[at],
        }
        every = {**of_record, **columns}
        arrays = [pa.array(every[field.name], field.type) for field in schema]
        # A call of Polars takes as long as a hundred records do, so there is only this one.
        return pl.DataFrame(pa.RecordBatch.from_arrays(arrays, schema=schema))

    at, fields, follows = wire_form().read(records.pieces, latest_us, compare)
    events = frame(_ARROW_EVENTS, at, fields)
    if len(at) == len(records):
        return Decoded(events, _NO_REJECTS.clone(), follows)
    others = np.delete(np.arange(len(records)), at)
    (json_at, json_fields), (rejects_at, reasons) = _read_json(records.values_at(others), latest_us)
    if len(json_at):
        in_order = np.argsort(np.concatenate([at, json_at]))
        events = pl.concat([events, frame(_ARROW_EVENTS, json_at, json_fields)])[in_order]
        follows = np.concatenate([follows, np.zeros(len(json_at), np.bool_)])[in_order]
    return Decoded(events, frame(_ARROW_REJECTS, rejects_at, reasons), follows)


def judge(values: Sequence[bytes | None], kafka_time_ms: int) -> list[str | tuple[int, str]]:
    """What decode() makes of each value if the broker receives it then: a reject's reason, or an event's identity.

    That is its day, counted from 1970 on, and its id. Compiled loops are not loaded, so few values take no time, and each
    of many takes longer than in decode().
    """
    if not values:
        return []
    latest_us = _latest_us(kafka_time_ms, len(values))
    (events_at, fields), (rejects_at, reasons) = _read_json(dict(enumerate(values)), latest_us)
    judgements = dict(zip(rejects_at.tolist(), reasons["reason"], strict=True))
    days = (time_us // (_DAY // _MICROSECOND) for time_us in fields["event_time"])
    judgements |= zip(events_at.tolist(), zip(days, fields["event_id"], strict=True), strict=True)
    return [judgements[at] for at in range(len(values))]


def read(values: Sequence[bytes | None], kafka_time_ms: int) -> list[Event | Reject]:
    """The event that decode() makes of each of few values if the broker receives it then, or why it makes none."""
    if not values:
        return []
    events, _, rejects = _read_each(dict(enumerate(values)), _latest_us(kafka_time_ms, len(values)))
    found = events | rejects
    return [found[at] for at in range(len(values))]


def encode(event: Event) -> bytes:
    """The wire form of an event: one compact JSON object; fields that are not known are left out."""
    return _encode_event(event)


@cache
def wire_form() -> WireForm:
    """The reader of what encode() writes."""
    # Numba takes more than a second to load, and what decodes nothing need not wait for it.
    from contract.wire import WireForm

    return WireForm(Event, dict(zip(_ARROW_EVENTS.names, _ARROW_EVENTS.types, strict=True)), MAX_VALUE_BYTES)


def _read_json(values: Mapping[int, bytes | None], latest_us: NDArray[np.int64]) -> tuple[Rows, Rows]:
    """What the JSON decoder says of the values, by their positions: the fields of the events, and why others are none."""
    events, times_us, reasons = _read_each(values, latest_us)
    fields = {name: [getattr(event, name) for event in events.values()] for name in FIELDS}
    rejected = {
        "reason": [reason for reason, _ in reasons.values()],
        "detail": [detail for _, detail in reasons.values()],
        "value_bytes": [len(values[at] or b"") for at in reasons],
        "value": [values[at] for at in reasons],
    }
    return (_positions(events), fields | {"event_time": times_us}), (_positions(reasons), rejected)


def _read_each(
    values: Mapping[int, bytes | None], latest_us: NDArray[np.int64]
) -> tuple[dict[int, Event], list[int], dict[int, Reject]]:
    """By position the events, their microseconds since 1970 in the same order, and why others are none."""
    events: dict[int, Event] = {}
    times_us: list[int] = []
    reasons: dict[int, Reject] = {}
    # One by one gives the same and takes longer.
    is_simple = _none_is_exceptional(list(values.values()))
    decode_one: Callable[[Any], Event] = _decode_simple if is_simple else _decode_closely
    for at, value in values.items():
        try:
            event = decode_one(value)
            times_us.append(_checked_time_us(event.event_time, latest_us[at]))
            events[at] = event
        except (_Rejected, msgspec.DecodeError, UnicodeDecodeError) as error:
            reasons[at] = _reason_of(value or b"", error)
    return events, times_us, reasons


def _latest_us(kafka_time_ms: int, records: int) -> NDArray[np.int64]:
    """Up to when an event may be if the broker receives its record then, for so many records."""
    return np.full(records, kafka_time_ms * _MICROSECONDS_PER_MS + MAX_AHEAD // _MICROSECOND)


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


def _decode_simple(value: bytes) -> Event:
    try:
        return _decode_event(value)
    except msgspec.ValidationError as error:
        if REFUSED not in str(error):
            raise
        return _integral_floats.decode(value)


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
    event = _decode_simple(value)
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


def _reason_of(value: bytes, error: Exception) -> Reject:
    if isinstance(error, _Rejected):
        return Reject(error.reason, error.detail)
    # The decoder stops at the first thing it dislikes; what is wrong with the whole value comes before a field.
    try:
        value.decode()
        _check_syntax(value)
    except UnicodeDecodeError as invalid:
        return Reject("not_utf8", f"invalid byte at {invalid.start}")
    except msgspec.DecodeError as invalid:
        return Reject("not_json", str(invalid))
    reason = _reason_of_validation(str(error))
    if reason == "missing_field" and (line := rejected_line(value)):
        return Reject(line.rejected, line.detail)
    return Reject(reason, str(error))


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


def _checked_time_us(text: str, latest_us: int) -> int:
    """Microseconds since 1970 of a time that is within the limits."""
    try:
        microseconds = time_us(text)
    except BadTime as bad:
        raise _Rejected("bad_time", f"event_time {bad}") from None
    if microseconds > latest_us:
        raise _Rejected("too_far_ahead", REASONS["too_far_ahead"])
    return microseconds


def _positions(at: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(at, np.int64)
