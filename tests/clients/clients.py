"""The clients that `make clients` asks with, and what someone who takes one has to know."""

from __future__ import annotations

from dataclasses import dataclass

_PYTHON = ("venv/bin/python", "ask.py")


@dataclass(frozen=True)
class Client:
    """Its name in the table, how it is started in the image, and what needs a word."""

    name: str
    command: tuple[str, ...]
    word: str = ""


CLIENTS = (
    Client("psycopg", (*_PYTHON, "psycopg"), "nothing"),
    Client("asyncpg", (*_PYTHON, "asyncpg"), "nothing"),
    Client("SQLAlchemy, psycopg", (*_PYTHON, "sqlalchemy"), "it reflects all views"),
    Client(
        "pandas, SQLAlchemy",
        (*_PYTHON, "pandas"),
        "`sum()` loses digits beyond the 15th: `total()`; a day, and a column with nothing but nulls, is `object`",
    ),
    Client(
        "Polars, connectorx", (*_PYTHON, "polars-connectorx"), "of `…_sketches` ask for numbers: `merged_count(visitors)`"
    ),
    Client("Polars, ADBC", (*_PYTHON, "polars-adbc"), "`sum()` is opaque to it: `total()`; of `…_sketches` ask for numbers"),
    Client(
        "DuckDB, attached",
        (*_PYTHON, "duckdb"),
        "`attach … (type postgres)` takes the views as tables; `pytz` was beside it",
    ),
    Client("ibis", (*_PYTHON, "ibis"), "of `…_sketches` ask for numbers, with `sql()`"),
    Client(
        "Spark, JDBC",
        (*_PYTHON, "spark"),
        "the option `driver` is `org.postgresql.Driver`; a time comes as the session's local time, without its zone",
    ),
    Client(
        "dbt, `dbt show`",
        ("dbt/bin/python", "ask.py", "dbt"),
        "a reader lets it make no tables: models are for a database of your own; a histogram comes as text",
    ),
    Client(
        "node-postgres",
        ("node", "ask.mjs"),
        "`bigint` is text: `pg.types.setTypeParser(20, BigInt)`; a day is the client's midnight: ask for `day::text`",
    ),
    Client("pgx", ("ask-pgx",), "`sum()` is a `pgtype.Numeric`: `total()`"),
)
