"""What is forgotten, as the database knows it: said on HDFS first, recorded here before the archive's files keep to it."""

from __future__ import annotations

import msgspec
from psycopg.types.json import Jsonb

from contract.forgotten import KEY, Rules, Said, Statement
from contract.settings import Settings
from serving.database import Connection, answering, one_value


def record_forgotten(connection: Connection, said: Said, again: bool = False) -> int:
    """All commits from now on know these statements, and the next run takes them out of all days, if any is new. Role batch.

    Runs that had begun are given up then. Repeating it changes nothing, unless all are to be taken out `again`. Returns the
    number of the last statement that the database knows.
    """
    facts = Jsonb(msgspec.to_builtins(said.statements))
    with answering(connection):
        return int(one_value(connection, "SELECT serving.record_forgotten(%s, %s)", [facts, again]))


def forgotten_statements(connection: Connection) -> tuple[Statement, ...]:
    """Those that are known, in order. Role speed or batch."""
    with answering(connection):
        rows = connection.execute("SELECT serving.forgotten_statements()").fetchall()
    return tuple(msgspec.convert(row, Statement) for (row,) in rows)


def forgotten_rules(connection: Connection, settings: Settings) -> Rules:
    """What follows from them. Role speed. Raises ForgottenKeyLost; where there are none no key is needed."""
    statements = forgotten_statements(connection)
    return Rules(statements, settings.secret(KEY)) if statements else Rules()
