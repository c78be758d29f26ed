"""Connections to TimescaleDB, one role a layer: reader, speed, batch; postgres only to make the schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, LiteralString
from urllib.parse import quote

import psycopg

from contract.errors import BraidError, CatalogueChanged, LoginRefused, PositionLost, RollbackRefused, RunRefused
from contract.settings import Settings
from serving.failures import failure, not_connected

Role = Literal["reader", "speed", "batch", "postgres"]
Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_S = 5
_REFUSALS: dict[str, Callable[[str | None], BraidError]] = {
    "BR001": RunRefused.because,  # sql/50_batch.sql
    "2BP01": RunRefused.because,  # somebody's own views depend on one that a publication takes away
    "BR002": CatalogueChanged.because,  # sql/75_catalogue.sql
    "BR003": RollbackRefused.because,  # sql/65_rollback.sql
    "BR004": PositionLost.because,  # sql/40_speed.sql, sql/50_batch.sql
}
# libpq keeps no SQLSTATE of a connection that failed, so the text decides; our server's is English, whatever the client's.
_NOT_LET_IN = re.compile(
    r"(?P<password>password authentication failed|no password supplied)"
    r"|FATAL: +(?P<otherwise>(?:database|role) .* does not exist|no pg_hba\.conf entry.*|role .* is not permitted to log in"
    r"|permission denied for database .*)"
)


def connect(settings: Settings, role: Role, database_name: str | None = None) -> Connection:
    """A connection in autocommit mode. Raises EngineUnavailable, or LoginRefused by a server that does answer."""
    secret = "database_superuser_password" if role == "postgres" else f"database_{role}_password"
    try:
        return psycopg.connect(
            host=settings.database_host,
            port=settings.database_port,
            dbname=database_name or settings.database_name,
            user=role,
            password=settings.secret(secret),
            application_name=f"braid {role}",
            connect_timeout=CONNECT_TIMEOUT_S,
            autocommit=True,
            # A server that vanishes without a word, as behind a broken network, is given up after 20 s. TCP alone would wait
            # a quarter of an hour for an answer, and for ever where nothing was sent.
            keepalives_idle=5,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
        )
    except psycopg.OperationalError as error:
        address = f"{settings.database_host}:{settings.database_port}"
        raise _not_let_in(error, role, address, secret) or not_connected(error, address) from None


def _not_let_in(error: psycopg.OperationalError, role: Role, address: str, secret: str) -> LoginRefused | None:
    refusal = _NOT_LET_IN.search(str(error))
    if refusal is None:
        return None
    if refusal["password"]:
        return LoginRefused.password(role, address, secret, refusal["password"])
    return LoginRefused.otherwise(role, address, refusal["otherwise"])


@contextmanager
def answering(connection: Connection) -> Iterator[None]:
    """A server that goes away meanwhile raises EngineUnavailable; repeat the call on a new connection.

    One that answers, and cannot, raises StatementRefused: for want of a lock, time, room or a connection, or because
    something is too large. What is wrong with the statement itself raises what psycopg raises.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InternalError) as error:
        told = failure(error, f"{connection.info.host}:{connection.info.port}")
        if told is None:
            raise
        raise told from error


@contextmanager
def refusing() -> Iterator[None]:
    """What functions of the schema refuse raises the error of its SQLSTATE."""
    try:
        yield
    except psycopg.DatabaseError as error:
        because = _REFUSALS.get(error.sqlstate or "")
        if because is None:
            raise
        raise because(error.diag.message_primary) from None


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Several statements, all or nothing; one alone is a transaction anyway. Raises as `answering` does."""
    with answering(connection), connection.transaction():
        yield


def one_row(connection: Connection, query: LiteralString, parameters: list[Any]) -> tuple[Any, ...]:
    """The row of a query that always has one, as a call of a function does."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row


def one_value(connection: Connection, query: LiteralString, parameters: list[Any]) -> Any:
    """Its first column."""
    return one_row(connection, query, parameters)[0]


NO_TLS = "sslmode=disable"
"""Some clients ask for TLS unless they are told that the server has none."""


def reader_address(settings: Settings, host: str, port: int, show_password: bool) -> str:
    """What clients of the reader role connect with."""
    password = f":{quote(settings.secret('database_reader_password'), safe='')}" if show_password else ""
    return f"postgresql://reader{password}@{host}:{port}/{settings.database_name}?{NO_TLS}"


def reader_dsn(settings: Settings, host: str, port: int) -> str:
    """The same for what connects at once, password included."""
    return reader_address(settings, host, port, show_password=True)
