"""Frames as arguments of SQL functions: arrays of composite rows in PostgreSQL's binary form, for speed and batch alike.

So a commit is one statement, and nothing is staged. The server reads the bytes with the receive functions of the columns'
types, which refuse what is no value of the type; the types themselves are declared in schema_parts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from struct import Struct

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.composite import CompositeInfo

from contract.errors import CatalogueError
from serving.database import Connection, one_row

_POSTGRES_EPOCH = np.datetime64("2000-01-01T00:00:00")
_BIGINT_OID = 20
_FIELD_COUNT = Struct(">i")
_FIELD = Struct(">Ii")  # oid, bytes that follow or -1
_ARRAY = Struct(">iiIii")  # dimensions, whether there are nulls, oid of the elements, how many, number of the first


class Argument(bytes):
    """A value in the binary form of whatever type the function's parameter has."""


class _ArgumentDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Argument) -> bytes:
        return obj


psycopg.adapters.register_dumper(Argument, _ArgumentDumper)


def view_rows(connection: Connection, rows: Mapping[str, pl.DataFrame]) -> Argument:
    """Partial rows by view name, as contract.aggregate gives them, as serving.rows; views without rows may be left out."""
    whole = _composite(connection, "serving.rows")
    if unknown := rows.keys() - set(whole.field_names):
        raise CatalogueError(
            f"rows of view {', '.join(sorted(unknown))}, but the catalogue has only {', '.join(whole.field_names)}"
        )
    record = [_FIELD_COUNT.pack(len(whole.field_names))]
    for name, oid in zip(whole.field_names, whole.field_types, strict=True):
        if name in rows:
            array = row_array(connection, f"serving.{name}_row", rows[name])
            record += [_FIELD.pack(oid, len(array)), array]
        else:
            record.append(_FIELD.pack(oid, -1))
    return Argument(b"".join(record))


def row_array(connection: Connection, type_name: str, frame: pl.DataFrame) -> Argument:
    """The frame's columns that the composite type has, one element a row."""
    composite = _composite(connection, type_name)
    if missing := [name for name in composite.field_names if name not in frame.columns]:
        raise CatalogueError(f"rows for {type_name} have no column {', '.join(missing)}")
    sizes = np.full(len(frame), _FIELD_COUNT.size, np.int64)
    pieces: list[list[bytes]] = []
    for name, oid in zip(composite.field_names, composite.field_types, strict=True):
        cells, cell_sizes = _cells(frame[name])
        pieces += [_packed({"oid": (">u4", oid), "size": (">i4", cell_sizes)}, len(frame)), cells]
        sizes += _FIELD.size + np.maximum(cell_sizes, 0)
    heads = _packed({"size": (">i4", sizes), "fields": (">i4", len(composite.field_names))}, len(frame))
    array = _ARRAY.pack(1, 0, composite.oid, len(frame), 1)
    return Argument(b"".join(chain([array], chain.from_iterable(zip(heads, *pieces, strict=True)))))


def _cells(column: pl.Series) -> tuple[list[bytes], NDArray[np.int64]]:
    """The bytes of each value, and how many they are; -1 and none of a null."""
    if column.null_count():
        present = column.is_not_null().to_numpy()
        cells, sizes = [b""] * len(column), np.full(len(column), -1, np.int64)
        known, sizes[present] = _cells(column.drop_nulls())
        for place, cell in zip(np.flatnonzero(present).tolist(), known, strict=True):
            cells[place] = cell
        return cells, sizes
    if column.dtype == pl.String:
        column = column.cast(pl.Binary)
    if column.dtype == pl.Binary:
        cells = column.to_list()
        return cells, np.fromiter(map(len, cells), np.int64, len(cells))
    if isinstance(column.dtype, pl.List):
        return _bigint_arrays(column)
    numbers = column.to_numpy()
    if isinstance(column.dtype, pl.Datetime):
        numbers = (numbers - _POSTGRES_EPOCH).astype("timedelta64[us]").view(np.int64)
    kind = numbers.dtype.newbyteorder(">")
    return _packed({"value": (kind, numbers)}, len(column)), np.full(len(column), kind.itemsize, np.int64)


def _bigint_arrays(column: pl.Series) -> tuple[list[bytes], NDArray[np.int64]]:
    lists = column.to_arrow()
    numbers, counts = lists.flatten().to_numpy(), lists.value_lengths().to_numpy().astype(np.int64)
    elements = np.empty(len(numbers), [("size", ">i4"), ("value", ">i8")])
    elements["size"], elements["value"] = 8, numbers
    heads = _packed(
        {
            "dimensions": (">i4", 1),
            "nulls": (">i4", 0),
            "oid": (">u4", _BIGINT_OID),
            "count": (">i4", counts),
            "first": (">i4", 1),
        },
        len(column),
    )
    data, sizes = elements.tobytes(), elements.itemsize * counts
    ends = np.cumsum(sizes)
    cells = [
        head + data[first:after] for head, first, after in zip(heads, (ends - sizes).tolist(), ends.tolist(), strict=True)
    ]
    return cells, _ARRAY.size + sizes


def _packed(fields: Mapping[str, tuple[object, object]], count: int) -> list[bytes]:
    """`count` structures of these fields, each with a numpy type and a value, or one value for each structure."""
    structures = np.empty(count, [(name, kind) for name, (kind, _) in fields.items()])
    for name, (_, values) in fields.items():
        structures[name] = values
    packed: list[bytes] = structures.view(f"V{structures.itemsize}").tolist()
    return packed


def _composite(connection: Connection, name: str) -> CompositeInfo:
    """The composite type, which the connection is asked for once."""
    types = connection.adapters.types
    known = types.get(name)
    if not isinstance(known, CompositeInfo):
        # The cast to regtype refuses a name that is none.
        oid, array_oid, field_names, field_types = one_row(
            connection,
            "SELECT t.oid, t.typarray, "
            "array_agg(a.attname::text ORDER BY a.attnum), array_agg(a.atttypid ORDER BY a.attnum) FROM pg_type AS t "
            "JOIN pg_attribute AS a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE t.oid = %s::regtype GROUP BY t.oid",
            [name],
        )
        known = CompositeInfo(name, oid, array_oid, field_names=field_names, field_types=field_types)
        types.add(known)
    return known
