"""Run in the stack: counts the events that the questions ask about, and prints what their answers are."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl

from contract.event import EVENT_SCHEMA, MAX_BYTES_SENT
from contract.settings import Settings
from serving.database import connect
from serving.handoff import positions
from tests.clients.questions import MANY, QUESTIONS, QUIET
from tests.fixtures.handoff import commit

_TIME = datetime(2026, 11, 9, 20, 0, 30, tzinfo=UTC)
_PAGE = '/über uns?q="1"&\\'
_EVENTS = 2**53 // MAX_BYTES_SENT
"""So many of the largest responses have a sum beyond which a float has no odd numbers."""


def main() -> None:
    settings = Settings.from_env()
    with connect(settings, "speed") as speed, connect(settings, "reader") as reader:
        positions(speed, settings.topic_partitions)
        commit(speed, _events())
        print(
            json.dumps({question.kind: _answer(reader.execute(question.sql.encode()).fetchone()) for question in QUESTIONS})
        )


def _answer(row: tuple[object, ...] | None) -> str:
    (value,) = row or ("no row",)
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case list():
            return json.dumps([str(entry) for entry in value])
        case None:
            return "null"
        case _:
            return str(value)


def _events() -> pl.DataFrame:
    def view(number: int, site: str, size: int, duration_ms: float | None) -> tuple[object, ...]:
        visitor = f"v{number % 3}"
        return (0, number, _TIME, f"clients:{number}", _TIME, site, _PAGE, visitor, 200, size, duration_ms, None, None)

    rows = [view(number, MANY, MAX_BYTES_SENT, 12.5) for number in range(_EVENTS)]
    rows += [view(_EVENTS, MANY, 1, 12.5), view(_EVENTS + 1, QUIET, 0, None)]
    return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")


if __name__ == "__main__":
    main()
