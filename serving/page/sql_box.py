"""One statement of a viewer as role reader: read only, within a time, and no more rows and bytes than a page shows."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from contract.errors import QueryRefused
from contract.settings import Settings
from serving.database import connect
from serving.query import NUMERIC_TYPES, first_rows

LIMIT_S = 10
MOST_ROWS = 1_000
MOST_BYTES = 1_000_000
MOST_AT_ONCE = 2
MOST_CHARACTERS = 20_000


class Busy(Exception):
    """As many statements run as may at once."""


@dataclass(frozen=True)
class Limits:
    """What the page tells about them."""

    seconds: int = LIMIT_S
    rows: int = MOST_ROWS
    bytes: int = MOST_BYTES


class SqlBox:
    """Each statement has a connection of its own, so what it sets ends with it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)

    def answer(self, statement: str) -> dict[str, Any]:
        """Columns and rows as text. Raises QueryRefused, EngineUnavailable, Busy."""
        if len(statement) > MOST_CHARACTERS:
            raise QueryRefused(f"the statement has {len(statement):,} characters; at most {MOST_CHARACTERS:,}")
        # guard: few statements at once
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            started_s = time.monotonic()
            with connect(self._settings, "reader") as connection:
                # guard: a statement of the page ends
                connection.execute(f"SET statement_timeout = '{LIMIT_S}s'".encode())
                # As the role has it anyway.
                connection.execute("SET default_transaction_read_only = on")
                result, is_cut = first_rows(connection, statement, MOST_ROWS, MOST_BYTES)
            return {
                "columns": result.columns,
                "numeric": [kind in NUMERIC_TYPES for kind in result.types],
                "rows": result.rows,
                "cut": is_cut,
                "took_s": round(time.monotonic() - started_s, 3),
            }
        finally:
            self._places.release()
