"""What went wrong when a statement or a connection failed: the server is gone, or it answers and says why not."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg

from contract.errors import BraidError, EngineUnavailable, StatementRefused

_ENGINE = "TimescaleDB"


@dataclass(frozen=True)
class _Reason:
    """What the server could not do, and what a person does about it."""

    what: str
    advice: str


_AGAIN = "nothing was changed; the same again may work"
_LARGE = "nothing was changed, and the same again fails again; whatever is so large must come in smaller parts"
# By SQLSTATE, or by its class where all of that mean the same.
_REASONS = {
    "55P03": _Reason("did not get a lock in time", f"{_AGAIN}, `select * from pg_stat_activity` shows who holds it"),
    "40P01": _Reason("ended one of two transactions that waited for each other", _AGAIN),
    "40001": _Reason("could not put two transactions in an order", _AGAIN),
    "57014": _Reason("broke the statement off, because it took too long or somebody cancelled it", _AGAIN),
    "53300": _Reason("has no connection left", f"{_AGAIN} when others have ended, or raise max_connections"),
    "53100": _Reason("has no disk space left", "nothing was changed; `docker system df` and `df -h` show what takes it"),
    "53200": _Reason("has no memory left", f"{_AGAIN} when less runs beside it"),
    "53": _Reason("has reached a limit of its resources", _AGAIN),
    "54": _Reason("cannot store or work on anything so large", _LARGE),
    "08P01": _Reason("was sent something that it does not understand, as an argument of more than 1 GB is", _LARGE),
    "58": _Reason("has trouble with its files", "nothing was changed; `make logs S=timescaledb` has more"),
    "XX001": _Reason("found damaged data", "see docs/operations.md, 'the database is lost'"),
    "XX002": _Reason("found a damaged index", "REINDEX makes it anew; `make logs S=timescaledb` has more"),
    "XX": _Reason("met an error of its own", "nothing was changed; `make logs S=timescaledb` has more"),
}
_GOING = {
    "57P01": "is shutting down, or somebody ended the session",
    "57P02": "ends all sessions, because one of its processes crashed",
    "57P03": "is not ready for connections",
    "25P03": "ended the session, because it stood still in mid-transaction",
}
# libpq keeps no SQLSTATE of a connection that failed, so the text decides; our server's is English.
_NOT_CONNECTED = {
    r"too many (clients|connections)|connection slots are reserved": "has no connection left",
    r"the database system is (starting up|not yet accepting connections|in recovery mode)": "is starting",
    r"the database system is shutting down": "is shutting down",
}


def failure(error: psycopg.OperationalError | psycopg.InternalError, address: str) -> BraidError | None:
    """EngineUnavailable if the server is gone or going, StatementRefused if it answers; None of anything else."""
    state, said = error.sqlstate, error.diag.message_primary or error
    # guard: a server that answers is not unavailable
    reason = _REASONS.get(state or "") or _REASONS.get((state or "")[:2])
    if reason is not None:
        return StatementRefused.by(_ENGINE, address, reason.what, said, reason.advice)
    if state in _GOING:
        return EngineUnavailable.for_now(_ENGINE, address, _GOING[state], said)
    return EngineUnavailable.at(_ENGINE, address, error) if isinstance(error, psycopg.OperationalError) else None


def not_connected(error: psycopg.OperationalError, address: str) -> EngineUnavailable:
    """Of a connection that was not made: the server is not there, or says that it takes none now."""
    for pattern, state in _NOT_CONNECTED.items():
        if re.search(pattern, str(error)):
            return EngineUnavailable.for_now(_ENGINE, address, state, str(error).rpartition("FATAL:")[2])
    return EngineUnavailable.at(_ENGINE, address, error)
