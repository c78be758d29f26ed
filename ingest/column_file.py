"""Tables as records for Kafka: CSV and Parquet, with names of columns as people have them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import polars as pl

from contract.errors import InputError
from ingest.formats.catalogue import AUTO, COLUMN_FORMATS
from ingest.formats.rows import Rows
from ingest.line_records import LineRecords

_PARQUET_MAGIC = b"PAR1"
_SEPARATORS = ",;\t|"
_BATCH_ROWS = 20_000


def column_format(head: bytes, wanted: str, has_keys: bool) -> str | None:
    """Which table a file is that begins so, or None if it is none.

    A table with other names than an event's, or without a header of them, is only one if somebody says so.
    """
    if wanted in COLUMN_FORMATS:
        return wanted
    if wanted != AUTO:
        return None
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    header = head.partition(b"\n")[0].decode("utf-8", "replace")
    is_table = not header.lstrip("\ufeff").startswith("{") and any(
        header.count(separator) and (has_keys or "event_time" in header.split(separator)) for separator in _SEPARATORS
    )
    return "csv" if is_table else None


def records(text: BinaryIO, form: str, rows: Rows, source: str) -> Iterator[LineRecords]:
    """The records of a table's rows, some at a time; a row without event_id gets `source` and its number. Polars reads files
    alone, so the table is copied into a temporary one. Raises InputError if it is none, or lacks a column."""
    with tempfile.NamedTemporaryFile(prefix="braid-table-") as copy:
        shutil.copyfileobj(text, copy)
        copy.flush()
        try:
            yield from _records(_scan(copy.name, form), rows, source)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"it cannot be read as {form}: {' '.join(str(error).split())[:300]}") from error


def _scan(path: str, form: str) -> pl.LazyFrame:
    if form == "parquet":
        return pl.scan_parquet(path)
    with open(path, encoding="utf-8-sig", errors="replace") as text:
        header = text.readline()
    separator = max(_SEPARATORS, key=header.count)
    # Types are those of an event, not those that a file's first rows seem to have.
    return pl.scan_csv(path, separator=separator, infer_schema=False, encoding="utf8-lossy")


def _records(table: pl.LazyFrame, rows: Rows, source: str) -> Iterator[LineRecords]:
    schema = table.collect_schema()
    rows.require(schema.names())
    time = schema.get(rows.keys.get("event_time", "event_time"))
    if isinstance(time, pl.Datetime) and time.time_zone is None and rows.zone is None:
        raise InputError("its times have no zone; say of which zone they are, as LOG_ZONE=Europe/Berlin or LOG_ZONE=UTC")
    number = 0
    for batch in table.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
        found = [rows.record(f"{source}:{number + at}", row) for at, row in enumerate(batch.iter_rows(named=True))]
        number += len(found)
        yield LineRecords(len(found), [key for key, _ in found], [value for _, value in found])
