"""Run in the image of `make clients`: one client of Python asks the questions of the standard input, each for itself.

Prints its version and, by the questions' kinds, the type of what arrived and its value as text, or why nothing did.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HOST, PORT, DATABASE = "timescaledb", 5432, os.environ["BRAID_DATABASE_NAME"]
PASSWORD = Path("/run/secrets/database_reader_password").read_text().strip()
URL = f"postgresql://reader:{PASSWORD}@{HOST}:{PORT}/{DATABASE}?sslmode=disable"

Question = dict[str, str]
Ask = Callable[[Question], tuple[str, Any]]
"""The type of what arrived, in the client's own words, and the value."""


def named(value: object) -> tuple[str, Any]:
    return type(value).__name__, value


def psycopg() -> Ask:
    import psycopg

    connection = psycopg.connect(URL, autocommit=True)
    return lambda question: named(connection.execute(question["sql"]).fetchone()[0])


def asyncpg() -> Ask:
    import asyncpg

    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(URL))
    return lambda question: named(loop.run_until_complete(connection.fetchval(question["sql"])))


def sqlalchemy() -> Ask:
    """Tables as it reflects them."""
    from sqlalchemy import MetaData, Table, func, select

    engine = _engine()

    def ask(question: Question) -> tuple[str, Any]:
        table = Table(question["view"], MetaData(), autoload_with=engine)
        name = question["column"]
        column = func.sum(table.c[name[4:-1]]) if name.startswith("sum(") else table.c[name]
        with engine.connect() as connection:
            return named(connection.execute(select(column).where(table.c.site == question["site"])).scalar_one())

    return ask


def _engine() -> Any:
    from sqlalchemy import create_engine

    return create_engine(URL.replace("postgresql://", "postgresql+psycopg://"))


def pandas() -> Ask:
    import pandas

    engine = _engine()

    def ask(question: Question) -> tuple[str, Any]:
        frame = pandas.read_sql(question["sql"], engine)
        return str(frame.dtypes.iloc[0]), frame.iloc[0, 0]

    return ask


def polars_connectorx() -> Ask:
    return _polars("connectorx")


def polars_adbc() -> Ask:
    return _polars("adbc")


def _polars(engine: Any) -> Ask:
    import polars

    def ask(question: Question) -> tuple[str, Any]:
        column = polars.read_database_uri(question["sql"], URL, engine=engine).to_series()
        return str(column.dtype), column.to_list()[0]

    return ask


def duckdb() -> Ask:
    import duckdb
    import duckdb_ext

    connection = duckdb_ext.init(duckdb.connect())
    connection.execute("load postgres")
    connection.execute(f"attach '{URL}' as braid (type postgres, read_only)")
    connection.execute("use braid.public")

    def ask(question: Question) -> tuple[str, Any]:
        answer = connection.execute(question["sql"])
        return str(answer.description[0][1]), answer.fetchone()[0]

    return ask


def ibis() -> Ask:
    import ibis

    braid = ibis.postgres.connect(host=HOST, port=PORT, user="reader", password=PASSWORD, database=DATABASE)

    def ask(question: Question) -> tuple[str, Any]:
        name = question["column"]
        rows = braid.table(question["view"])
        rows = rows.filter(rows.site == question["site"])
        chosen = rows.aggregate(answer=rows[name[4:-1]].sum()) if name.startswith("sum(") else rows.select(answer=rows[name])
        return str(chosen.schema()["answer"]), chosen.to_pyarrow().column("answer")[0].as_py()

    return ask


def spark() -> Ask:
    from pyspark.sql import SparkSession

    (jar,) = Path("/opt/braid/jars").glob("postgresql-*.jar")
    session = SparkSession.builder.master("local[1]").config("spark.jars", str(jar)).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    options = {"url": f"jdbc:postgresql://{HOST}:{PORT}/{DATABASE}?sslmode=disable", "user": "reader", "password": PASSWORD}
    options |= {"driver": "org.postgresql.Driver"}

    def ask(question: Question) -> tuple[str, Any]:
        frame = session.read.format("jdbc").options(**options).option("query", question["sql"]).load()
        return frame.schema[0].dataType.simpleString(), frame.collect()[0][0]

    return ask


def dbt() -> Ask:
    """`dbt show` of a source; a reader cannot let it make tables."""
    from dbt.cli.main import dbtRunner

    project = Path("/tmp/dbt")
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text('{"name": "braid", "profile": "braid", "model-paths": ["models"]}')
    output = {"type": "postgres", "host": HOST, "port": PORT, "user": "reader", "password": PASSWORD, "dbname": DATABASE}
    output |= {"schema": "public", "sslmode": "disable", "threads": 1}
    (project / "profiles.yml").write_text(json.dumps({"braid": {"target": "it", "outputs": {"it": output}}}))
    views = ("site_traffic", "site_traffic_by_day", "page_traffic", "site_traffic_sketches")
    tables = [{"name": view} for view in views]
    sources = {"version": 2, "sources": [{"name": "braid", "schema": "public", "tables": tables}]}
    (project / "models" / "sources.yml").write_text(json.dumps(sources))
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"

    def ask(question: Question) -> tuple[str, Any]:
        sql = question["sql"].replace(f"from {question['view']} ", f"from {{{{ source('braid', '{question['view']}') }}}} ")
        arguments = ["--quiet", "show", "--inline", sql, "--project-dir", str(project), "--profiles-dir", str(project)]
        ended = dbtRunner().invoke(arguments)
        if not ended.success or not ended.result:
            raise ended.exception or RuntimeError(ended.result.results[0].message)
        return named(ended.result.results[0].agate_table.rows[0][0])

    return ask


def text_of(value: Any) -> str:
    """As the value's own language shows it; a time with a zone in UTC."""
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        return json.dumps([str(entry) for entry in value])
    return "null" if value is None else str(value)


CLIENTS: dict[str, tuple[str, Callable[[], Ask]]] = {
    "psycopg": ("psycopg", psycopg),
    "asyncpg": ("asyncpg", asyncpg),
    "sqlalchemy": ("sqlalchemy", sqlalchemy),
    "pandas": ("pandas", pandas),
    "polars-connectorx": ("connectorx", polars_connectorx),
    "polars-adbc": ("adbc-driver-postgresql", polars_adbc),
    "duckdb": ("duckdb", duckdb),
    "ibis": ("ibis-framework", ibis),
    "spark": ("pyspark", spark),
    "dbt": ("dbt-core", dbt),
}


def main() -> None:
    package, connect = CLIENTS[sys.argv[1]]
    questions: list[Question] = json.load(sys.stdin)
    # What a client prints of its own is no answer.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ask = connect()
    answers = {}
    for question in questions:
        try:
            kind, value = ask(question)
            answers[question["kind"]] = {"type": kind, "text": text_of(value)}
        except BaseException as error:  # connectorx panics with one that is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            answers[question["kind"]] = {"error": f"{error}".strip() or type(error).__name__}
    json.dump({"version": version(package), "answers": answers}, out)
    out.flush()
    # A client whose threads stay would keep the container.
    os._exit(0)


if __name__ == "__main__":
    main()
