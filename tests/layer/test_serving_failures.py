"""What the database cannot do is told as what it is; that it does not answer is said only when it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from contract.errors import BraidError, EngineUnavailable, StatementRefused
from contract.settings import Settings
from serving.database import Connection, answering, connect, transaction


def to_server() -> Connection:
    """A session that needs no database of its own."""
    return connect(Settings.from_env(), "postgres", "postgres")


@pytest.fixture
def owner() -> Iterator[Connection]:
    with to_server() as connection:
        yield connection


def lock_timeout(owner: Connection) -> None:
    owner.execute("SET lock_timeout = '1ms'")
    with to_server() as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(%s)", [other.info.backend_pid])
        with transaction(owner):
            owner.execute("SELECT pg_advisory_xact_lock(%s)", [other.info.backend_pid])


def index_row(owner: Connection) -> None:
    owner.execute("CREATE TEMP TABLE keyed (text text PRIMARY KEY)")
    with answering(owner):
        owner.execute("INSERT INTO keyed SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i")


def array_size(owner: Connection) -> None:
    with answering(owner):
        owner.execute("SELECT array_fill(1, ARRAY[2000000000])")


def statement_timeout(owner: Connection) -> None:
    owner.execute("SET statement_timeout = '1ms'")
    with answering(owner):
        owner.execute("SELECT pg_sleep(60)")


def temporary_files(owner: Connection) -> None:
    owner.execute("SET temp_file_limit = '64kB'; SET work_mem = '64kB'")
    with answering(owner):
        owner.execute("SELECT count(*) FROM (SELECT i FROM generate_series(1, 100000) AS i ORDER BY i DESC) AS sorted")


def said(state: str) -> Callable[[Connection], None]:
    """What cannot be had without harm to others: here the server only says it."""

    def say(owner: Connection) -> None:
        with answering(owner):
            owner.execute(sql.SQL("DO $$BEGIN RAISE 'as said' USING ERRCODE = {}; END$$").format(sql.Literal(state)))

    return say


@pytest.mark.parametrize(
    ("fail", "text"),
    [
        (lock_timeout, r"did not get a lock in time \(canceling statement due to lock timeout\); nothing was changed"),
        (index_row, r"cannot store or work on anything so large \(index row .*maximum.*\); .* the same again fails again"),
        (array_size, r"cannot store or work on anything so large \(array size exceeds .*\); .* smaller parts"),
        (statement_timeout, r"broke the statement off, .* \(canceling statement due to statement timeout\); nothing was"),
        (temporary_files, r"has reached a limit of its resources \(temporary file size exceeds .*\); nothing was changed"),
        (said("40P01"), r"ended one of two transactions that waited for each other \(as said\); nothing was changed"),
        (said("53100"), r"has no disk space left \(as said\); nothing was changed; `docker system df`"),
        (said("53200"), r"has no memory left \(as said\); nothing was changed"),
        (said("58030"), r"has trouble with its files \(as said\); nothing was changed; `make logs S=timescaledb`"),
        (said("XX000"), r"met an error of its own \(as said\); nothing was changed; `make logs S=timescaledb`"),
    ],
)
def test_a_server_that_answers_says_what_it_cannot(owner: Connection, fail: Callable[[Connection], None], text: str) -> None:
    with pytest.raises(StatementRefused, match=text) as refused:
        fail(owner)
    assert "does not answer" not in str(refused.value)
    assert owner.execute("SELECT 1").fetchone() == (1,), "the connection is as good as before"


def test_a_session_that_is_ended_is_unavailable() -> None:
    with to_server() as victim:
        ended = r"is shutting down, or somebody ended the session \(terminating connection .*\); try again"
        with pytest.raises(EngineUnavailable, match=ended), answering(victim):
            victim.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(EngineUnavailable, match=r"does not answer \(the connection is closed\)"), answering(victim):
            victim.execute("SELECT 1")


def test_a_server_without_a_free_connection_is_tried_again(database: Settings, owner: Connection) -> None:
    owner.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(sql.Identifier(database.database_name)))
    full = r"has no connection left \(too many connections for database .*\); try again"
    with pytest.raises(EngineUnavailable, match=full):
        connect(database, "reader")


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("FATAL:  sorry, too many clients already", r"has no connection left \(sorry, too many clients already\); try"),
        ("FATAL:  the database system is starting up", r"is starting \(the database system is starting up\); try again"),
        ("FATAL:  the database system is shutting down", r"is shutting down \(the database .*\); try again"),
        ("Connection refused\n\tIs the server running?", r"does not answer \(.*refused Is the server running\?\)"),
    ],
)
def test_a_connection_that_is_not_made_says_why(monkeypatch: pytest.MonkeyPatch, reason: str, text: str) -> None:
    def refuse(**_: object) -> None:
        raise psycopg.OperationalError(f'connection failed: connection to server at "127.0.0.1", port 1 failed: {reason}')

    monkeypatch.setattr(psycopg, "connect", refuse)
    with pytest.raises(EngineUnavailable, match=text):
        connect(replace(Settings.from_env(), database_host="127.0.0.1", database_port=1), "reader")


def test_what_is_wrong_with_a_statement_is_not_for_the_connection_to_say(owner: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn), answering(owner):
        owner.execute("SELECT viws FROM pg_class")
    owner.execute("CREATE TEMP TABLE base (); CREATE TEMP VIEW dependent AS SELECT * FROM base")
    # `refusing` makes a refusal of some of them.
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as raised, answering(owner):
        owner.execute("DROP TABLE base")
    assert not isinstance(raised.value, BraidError)
