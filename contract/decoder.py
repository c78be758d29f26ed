"""The events of a stream, read and written. A value is an event or a reject with a reason, never an exception.

What decode() says of Kafka records is a pure function of them, so archiver and speed layer always agree on which records
count.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.event_time import LAST_US, BadTime, time_us
from contract.fields import Decimal, Enumeration, Field, Text, Timestamp
from contract.integral_floats import IntegralFloats, is_refused
from contract.records import Records
from contract.rejected_line import rejected_line
from contract.stream import Members, Stream, is_optional

if TYPE_CHECKING:
    from contract.wire import WireForm

MAX_VALUE_BYTES = 65_536
MAX_NESTING = 64
MAX_AHEAD = timedelta(days=1)

OF_RECORD = pl.Schema({"partition": pl.Int32(), "offset": pl.Int64(), "kafka_time": pl.Datetime("ms", "UTC")})
"""The columns of every event and reject that say which record it is."""
REJECT_SCHEMA = pl.Schema(
    {**OF_RECORD, "reason": pl.String(), "detail": pl.String(), "value_bytes": pl.Int64(), "value": pl.Binary()}
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
    "not_a_choice": "a text is none of those that the field may be",
    "too_many_places": "a number has more decimal places than the field",
    "bad_time": "a time is not an RFC 3339 time with offset, 1970 or later",
    "too_far_ahead": "the event's time is more than one day after the broker received the record",
    "not_a_log_line": "a line of a log is not of the log's format; the detail names the field and the column",
    "not_a_request": "a line of a log tells of no request for a page",
}

_ONLY_OF: Mapping[str, type[Field]] = {"not_a_choice": Enumeration, "too_many_places": Decimal}
_encode = msgspec.json.Encoder(decimal_format="number").encode
# Reads a whole document and judges nothing but its syntax.
_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode
# A string that is never closed matches too, or the search for its end would start again at every quote in it.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_ESCAPED_NUL = b"\\u0000"
_FURTHER_FIELDS = "Further fields are ignored, but for the master dataset, which keeps them: producers may be newer."
_MICROSECOND, _DAY = timedelta(microseconds=1), timedelta(days=1)
_MICROSECONDS_PER_MS = 1_000


Columns = Mapping[str, Any]
Rows = tuple[NDArray[np.int64], Columns]
"""The positions of some records, and columns of what they hold."""


class _Frames:
    """Frames of one schema."""

    def __init__(self, schema: pl.Schema) -> None:
        self._schema = schema.to_frame().to_arrow(compat_level=pl.CompatLevel.newest()).schema
        # Arrow makes an object of each whenever it is asked.
        self._types = [(field.name, field.type) for field in self._schema]

    def of(self, columns: Columns) -> pl.DataFrame:
        """The frame of these columns: Arrow's own of the schema's types, or whatever Arrow can make such of."""
        arrays = [
            column if isinstance(column := columns[name], pa.Array) else pa.array(column, dtype)
            for name, dtype in self._types
        ]
        # A call of Polars takes as long as a hundred records do, so there is only this one.
        return pl.DataFrame(pa.RecordBatch.from_arrays(arrays, schema=self._schema))


_REJECTS = _Frames(REJECT_SCHEMA)
_NO_REJECTS = pl.DataFrame(schema=REJECT_SCHEMA)


@dataclass(frozen=True)
class Decoded:
    """events has the stream's schema, rejects has REJECT_SCHEMA, both in the order of the records.

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


