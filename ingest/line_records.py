"""Blocks of lines as records for Kafka: what every reader of lines does, and lines that are events already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from contract.event import MAX_VALUE_BYTES
from ingest.formats.notes import Notes
from ingest.pieces import lines_of

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Record = tuple[str | None, bytes]
"""Key and value; the key is None of what is no event."""


@dataclass(frozen=True)
class LineRecords:
    """The records of so many lines, in order: all but empty ones and those that are about other lines.

    `unsure` are the positions of values of which only the decoder can say whether they are events; the others are.
    """

    lines: int
    keys: list[str | None]
    values: list[bytes]
    unsure: Sequence[int] = field(compare=False)


class LineReader(ABC):
    """Makes records of the lines of one text, which come in order.

    `site` is that of the events, empty if each line names its own. `own_ids`: so are their ids. `notes` has what it met.
    """

    def __init__(self, site: str = "", own_ids: bool = False) -> None:
        self.site, self.own_ids, self.notes = site, own_ids, Notes()

    @abstractmethod
    def text(self) -> str:
        """For people: how the text is read."""

    @abstractmethod
    def record(self, source: str, offset: int, line: bytes) -> Record | None:
        """The record of the line at a byte offset of this source, or None if it has none."""

    def read(self, source: str, offset: int, block: bytes) -> LineRecords:
        """The records of a block of lines that begins at this byte offset; ids begin with the source."""
        lines = list(lines_of(offset, block))
        found = [record for at, line in lines if (record := self.record(source, at, line)) is not None]
        self.notes.lines += len(lines)
        return LineRecords(len(lines), [key for key, _ in found], [value for _, value in found], range(len(found)))

    def pass_over(self, remarks: Iterable[bytes]) -> None:
        """Take from remarks among lines that were counted before what they say of later ones."""
        return


class EventLines(LineReader):
    """JSON lines that are events already: sent as they are, judged by nobody but decode() downstream."""

    def __init__(self) -> None:
        super().__init__(own_ids=True)

    def text(self) -> str:
        return "read as JSON lines that are events"

    def record(self, source: str, offset: int, line: bytes) -> Record | None:
        line = without_mark(offset, line)
        if is_empty(line):
            return None
        try:
            return _decode_key(line).visitor_id, line
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None, line


class _Keyed(msgspec.Struct):
    visitor_id: str


_decode_key = msgspec.json.Decoder(_Keyed).decode


def without_mark(offset: int, line: bytes) -> bytes:
    """A line without the byte order mark that the first one of a text may have."""
    return line if offset else line.removeprefix(_BYTE_ORDER_MARK)


def is_empty(line: bytes) -> bool:
    """Whether there is nothing in it; of a line that is too long only the beginning is here, so nobody can say so."""
    return not line or (line.isspace() and len(line) <= MAX_VALUE_BYTES)
