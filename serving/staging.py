"""Frames go into a session's staging tables by COPY: one vectorised encoding for speed and batch, NULL and '' kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import polars as pl
from psycopg import sql

from contract.errors import CatalogueError
from contract.views import VIEWS, View
from serving.database import Connection

STORED_VALUE_BYTES = 4_096
LEDGER_SCHEMA = pl.Schema({"day": pl.Date, "partition": pl.Int32, "counted": pl.Int64, "duplicate": pl.Int64})


def stage_rows(connection: Connection, rows: Mapping[str, pl.DataFrame], views: tuple[View, ...] = VIEWS) -> None:
    """Partial rows by view name, as contract.aggregate gives them; views without rows may be left out."""
    by_name = {view.name: view for view in views}
    for name, frame in rows.items():
        if name not in by_name:
            raise CatalogueError(f"rows of view {name}, but the catalogue has only {', '.join(by_name)}")
        _copy(connection, f"staged_{name}", frame.select(by_name[name].schema.names()))


def stage_ledger(connection: Connection, ledger: pl.DataFrame) -> None:
    """A batch task's counts by day of the event and partition, with LEDGER_SCHEMA."""
    _copy(connection, "staged_ledger", ledger.select(LEDGER_SCHEMA.names()))


def stage_rejects(connection: Connection, topic: str, rejects: pl.DataFrame) -> None:
    """Rejects as contract.event.decode gives them; of the value only the first STORED_VALUE_BYTES."""
    if rejects.is_empty():
        return
    _copy(
        connection,
        "staged_quarantine",
        rejects.select(
            pl.lit(topic).alias("topic"),
            *("partition", "offset", "kafka_time", "reason", "detail", "value_bytes"),
            pl.col("value").bin.slice(0, STORED_VALUE_BYTES),
        ),
    )


def encode_csv(frame: pl.DataFrame) -> bytes:
    """CSV as COPY reads it: text always quoted, so that unquoted nothing is NULL; bytes as \\x…, lists as {…}."""
    encoded = frame.select(_text(name, dtype) for name, dtype in frame.schema.items())
    return encoded.write_csv(include_header=False, quote_style="non_numeric").encode()


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.Binary:
        return (pl.lit("\\x") + column.bin.encode("hex")).alias(name)
    if isinstance(dtype, pl.List):
        return (pl.lit("{") + column.cast(pl.List(pl.String)).list.join(",") + "}").alias(name)
    if isinstance(dtype, pl.Datetime):
        return column.dt.strftime("%Y-%m-%d %H:%M:%S%.6f+00")
    return column


def _copy(connection: Connection, table: str, frame: pl.DataFrame) -> None:
    if frame.is_empty():
        return
    with connection.cursor() as cursor, cursor.copy(_copy_statement(table, tuple(frame.columns))) as copy:
        copy.write(encode_csv(frame))


@cache
def _copy_statement(table: str, columns: tuple[str, ...]) -> bytes:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier("pg_temp", table), names).as_bytes()
