"""Lines that are rows under names of their own, as records of the events that a mapping makes of them: JSON and CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from contract.errors import InputError
from contract.event import MAX_VALUE_BYTES
from ingest.formats.detect import text_of, texts_of
from ingest.formats.json_form import object_of
from ingest.formats.logged import Rejected
from ingest.formats.rows import Rows
from ingest.line_records import LineReader, Record, is_empty, without_mark

_SEPARATORS = ",;\t|"
_NO_OBJECT = Rejected("not_a_log_line", "line", "no JSON object")


class RowLines(LineReader):
    """JSON lines with the fields of events under other names."""

    def __init__(self, rows: Rows, sample: Sequence[bytes]) -> None:
        names = {name for text in texts_of(sample) for name in object_of(text) or ()}
        rows.require(names)
        super().__init__(rows.site or "", rows.name_of("event_id") in names)
        self._rows = rows

    def text(self) -> str:
        return "read as JSON lines with the names of MAP="

    def record(self, source: str, offset: int, line: bytes) -> Record | None:
        if is_empty(line):
            return None
        if len(line) > MAX_VALUE_BYTES:
            return None, line
        event_id = f"{source}:{offset}"
        row = object_of(text_of(without_mark(offset, line)))
        if row is None:
            self.notes.rejected[_NO_OBJECT] += 1
            return None, _NO_OBJECT.value(event_id, line, self.site)
        return self._rows.record(event_id, row)


class CsvLines(LineReader):
    """Lines of comma-separated values, or of some other separator, below a line with their names."""

    def __init__(self, rows: Rows, sample: Sequence[bytes]) -> None:
        header = next(iter(texts_of(sample)), "")
        self._separator = separator_of(header)
        self._header, self._names = header, _values(header, self._separator)
        if len(set(self._names)) < len(self._names):
            raise InputError(f"two of its columns have the same name; they are {', '.join(self._names)}")
        rows.require(self._names)
        super().__init__(rows.site or "", rows.name_of("event_id") in self._names)
        self._rows = rows

    def text(self) -> str:
        return f"read as CSV with the columns {', '.join(self._names)}"

    def record(self, source: str, offset: int, line: bytes) -> Record | None:
        if is_empty(line):
            return None
        if len(line) > MAX_VALUE_BYTES:
            return None, line
        event_id, text = f"{source}:{offset}", text_of(without_mark(offset, line))
        if text == self._header:
            return None
        row = self._row(text)
        if isinstance(row, dict):
            return self._rows.record(event_id, row)
        self.notes.rejected[row] += 1
        return None, row.value(event_id, line, self.site)

    def _row(self, text: str) -> dict[str, Any] | Rejected:
        if text.count('"') % 2:
            return Rejected(
                "not_a_log_line", "column", "a quote that has no end in its line; rows of several lines are not read"
            )
        values = _values(text, self._separator)
        if len(values) != len(self._names):
            return Rejected("not_a_log_line", "column", f"{len(values)} columns, and the first line has {len(self._names)}")
        return {name: value for name, value in zip(self._names, values, strict=True) if value}


def separator_of(header: str) -> str:
    """What stands between the names of columns."""
    return max(_SEPARATORS, key=header.count)


def is_csv(sample: Sequence[bytes], keys: Mapping[str, str]) -> bool:
    """Whether lines that begin so are CSV: names of columns first, some of which are an event's, or in the mapping."""
    header = next(iter(texts_of(sample)), "")
    names = _values(header, separator_of(header))
    return len(names) > 1 and not {"event_time", *keys.values()}.isdisjoint(names)


def _values(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader((text,), delimiter=separator), [])
    except csv.Error:  # a carriage return in it
        return []
