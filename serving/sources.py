"""What was counted of which files, in the database: the register on HDFS has it, and `python -m ingest` prints it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from psycopg.types.json import Jsonb

from contract.errors import BraidError
from contract.replays import from_json
from contract.settings import Settings
from contract.sources import CountedSource
from serving.database import Connection, answering, connect

TOLD_BY = "ingest produce, follow or sources"


def record_sources(connection: Connection, sources: Sequence[CountedSource], is_all: bool = False) -> None:
    """The view `sources` has them as they stand; with `is_all` no others. Repeating the call changes nothing. Role batch."""
    facts = [msgspec.to_builtins(source) for source in sources]
    with answering(connection):
        connection.execute("SELECT serving.record_sources(%s, %s)", [Jsonb(facts), is_all])


def record_as_they_come(settings: Settings, lines: Iterable[str], say: Callable[[str], None]) -> None:
    """Record each source that is told, until no more come. What cannot be recorded is left to the source's next line.

    Raises what recording the last line raised.
    """
    failed: BraidError | None = None
    for line in lines:
        try:
            source = from_json(CountedSource, line, TOLD_BY)
            with connect(settings, "batch") as connection:
                record_sources(connection, [source])
            failed = None
        except BraidError as error:
            failed = error
            say(f"{error}; `make sources` brings it up to date")
    if failed:
        raise failed