class Decoder:
    """Reads and writes the events of one stream; decoder_of() gives the one that a process has of it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.fields = tuple(stream.by_name)
        self.schema = pl.Schema({**OF_RECORD, **stream.schema})
        """The columns of events."""
        self._events = _Frames(self.schema)
        self.event = _struct("Event", stream.members, stream.meaning)
        """What the JSON decoder makes of a value: an object with an attribute for each field, and for each object in it."""
        self.encode: Callable[[msgspec.Struct], bytes] = _encode
        """The wire form of an event: one compact JSON object; fields that are not known are left out."""
        self._decode_event = msgspec.json.Decoder(self.event).decode
        self._integral_floats = IntegralFloats(self.event)
        self._values = _getters(stream.members)
        self._time = self._values[stream.time]
        self._texts = [each for each in stream.fields if isinstance(each, Text | Timestamp)]
        self._times = [each for each in stream.fields if isinstance(each, Timestamp) and each.name != stream.time]
        self._decimals = [each for each in stream.fields if isinstance(each, Decimal)]
        self._needs_checks = bool(self._times or self._decimals)
        self._too_far_ahead = f"{stream.time} is more than one day after the broker received the record"

    @property
    def reasons(self) -> dict[str, str]:
        """Those of REASONS that an event of this stream may be rejected for."""
        kinds = {type(each) for each in self.stream.fields}
        return {reason: what for reason, what in REASONS.items() if _ONLY_OF.get(reason, type(None)) in {*kinds, type(None)}}

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of the wire form, generated from the declaration."""
        return msgspec.json.schema(self.event)

    def decode(
        self,
        partition: int,
        offsets: Sequence[int],
        kafka_times_ms: Sequence[int],
        values: Sequence[bytes | None],
        compare: bool = False,
    ) -> Decoded:
        """decode_records() of records that are objects: the three sequences have one item a record."""
        return self.decode_records(partition, Records.of(offsets, kafka_times_ms, values), compare)

    def decode_records(self, partition: int, records: Records, compare: bool = False) -> Decoded:
        """Every record of one partition becomes an event or a reject.

        What is of wire form is read as that; all else is read, and judged, by the JSON decoder. Which values follow from the
        columns is found only if it is asked for, by `compare`.
        """
        offset, kafka_time_ms = records.offsets, records.kafka_times_ms
        latest_us = kafka_time_ms * _MICROSECONDS_PER_MS + MAX_AHEAD // _MICROSECOND

        def frame(frames: _Frames, at: NDArray[np.int64], columns: Columns) -> pl.DataFrame:
            of_record = {
                "partition": np.full(len(at), partition, np.int32),
                "offset": offset[at],
                "kafka_time": kafka_time_ms[at],
            }
            return frames.of({**of_record, **columns})

        at, fields, follows = self.wire_form.read(records.pieces, latest_us, compare)
        events = frame(self._events, at, fields)
        if len(at) == len(records):
            return Decoded(events, _NO_REJECTS.clone(), follows)
        others = np.delete(np.arange(len(records)), at)
        (json_at, json_fields), (rejects_at, reasons) = self._read_json(records.values_at(others), latest_us)
        if len(json_at):
            in_order = np.argsort(np.concatenate([at, json_at]))
            events = pl.concat([events, frame(self._events, json_at, json_fields)])[in_order]
            follows = np.concatenate([follows, np.zeros(len(json_at), np.bool_)])[in_order]
        return Decoded(events, frame(_REJECTS, rejects_at, reasons), follows)

    def judge(self, values: Sequence[bytes | None], kafka_time_ms: int) -> list[str | tuple[int, str]]:
        """What decode() makes of each value if the broker receives it then: a reject's reason, or an event's identity.

        That is its day, counted from 1970 on, and its id. Compiled loops are not loaded, so few values take no time, and
        each of many takes longer than in decode().
        """
        if not values:
            return []
        latest_us = _latest_us(kafka_time_ms, len(values))
        (events_at, fields), (rejects_at, reasons) = self._read_json(dict(enumerate(values)), latest_us)
        judgements = dict(zip(rejects_at.tolist(), reasons["reason"], strict=True))
        days = (time_us // (_DAY // _MICROSECOND) for time_us in fields[self.stream.time])
        identities = fields[self.stream.identity[0]] if self.stream.is_identified_by_a_text else self._identities(fields)
        judgements |= zip(events_at.tolist(), zip(days, identities, strict=True), strict=True)
        return [judgements[at] for at in range(len(values))]

    def _identities(self, fields: Columns) -> list[str]:
        names = self.stream.identity
        return self.stream.identities(
            pl.DataFrame({name: fields[name] for name in names}, {name: self.schema[name] for name in names})
        ).to_list()

    def read(self, values: Sequence[bytes | None], kafka_time_ms: int) -> list[Any]:
        """The event that decode() makes of each of few values if the broker receives it then, or a Reject if it makes
        none."""
        if not values:
            return []
        events, _, rejects = self._read_each(dict(enumerate(values)), _latest_us(kafka_time_ms, len(values)))
        found = events | rejects
        return [found[at] for at in range(len(values))]

    def encode_row(self, row: Mapping[str, Any]) -> bytes:
        """The wire form of the event that these columns are of."""
        return _encode(_object(self.stream.members, row))

    @cached_property
    def wire_form(self) -> WireForm:
        """The reader of what encode() writes."""
        # Numba takes more than a second to load, and what decodes nothing need not wait for it.
        from contract.wire import WireForm

        return WireForm(self.stream, MAX_VALUE_BYTES)

    def _read_json(self, values: Mapping[int, bytes | None], latest_us: NDArray[np.int64]) -> tuple[Rows, Rows]:
        """What the JSON decoder says of the values, by their positions: the fields of the events, and why others are
        none."""
        events, times_us, reasons = self._read_each(values, latest_us)
        fields = {name: list(map(value_of, events.values())) for name, value_of in self._values.items()}
        for each in self._times:
            fields[each.name] = [None if text is None else time_us(text) for text in fields[each.name]]
        for place in self._decimals:
            fields[place.name] = [_exactly(number, place) for number in fields[place.name]]
        rejected = {
            "reason": [reason for reason, _ in reasons.values()],
            "detail": [detail for _, detail in reasons.values()],
            "value_bytes": [len(values[at] or b"") for at in reasons],
            "value": [values[at] for at in reasons],
        }
        return (_positions(events), fields | {self.stream.time: times_us}), (_positions(reasons), rejected)

    def _read_each(
        self, values: Mapping[int, bytes | None], latest_us: NDArray[np.int64]
    ) -> tuple[dict[int, Any], list[int], dict[int, Reject]]:
        """By position the events, their microseconds since 1970 in the same order, and why others are none."""
        events: dict[int, Any] = {}
        times_us: list[int] = []
        reasons: dict[int, Reject] = {}
        # One by one gives the same and takes longer.
        is_simple = _none_is_exceptional(list(values.values()))
        decode_one: Callable[[Any], Any] = self._decode_simple if is_simple else self._decode_closely
        time_of, checked_time_us, check = self._time, self._checked_time_us, self._check if self._needs_checks else None
        # As Python's own numbers, which it compares sooner than numpy's.
        latest_of_each = latest_us[_positions(values)].tolist()
        for (at, value), latest in zip(values.items(), latest_of_each, strict=True):
            try:
                event = decode_one(value)
                event_us = checked_time_us(time_of(event), latest)
                if check:
                    check(event)
                times_us.append(event_us)
                events[at] = event
            except (_Rejected, msgspec.DecodeError, UnicodeDecodeError) as error:
                reasons[at] = _reason_of(value or b"", error)
        return events, times_us, reasons

    def _decode_simple(self, value: bytes) -> Any:
        try:
            return self._decode_event(value)
        except msgspec.ValidationError as error:
            if not is_refused(error):
                raise
            return self._integral_floats.decode(value)

    def _decode_closely(self, value: bytes | None) -> Any:
        """The event; raises _Rejected too, for what the JSON decoder does not refuse."""
        if not value:
            raise _Rejected("empty_value", REASONS["empty_value"])
        if len(value) > MAX_VALUE_BYTES:
            raise _Rejected("too_large", f"{len(value)} bytes")
        value.decode()
        # The decoder's own limit depends on how deep the caller's stack is, so two layers could judge differently.
        if value.count(b"[") + value.count(b"{") > MAX_NESTING and _nesting(value) > MAX_NESTING:
            raise _Rejected("too_deep", REASONS["too_deep"])
        event = self._decode_simple(value)
        if _ESCAPED_NUL in value:
            for each in self._texts:
                if "\0" in str(self._values[each.name](event)):
                    raise _Rejected("nul_character", f"in `{each.in_detail}`")
        return event

    def _checked_time_us(self, text: str, latest_us: int) -> int:
        """Microseconds since 1970 of the event's time, within its limits."""
        try:
            microseconds = time_us(text)
        except BadTime as bad:
            raise _Rejected("bad_time", f"{self.stream.time} {bad}") from None
        if microseconds > latest_us:
            raise _Rejected("too_far_ahead", self._too_far_ahead)
        return microseconds

    def _check(self, event: Any) -> None:
        """Raise _Rejected for what the JSON decoder knows nothing of: further times, and decimals."""
        for each in self._times:
            text = self._values[each.name](event)
            try:
                if text is not None and time_us(text) > LAST_US:
                    raise BadTime("is after the year 9999")
            except BadTime as bad:
                raise _Rejected("bad_time", f"{each.name} {bad}") from None
        for place in self._decimals:
            number = self._values[place.name](event)
            if number is None:
                continue
            if not place.is_within(number):
                raise _Rejected("out_of_range", f"not {place.least} to {place.most} - at `{place.in_detail}`")
            if place.units(number) is None:
                raise _Rejected("too_many_places", f"more than {place.places} - at `{place.in_detail}`")


def _struct(name: str, members: Members, meaning: str | None = None) -> type[msgspec.Struct]:
    """What the JSON decoder reads an object of these members as; attributes are named as columns are, or numbered."""
    fields: list[Any] = []
    spelled: dict[str, str] = {}
    for number, (member, what) in enumerate(members.items()):
        attribute = what.name if isinstance(what, Field) else f"_{number}"
        kind = what.in_json if isinstance(what, Field) else _struct(f"{name}.{member}", what)
        spelled[attribute] = member
        fields.append((attribute, kind | None, None) if is_optional(what) else (attribute, kind))
    described = {"__doc__": f"{meaning}. {_FURTHER_FIELDS}"} if meaning else {}
    return msgspec.defstruct(
        name, fields, namespace=described, rename=spelled, gc=False, kw_only=True, omit_defaults=True, module=__name__
    )


def _getters(members: Members) -> dict[str, Callable[[Any], Any]]:
    """Of each field, by its name, what takes it from an object."""
    found: dict[str, Callable[[Any], Any]] = {}
    for number, what in enumerate(members.values()):
        if isinstance(what, Field):
            found[what.name] = attrgetter(what.name)
        else:
            outer = attrgetter(f"_{number}")
            found |= {name: _within(outer, inner) for name, inner in _getters(what).items()}
    return found


def _within(outer: Callable[[Any], Any], inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def value_of(event: Any) -> Any:
        found = outer(event)
        return None if found is None else inner(found)

    return value_of


def _object(members: Members, row: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a row's columns, without what is null, and without objects of nulls."""
    written: dict[str, Any] = {}
    for name, what in members.items():
        item = _spelled(row[what.name]) if isinstance(what, Field) else _object(what, row)
        if item is not None and (item != {} or isinstance(what, Field)):
            written[name] = item
    return written


def _spelled(item: Any) -> Any:
    """A column's item as it is written."""
    if isinstance(item, datetime):
        moment = item.astimezone(UTC)
        in_milliseconds = moment.microsecond and moment.microsecond % 1_000 == 0
        return moment.isoformat(timespec="milliseconds" if in_milliseconds else "auto").replace("+00:00", "Z")
    if isinstance(item, decimal.Decimal):
        return decimal.Decimal(f"{item.normalize():f}")
    return item


def _exactly(number: decimal.Decimal | None, field: Decimal) -> decimal.Decimal | None:
    return None if number is None else decimal.Decimal(field.units(number) or 0).scaleb(-field.places)


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


def _nesting(value: bytes) -> int:
    """How many brackets outside of strings are open at once, at most."""
    depth = deepest = 0
    for token in _TOKEN.findall(value):
        depth += 1 if token in (b"[", b"{") else -1 if token in (b"]", b"}") else 0
        deepest = max(deepest, depth)
    return deepest


@cache
def decoder_of(stream: Stream) -> Decoder:
    """The decoder of a stream: to make one takes longer than to judge a few events."""
    return Decoder(stream)


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
    detail = str(error)
    if reason == "not_a_choice":
        # What msgspec says quotes the text.
        detail = f"none of its choices - at {detail.rpartition(' - at ')[2]}"
    return Reject(reason, detail)


def _reason_of_validation(message: str) -> str:
    if "missing required field" in message:
        return "missing_field"
    if " - at `$." not in message:
        return "not_an_object"
    if message.startswith("Invalid enum value"):
        return "not_a_choice"
    if " of length <=" in message:
        return "too_long"
    if " of length >=" in message:
        return "empty_text"
    if "<=" in message or ">=" in message or "out of range" in message:
        return "out_of_range"
    return "wrong_type"


def _positions(at: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(at, np.int64)
