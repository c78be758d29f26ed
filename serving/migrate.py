"""Database, roles and schema are made or brought up to date. Safe at every start: an unchanged schema is not touched."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import resources

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from contract.errors import TimedOut
from contract.settings import Settings
from contract.views import VIEWS, View, catalogue_digest
from serving.database import Connection, connect
from serving.schema import script
from serving.schema_merged import shown_sql
from serving.stored_view import stored_versions

# Held while roles or schema change: two migrations at once would meet in PostgreSQL's own catalogue.
_LOCK = 0x42_72_61_69_64
READER_TIMEOUT = "60s"
_READERS_SHARE = 0.6
"""Of all connections; the rest is for the layers, whatever readers do."""
_IDLE = "10 seconds"
MODULE = "braid"
"""The library of serving/native, where the server's own are."""
_PATIENCE_S = 150
WRITER_IDLE_TIMEOUT = "15s"


def migrate(settings: Settings, views: Sequence[View] = VIEWS) -> bool:
    """True if the schema was made or changed, False if it was up to date. Raises SchemaMismatch, TimedOut."""
    with connect(settings, "postgres", "postgres") as server:
        server.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        _roles(server, settings)
        _database(server, settings.database_name)
    contended: list[str] = []
    with connect(settings, "postgres") as database:
        begin_s = time.monotonic()
        attempts = 0
        while (attempt_s := time.monotonic()) < begin_s + _PATIENCE_S:
            attempts += 1
            with suppress(psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable), database.transaction():
                database.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                # Where a query and this lock each other out, or it lasts, this gives way first, and comes again.
                database.execute("SET LOCAL deadlock_timeout = '20ms'")
                database.execute("SET LOCAL lock_timeout = '2s'")
                return _schema(database, views, contended)
            _end_idle_readers(database)
            # Queries that it kept waiting have as long for themselves.
            time.sleep(time.monotonic() - attempt_s)
    raise TimedOut.waiting_to_migrate(_PATIENCE_S, attempts)


def _end_idle_readers(database: Connection) -> None:
    """Whoever stands still in a transaction and holds what is waited for."""
    with database.transaction():
        database.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        # The function may not be there yet.
        database.execute(resources.files("serving").joinpath("sql", "05_idle.sql").read_bytes())
        database.execute("SELECT serving.end_idle_readers(%s)", [_IDLE])


def _roles(server: Connection, settings: Settings) -> None:
    known = {name for (name,) in server.execute("SELECT rolname FROM pg_roles")}
    if "braid_owner" not in known:
        server.execute("CREATE ROLE braid_owner NOLOGIN")
    # For serving.end_idle_readers.
    server.execute("GRANT pg_signal_backend, pg_read_all_stats TO braid_owner")
    for role in ("reader", "speed", "batch"):
        verb = "ALTER" if role in known else "CREATE"
        # Utility statements take no parameters.
        server.execute(
            sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                sql.SQL(verb), sql.Identifier(role), sql.Literal(settings.secret(f"database_{role}_password"))
            )
        )
    server.execute(sql.SQL("ALTER ROLE reader SET statement_timeout = {}").format(sql.Literal(READER_TIMEOUT)))
    # An older schema ended every transaction that stood still. Now only those that are in the way are: end_idle_readers.
    server.execute("ALTER ROLE reader RESET idle_in_transaction_session_timeout")
    # guard: readers leave connections for the layers
    (most,) = server.execute("SELECT current_setting('max_connections')::int").fetchone() or (100,)
    server.execute(sql.SQL("ALTER ROLE reader CONNECTION LIMIT {}").format(sql.Literal(max(1, int(most * _READERS_SHARE)))))
    server.execute("ALTER ROLE reader SET default_transaction_read_only = on")
    for role in ("speed", "batch"):
        # The hand-off's locks must not be held by a process that stands still in mid-transaction.
        server.execute(
            sql.SQL("ALTER ROLE {} SET idle_in_transaction_session_timeout = {}").format(
                sql.Identifier(role), sql.Literal(WRITER_IDLE_TIMEOUT)
            )
        )


def _database(server: Connection, name: str) -> None:
    database = sql.Identifier(name)
    if not server.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
        # Order by code point, so that sorted output is the same on every machine.
        server.execute(
            sql.SQL(
                "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin "
                "BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C.UTF-8'"
            ).format(database)
        )
    for statement in (
        "ALTER DATABASE {} OWNER TO braid_owner",
        "ALTER DATABASE {} SET timezone = 'UTC'",
        "REVOKE ALL ON DATABASE {} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {} TO reader, speed, batch",
    ):
        server.execute(sql.SQL(statement).format(database))


def _schema(database: Connection, views: Sequence[View], contended: list[str]) -> bool:
    stored, native = stored_versions(database, views), _has_module(database)
    # Replacing a view locks out its readers, so what is up to date, by the schema's comment, is left alone.
    whole = script([replace(view, shown=True) for view in stored], native)
    version = f"script {hashlib.sha256(whole.encode()).hexdigest()}"
    if database.execute("SELECT obj_description(to_regnamespace('serving'))").fetchone() == (version,):
        return False
    _lock_views(database, contended)
    if database.execute("SELECT to_regclass('serving.speed_progress')").fetchone() != (None,):
        # No commit is half way while the catalogue changes: each is one of the old or one of the new.
        database.execute("LOCK TABLE serving.speed_progress IN EXCLUSIVE MODE")
    stored = stored_versions(database, views)
    database.execute(script(stored, native).encode())
    versions = [
        {
            "view_name": view.name,
            "version": view.version,
            "digest": view.digest,
            "state": "live" if view.shown else "building",
            "shown_sql": shown_sql(view),
        }
        for view in stored
    ]
    database.execute("SELECT serving.set_catalogue(%s, %s)", [catalogue_digest(views), Jsonb(versions)])
    database.execute(sql.SQL("COMMENT ON SCHEMA serving IS {}").format(sql.Literal(version)))
    return True


def _has_module(database: Connection) -> bool:
    """Whether the server has our module; one that we may load nothing into, as a managed one, does without."""
    with suppress(psycopg.errors.UndefinedFile, psycopg.errors.InsufficientPrivilege), database.transaction():
        database.execute(sql.SQL("LOAD {}").format(sql.Literal(MODULE)))
        return True
    return False


def _lock_views(database: Connection, contended: list[str]) -> None:
    """Queries that come now wait, and hold nothing that is needed here: they too take their locks from the outside in.

    A query names views in an order of its own, and one that never stops being asked would win each time against
    another order. So a view that could not be locked goes to the front of `contended`, and is waited for first the next
    time, while nothing else is held: the order becomes the query's own.
    """
    views = database.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public' AND viewowner = 'braid_owner'")
    names = {name for (name,) in views.fetchall()}
    for name in [name for name in contended if name in names] + sorted(names.difference(contended)):
        try:
            # It changes nothing, and locks the view alone, while LOCK TABLE would lock all that is behind it.
            database.execute(sql.SQL("ALTER VIEW {} RESET (security_barrier)").format(sql.Identifier("public", name)))
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
            contended[:] = [name, *(other for other in contended if other != name)]
            raise
