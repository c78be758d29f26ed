"""Blocks of lines as records for Kafka: an event of each line of a log, or lines that are events already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from contract.errors import InputError
from contract.event import MAX_VALUE_BYTES, Event, encode
from ingest.formats.catalogue import AUTO, EVENT_LINES
from ingest.formats.clients import Pseudonyms
from ingest.formats.detect import Detected, WantedLog, detect, text_of, texts_of
from ingest.formats.events import Events
from ingest.formats.json_form import object_of
from ingest.formats.logged import Rejected
from ingest.formats.rows import Rows
from ingest.formats.talk import is_talk
from ingest.formats.tally import Tally
from ingest.formats.times import zone_of
from ingest.lines import lines_of, without_end

if TYPE_CHECKING:
    from contract.log_line import UsualLines

# Loading the compiled loops takes longer than reading so much without them.
FEW_BYTES = 4 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OF_EVENTS = frozenset({"event_id", "event_time", "visitor_id"})
_TALK = Rejected("not_a_request", "line", "what a server says between the lines of requests")
_TOO_LARGE = Rejected("not_a_log_line", "line", f"longer than {MAX_VALUE_BYTES} bytes")

Record = tuple[str | None, bytes]
"""Key and value; the key is None of what is no event."""


@dataclass(frozen=True)
class LineRecords:
    """The records of so many lines, in order: all but empty ones and those that are about other lines."""

    lines: int
    keys: list[str | None]
    values: list[bytes]


class LineReader(ABC):
    """Makes records of one file's lines. They must come in order, also those that are not read but passed over."""

    def __init__(self) -> None:
        self.tally = Tally()

    @abstractmethod
    def text(self) -> str:
        """For people: how the file is read."""

    @abstractmethod
    def record(self, offset: int, line: bytes) -> Record | None:
        """The record of the line at a byte offset, or None if it has none."""

    def read(self, offset: int, block: bytes) -> LineRecords:
        """The records of a block of lines that begins at this byte offset."""
        lines = list(lines_of(offset, block))
        found = [record for at, line in lines if (record := self.record(at, line)) is not None]
        self.tally.lines += len(lines)
        return LineRecords(len(lines), [key for key, _ in found], [value for _, value in found])

    def pass_over(self, block: bytes) -> None:
        """Take from lines that were counted before what they say of later ones."""
        return


class EventLines(LineReader):
    """JSON lines that are events already: sent as they are, judged by nobody but decode() downstream."""

    def text(self) -> str:
        return "read as JSON lines that are events"

    def record(self, offset: int, line: bytes) -> Record | None:
        line = line if offset else line.removeprefix(_BYTE_ORDER_MARK)
        if _is_empty(line):
            return None
        try:
            return _decode_key(line).visitor_id, line
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None, line


