"""Lines of a log of any format as records of their events: those of the usual form many at once, the others one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from contract.event import MAX_VALUE_BYTES, Event, encode
from ingest.formats.clients import Pseudonyms
from ingest.formats.detect import Detected, text_of
from ingest.formats.events import Events
from ingest.formats.logged import Rejected
from ingest.formats.talk import is_talk
from ingest.line_records import LineReader, LineRecords, Record, is_empty, without_mark
from ingest.pieces import without_end

if TYPE_CHECKING:
    from contract.log_line import UsualLines

# Loading the compiled loops takes longer than reading so much without them, and for a line that is due within a second.
FEW_BYTES = 4 << 20
_TALK = Rejected("not_a_request", "line", "what a server says between the lines of requests")
_TOO_LARGE = Rejected("not_a_log_line", "line", f"longer than {MAX_VALUE_BYTES} bytes")


class LogLines(LineReader):
    """Reads a log as it was detected; clients' pseudonyms are made with `key`. Of it are `size_bytes` there, or more."""

    def __init__(self, how: Detected, key: str, size_bytes: int = 0) -> None:
        super().__init__("" if how.rules.host_is_site else how.rules.site)
        self._how = how
        self._events = Events(how.rules, Pseudonyms(key), how.times, self.notes)
        self._read_line, self._event = how.form.read, self._events.event
        self._usual: tuple[str, UsualLines] | None = None
        self._known_bytes = size_bytes

    def text(self) -> str:
        return self._how.text()

    def event(self, event_id: str, offset: int, line: bytes) -> Event | Rejected | None:
        """The event of a line, why it is none, or None of a line that tells of none and is not meant to."""
        if is_empty(line):
            return None
        if len(line) > MAX_VALUE_BYTES:
            return _TOO_LARGE  # only its beginning may be here, so what it says is not known
        text = text_of(without_mark(offset, line))
        if self._how.prefixes.of:
            stripped = self._how.prefixes.strip(text)
            if stripped is None:
                return _TALK if is_talk(text) else Rejected("not_a_log_line", "prefix", f"not{self._how.prefixes.text()}")
            text = stripped
        if text[:1] == "#" and self._how.form.is_directive(text):
            return None
        logged = self._read_line(text)
        if logged is None:
            return _TALK if is_talk(text, self._how.prefixes.of_logger) else Rejected.of(self._how.form.stop(text))
        return self._event(event_id, logged)

    def record(self, source: str, offset: int, line: bytes) -> Record | None:
        event_id = f"{source}:{offset}"
        event = self.event(event_id, offset, line)
        if isinstance(event, Event):
            return event.visitor_id, encode(event)
        if event is None:
            return None
        self.notes.rejected[event] += 1
        return None, line if event is _TOO_LARGE else event.value(event_id, line, self.site)

    def read(self, source: str, offset: int, block: bytes) -> LineRecords:
        self._known_bytes += len(block)
        if self._known_bytes < FEW_BYTES or not self._how.is_usual:
            return super().read(source, offset, block)
        return self.read_together(source, offset, block)

    def read_together(self, source: str, offset: int, block: bytes) -> LineRecords:
        """What read() gives of lines of the usual form, and of others among them."""
        today = int(time.strftime("%Y%m%d", time.gmtime()))
        usual = self.usual_lines(source).read(offset, block, today)
        keys, values = usual.visitors, usual.values
        self.notes.lines += len(keys)
        self.notes.sizes_of_head += usual.sizes_of_head
        self.notes.sizes_of_headers += usual.sizes_of_headers
        if not usual.others:
            return LineRecords(len(keys), keys, values, ())
        for number, first, after in usual.others:
            record = self.record(source, offset + first, without_end(block[first:after]))
            if record is not None:
                keys[number], values[number] = record
        there = [number for number, value in enumerate(values) if value]
        places = dict(zip(there, range(len(there)), strict=True))
        return LineRecords(
            len(keys),
            [keys[number] for number in there],
            [values[number] for number in there],
            [places[number] for number, _, _ in usual.others if number in places],
        )

    def usual_lines(self, source: str) -> UsualLines:
        """What reads the lines of the usual form; the clients that it met are known from one source to the next."""
        if self._usual is None or self._usual[0] != source:
            from contract.log_line import UsualLines  # takes a second: short logs and other verbs do without

            self._usual = source, UsualLines(source, self._how.rules.site, self._events.visitor_id)
        return self._usual[1]

    def pass_over(self, remarks: Iterable[bytes]) -> None:
        for line in remarks:
            self._how.form.is_directive(text_of(line))
