"""Blocks of lines as records for Kafka: an event of each line of a log, or lines that are JSON already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from contract.event import MAX_VALUE_BYTES, encode
from ingest.access_log import AccessLog
from ingest.lines import lines_of, without_end

# Loading the compiled loops takes longer than reading so much without them.
FEW_BYTES = 4 << 20


@dataclass(frozen=True)
class LineRecords:
    """The records of so many lines, in order: all but the empty ones.

    The key is None for a line that does not parse and goes as it is, to be quarantined.
    """

    lines: int
    keys: list[str | None]
    values: list[bytes]


BlockReader = Callable[[int, bytes], LineRecords]
"""The records of a block of lines that begins at this byte offset."""


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
        return LineRecords(len(lines), [key for key, _ in records], [value for _, value in records])

    return read


def log_records(log: AccessLog) -> BlockReader:
    """Reads an access log's lines: those of the usual form together, the others by themselves."""
    record = log_record(log)
    by_themselves = one_by_one(record)

    def read(offset: int, block: bytes) -> LineRecords:
        if offset < FEW_BYTES:
            return by_themselves(offset, block)
        keys, values, others = log.usual_lines.read(offset, block)
        if not others:
            return LineRecords(len(keys), keys, values)
        for number, first, after in others:
            line = without_end(block[first:after])
            if not _is_empty(line):
                keys[number], values[number] = record(offset + first, line)
        return LineRecords(
            len(keys), [key for key, value in zip(keys, values, strict=True) if value], list(filter(None, values))
        )

    return read


def _is_empty(line: bytes) -> bool:
    # Of a line that is too long only the beginning is here, so nobody can say that it is empty.
    return not line or (line.isspace() and len(line) <= MAX_VALUE_BYTES)
