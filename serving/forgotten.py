"""What is forgotten, as the database knows it: said on HDFS first, recorded here before the archive's files keep to it."""

from __future__ import annotations

import msgspec
from psycopg.types.json import Jsonb

from contract.forgotten import KEY, Rules, Said, Statement
from contract.settings import Settings
from serving.database import Connection, answering


def record_forgotten(connection: Connection, said: Said, again: bool = False) -> None:
    """All commits from now on know these statements, and the next run takes them out of all days, if any is new. Role batch.

    Runs that had begun are given up then. Repeating it changes nothing, unless all are to be taken out `again`.
    """
    if said.statements:
        facts = Jsonb(msgspec.to_builtins(said.statements))
        with answering(connection):
            connection.execute("SELECT serving.record_forgotten(%s, %s)", [facts, again])


def forgotten_rules(connection: Connection, settings: Settings) -> Rules:
    """What follows from the statements that are known. Role speed. Raises ForgottenKeyLost."""
    with answering(connection):
        rows = connection.execute("SELECT serving.forgotten_statements()").fetchall()
    statements = tuple(msgspec.convert(row, Statement) for (row,) in rows)
    return Rules(statements, settings.secret(KEY)) if statements else Rules()
