"""Blocks of lines as records for Kafka: an event of each line of a log, or lines that are JSON already."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from contract.event import MAX_VALUE_BYTES, encode
from ingest.access_log import AccessLog
from ingest.pieces import lines_of, without_end

# Loading the compiled loops takes longer than reading so much without them, and for a line that is due within a second.
FEW_BYTES = 4 << 20


@dataclass(frozen=True)
class LineRecords:
    """The records of so many lines, in order: all but the empty ones.

    The key is None for a line that does not parse and goes as it is, to be quarantined. `unsure` are the positions of values
    of which only the decoder can say whether they are events; the others are.
    """

    lines: int
    keys: list[str | None]
    values: list[bytes]
    unsure: Sequence[int] = field(compare=False)


BlockReader = Callable[[int, bytes], LineRecords]
"""The records of a block of lines that begins at this byte offset."""


@dataclass(frozen=True)
class LineReader:
    """Reads the lines of one text: `read` takes what ids begin with, the byte offset of a block, and the block.

    `site` is that of the events, empty if each line names its own. `own_ids`: so are their ids.
    """

    read: Callable[[str, int, bytes], LineRecords]
    site: str
    own_ids: bool = False


class Record(Protocol):
    """(key, value) of one line that is not empty."""

    def __call__(self, offset: int, line: bytes) -> tuple[str | None, bytes]: ...


class _Keyed(msgspec.Struct):
    visitor_id: str


_decode_key = msgspec.json.Decoder(_Keyed).decode


def json_record(offset: int, line: bytes) -> tuple[str | None, bytes]:
    """The record of a JSON line: sent as it is, judged by nobody but decode() downstream."""
    try:
        return _decode_key(line).visitor_id, line
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None, line


def log_record(log: AccessLog) -> Record:
    """Records of an access log's lines."""

    def record(offset: int, line: bytes) -> tuple[str | None, bytes]:
        event = log.event(offset, line)
        return (None, line) if event is None else (event.visitor_id, encode(event))

    return record


def one_by_one(record: Record) -> BlockReader:
    """Reads each line of a block by itself."""

    def read(offset: int, block: bytes) -> LineRecords:
        lines = list(lines_of(offset, block))
        records = [record(at, line) for at, line in lines if not _is_empty(line)]
        return LineRecords(len(lines), [key for key, _ in records], [value for _, value in records], range(len(records)))

    return read


def together(log: AccessLog) -> BlockReader:
    """Reads an access log's lines: those of the usual form together, the others by themselves."""
    record = log_record(log)

    def read(offset: int, block: bytes) -> LineRecords:
        keys, values, others = log.usual_lines.read(offset, block, int(time.strftime("%Y%m%d", time.gmtime())))
        if not others:
            return LineRecords(len(keys), keys, values, ())
        for number, first, after in others:
            line = without_end(block[first:after])
            if not _is_empty(line):
                keys[number], values[number] = record(offset + first, line)
        there = [number for number, value in enumerate(values) if value]
        places = dict(zip(there, range(len(there)), strict=True))
        return LineRecords(
            len(keys),
            [keys[number] for number in there],
            [values[number] for number in there],
            [places[number] for number, _, _ in others if number in places],
        )

    return read


class LogReader(AccessLog):
    """An access log whose lines have ids of several sources; its clients are known from one to the next."""

    def __init__(self, site: str, visitor_key: str) -> None:
        super().__init__("", site, visitor_key)
        self._bytes = 0
        self._alone, self._together = one_by_one(log_record(self)), together(self)

    def read(self, source: str, offset: int, block: bytes) -> LineRecords:
        """The records of a block of lines of this source."""
        if source != self._source:
            log = copy(self)
            log._source = source
            log.__dict__.pop("usual_lines", None)
            self._source, self._alone, self._together = source, one_by_one(log_record(log)), together(log)
        self._bytes += len(block)
        return self._alone(offset, block) if self._bytes < FEW_BYTES else self._together(offset, block)


def _is_empty(line: bytes) -> bool:
    # Of a line that is too long only the beginning is here, so nobody can say that it is empty.
    return not line or (line.isspace() and len(line) <= MAX_VALUE_BYTES)
