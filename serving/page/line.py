"""A connection of role reader that is asked by one thread, one question after the other, and made again when it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from contract.errors import BraidError
from contract.settings import Settings
from serving.database import Connection, answering, connect

_T = TypeVar("_T")
_LIMIT_S = 10


class Refused(Exception):
    """The database answers, and not this question: what it asks for is not there, or takes too long."""


class Line:
    """Questions of one loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "page-database")
        self._connection: Connection | None = None

    async def ask(self, question: Callable[..., _T], *arguments: Any) -> tuple[_T, float]:
        """The answer, and how many seconds it took. Raises BraidError if the database is gone, Refused if it is not."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question, arguments)

    def close(self) -> None:
        """Whoever waits for an answer that does not come is not waited for."""
        self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=False)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _ask(self, question: Callable[..., _T], arguments: tuple[Any, ...]) -> tuple[_T, float]:
        if self._connection is None:
            self._connection = self._connected()
        started_s = time.monotonic()
        try:
            with answering(self._connection):
                return question(self._connection, *arguments), time.monotonic() - started_s
        except (BraidError, psycopg.Error) as error:
            # guard: a connection that is gone is made again
            if self._connection.closed:
                self._connection = None
                if isinstance(error, BraidError):
                    raise
            raise Refused(" ".join(str(error).split())) from error

    def _connected(self) -> Connection:
        connection = connect(self._settings, "reader")
        connection.execute(f"SET statement_timeout = '{_LIMIT_S}s'".encode())
        # The same questions are asked again and again: planning one takes longer than answering it.
        connection.prepare_threshold = 1
        # What the page costs is counted by the time of one process.
        connection.execute("SET max_parallel_workers_per_gather = 0")
        return connection