class LogLines(LineReader):
    """Lines of a log. Those of the usual form are read together, the others one by one."""

    def __init__(self, how: Detected, source: str, key: str) -> None:
        super().__init__()
        self._how, self._source = how, source
        self._events = Events(source, how.rules, Pseudonyms(key), how.times, self.tally)
        self._read_line, self._event = how.form.read, self._events.event

    def text(self) -> str:
        return self._how.text()

    def event(self, offset: int, line: bytes) -> Event | Rejected | None:
        """The event of a line, why it is none, or None of a line that tells of none and is not meant to."""
        if _is_empty(line):
            return None
        if len(line) > MAX_VALUE_BYTES:
            return _TOO_LARGE  # only its beginning may be here, so what it says is not known
        text = text_of(line if offset else line.removeprefix(_BYTE_ORDER_MARK))
        if self._how.prefixes.of:
            stripped = self._how.prefixes.strip(text)
            if stripped is None:
                return _TALK if is_talk(text) else Rejected("not_a_log_line", "prefix", f"not{self._how.prefixes.text()}")
            text = stripped
        if text[:1] == "#" and self._how.form.is_directive(text):
            return None
        logged = self._read_line(text)
        if logged is None:
            return _TALK if is_talk(text) else Rejected.of(self._how.form.stop(text))
        return self._event(offset, logged)

    def record(self, offset: int, line: bytes) -> Record | None:
        event = self.event(offset, line)
        if isinstance(event, Event):
            self.tally.events += 1
            return event.visitor_id, encode(event)
        if event is None:
            return None
        self.tally.rejected[event] += 1
        return None, line if event is _TOO_LARGE else event.value(f"{self._source}:{offset}", line)

    def read(self, offset: int, block: bytes) -> LineRecords:
        if offset < FEW_BYTES or not self._how.is_usual:
            return super().read(offset, block)
        usual = self._usual_lines.read(offset, block)
        keys, values = usual.visitors, usual.values
        self.tally.lines += len(keys)
        self.tally.events += len(keys) - len(usual.others)
        self.tally.sizes_of_head += usual.sizes_of_head
        self.tally.sizes_of_headers += usual.sizes_of_headers
        if not usual.others:
            return LineRecords(len(keys), keys, values)
        for number, first, after in usual.others:
            record = self.record(offset + first, without_end(block[first:after]))
            if record is not None:
                keys[number], values[number] = record
        return LineRecords(
            len(keys), [key for key, value in zip(keys, values, strict=True) if value], list(filter(None, values))
        )

    def pass_over(self, block: bytes) -> None:
        if block[:1] == b"#" or b"\n#" in block:
            for _, line in lines_of(0, block):
                self._how.form.is_directive(text_of(line))

    @cached_property
    def _usual_lines(self) -> UsualLines:
        from contract.log_line import UsualLines  # takes a second: short logs and other verbs do without

        return UsualLines(self._source, self._how.rules.site, self._events.visitor_id)


class RowLines(LineReader):
    """JSON lines with the fields of events under other names."""

    def __init__(self, rows: Rows, source: str) -> None:
        super().__init__()
        self._rows, self._source = rows, source

    def text(self) -> str:
        return "read as JSON lines with the names of MAP="

    def record(self, offset: int, line: bytes) -> Record | None:
        if _is_empty(line):
            return None
        row = object_of(text_of(line if offset else line.removeprefix(_BYTE_ORDER_MARK)))
        if row is None or len(line) > MAX_VALUE_BYTES:
            return None, line
        return self._rows.record(f"{self._source}:{offset}", row)


class _Keyed(msgspec.Struct):
    visitor_id: str


_decode_key = msgspec.json.Decoder(_Keyed).decode


def reader_for(sample: Sequence[bytes], wanted: WantedLog, source: str, key: Callable[[], str]) -> LineReader:
    """The reader of a file that begins with these lines; InputError if its lines cannot be counted.

    `key` gives the key of pseudonyms, for logs.
    """
    if wanted.format == EVENT_LINES or (wanted.format == AUTO and not wanted.keys and _are_events(sample)):
        if wanted.site is not None:
            raise InputError(
                f"its lines are events, each of which says its own site, so SITE={wanted.site} is not for them; leave it out"
            )
        return EventLines()
    if wanted.keys and set(wanted.keys) & _OF_EVENTS:
        rows = Rows(wanted.keys, wanted.site, None if wanted.zone is None else zone_of(wanted.zone), key())
        rows.require({name for text in texts_of(sample) for name in object_of(text) or ()})
        return RowLines(rows, source)
    return LogLines(detect(sample, wanted), source, key())


def _are_events(sample: Sequence[bytes]) -> bool:
    texts = texts_of(sample)
    events = sum(1 for text in texts if _OF_EVENTS & (object_of(text) or {}).keys())
    return 2 * events > len(texts)


def _is_empty(line: bytes) -> bool:
    # Of a line that is too long only the beginning is here, so nobody can say that it is empty.
    return not line or (line.isspace() and len(line) <= MAX_VALUE_BYTES)
