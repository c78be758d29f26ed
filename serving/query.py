"""One SQL statement as the reader role; the result as a table, as CSV with a header line, or as JSON."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

import psycopg
from psycopg.pq import ExecStatus
from psycopg.types.string import TextLoader

from contract.errors import QueryRefused
from serving.database import Connection

# Object identifiers of PostgreSQL's own types; they never change.
_INTEGERS, _NUMBERS, _BOOLEAN, _JSON = (20, 21, 23), (700, 701, 1700), 16, (114, 3802)
NUMERIC_TYPES = (*_INTEGERS, *_NUMBERS)


_UNLIMITED = 10_000_000


@dataclass(frozen=True)
class Result:
    """Column names, PostgreSQL's type identifiers, and values in PostgreSQL's own text form."""

    columns: tuple[str, ...]
    types: tuple[int, ...]
    rows: Sequence[tuple[str | None, ...]]


def run_query(connection: Connection, query: str) -> Result:
    """The result of exactly one statement. Raises QueryRefused with the database's message."""
    try:
        # Preparing is what refuses several statements; in a raw cursor % means itself.
        with psycopg.RawCursor(connection) as cursor:
            cursor.execute(_utf8(query), prepare=True)
            answer = cursor.pgresult
            if answer is None or answer.status == ExecStatus.EMPTY_QUERY:
                raise QueryRefused("the statement is empty; try 'SELECT * FROM ledger'")
            columns = range(answer.nfields)
            return Result(
                tuple((answer.fname(column) or b"").decode() for column in columns),
                tuple(answer.ftype(column) for column in columns),
                [tuple(_decode(answer.get_value(row, column)) for column in columns) for row in range(answer.ntuples)],
            )
    except psycopg.Error as error:
        raise QueryRefused.by_database(str(error)) from None


def first_rows(connection: Connection, query: str, most_rows: int, most_bytes: int) -> tuple[Result, bool]:
    """The same, and no more than so many rows and bytes of it; whether there was more. The rest is not fetched.

    A connection of which a result was cut is good for nothing else.
    """
    columns, types = _described(connection, query)
    # Values stay as text, so that none is refused that Python has no type for.
    for kind in connection.adapters.types:
        for identifier in {0, kind.oid, kind.array_oid}:
            connection.adapters.register_loader(identifier, TextLoader)
    rows: list[tuple[str | None, ...]] = []
    size_bytes, is_cut = 0, False
    try:
        with psycopg.RawCursor(connection) as cursor:
            for _ in cursor.stream(_utf8(query)):
                answer = cursor.pgresult
                assert answer is not None
                row = tuple(_decode(answer.get_value(0, column)) for column in range(answer.nfields))
                size_bytes += sum(len(value or "") for value in row)
                # guard: no more than a page shows
                if len(rows) == most_rows or size_bytes > most_bytes:
                    is_cut = True
                    break
                rows.append(row)
    except psycopg.Error as error:
        raise QueryRefused.by_database(str(error)) from None
    return Result(columns, types, rows), is_cut


def _described(connection: Connection, query: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The columns of what a statement will give, by name and type. Raises QueryRefused, also of one that gives none."""
    prepared = connection.pgconn.prepare(b"", _utf8(query))
    if prepared.status != ExecStatus.COMMAND_OK:
        message = prepared.error_message.decode("utf-8", "replace")
        raise QueryRefused.by_database(message)
    described = connection.pgconn.describe_prepared(b"")
    if not described.nfields:
        raise QueryRefused("the statement gives no rows; try 'SELECT * FROM ledger'")
    columns = range(described.nfields)
    names = tuple((described.fname(column) or b"").decode() for column in columns)
    return names, tuple(described.ftype(column) for column in columns)


def write_result(result: Result, format_name: str, out: TextIO) -> None:
    """The result and nothing else; `format_name` is one of FORMATS."""
    FORMATS[format_name](result, out)


def _utf8(query: str) -> bytes:
    try:
        return query.encode()
    except UnicodeEncodeError:
        raise QueryRefused("the statement is not UTF-8 text") from None


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _write_csv(result: Result, out: TextIO) -> None:
    # As psql --csv writes it: NULL is nothing, the empty text too.
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows(result.rows)


def _write_json(result: Result, out: TextIO) -> None:
    # Values are written as the database has them: a number that passes through a float loses digits beyond the 15th.
    names = [json.dumps(name, ensure_ascii=False) for name in numbered(result.columns)]
    converters = [_json_converter(kind) for kind in result.types]
    lines = (
        ", ".join(
            f"{name}: {'null' if value is None else convert(value)}"
            for name, value, convert in zip(names, row, converters, strict=True)
        )
        for row in result.rows
    )
    out.write("[" + ",\n ".join(f"{{{line}}}" for line in lines) + "]\n")


def numbered(names: Sequence[str]) -> list[str]:
    """The names, each but once: the second `a` is `a_2`, for an object of JSON keeps one value of a name."""
    taken, given = set(names), list[str]()
    for name in names:
        number = 1
        unique = name
        # guard: no column is lost
        while unique in given or (number > 1 and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        given.append(unique)
    return given


def _json_converter(kind: int) -> Callable[[str], str]:
    if kind in _INTEGERS + _JSON:
        return str
    if kind in _NUMBERS:
        return _number
    return (lambda text: "true" if text == "t" else "false") if kind == _BOOLEAN else _text


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _number(text: str) -> str:
    # JSON knows neither NaN nor infinity.
    return _text(text) if text.lstrip("-") in ("NaN", "Infinity") else text


def _write_table(result: Result, out: TextIO) -> None:
    # Who asks for another form need not wait for it.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, kind in zip(result.columns, result.types, strict=True):
        numeric = kind in _INTEGERS + _NUMBERS
        table.add_column(Text(_visible(name)), justify="right" if numeric else "left")
    for row in result.rows:
        table.add_row(*(Text("" if value is None else _visible(value)) for value in row))
    # Each row on one line, however wide: a value that is cut or folded cannot be copied.
    Console(file=out, markup=False, highlight=False, width=_UNLIMITED).print(table)


def _visible(text: str) -> str:
    """Control characters in stored text must not steer the terminal."""
    return "".join("�" if unicodedata.category(character) in ("Cc", "Cf") else character for character in text)


FORMATS: dict[str, Callable[[Result, TextIO], None]] = {"table": _write_table, "csv": _write_csv, "json": _write_json}
