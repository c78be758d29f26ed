"""Asks Kafka for its ends, each server whether it is there, and for what `make status` knows.

While nobody looks, only Kafka is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from contract.errors import BraidError
from contract.settings import Settings
from serving.log_ends import HighWatermarks
from serving.page.board import Board
from serving.page.budgets import memory
from serving.page.heard import Heard
from serving.page.servers import ask_all
from serving.status import read_status

_KAFKA_S, _PROBE_S, _STATUS_S = 0.5, 3.0, 30.0
_RETRY_S = 0.5


class Engines:
    """Each loop runs until it is cancelled; `variables` are those of the compose file."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        heard: Heard,
        clock: Callable[[], float],
        compose_file: Path,
        variables: Mapping[str, str],
    ) -> None:
        self._settings, self._board, self._heard, self._clock = settings, board, heard, clock
        self._compose_file, self._variables = compose_file, variables
        self._status_wanted = asyncio.Event()

    async def ask_kafka(self) -> None:
        """How far its log is."""
        thread = ThreadPoolExecutor(1, "page-kafka")
        watermarks = HighWatermarks(self._settings)
        try:
            while True:
                asked_s = self._clock()
                try:
                    ends = await asyncio.get_running_loop().run_in_executor(thread, watermarks.ask)
                except BraidError as error:
                    self._heard.kafka.error = str(error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                self._heard.ends = ends
                self._heard.freshness.kafka_has(asked_s, ends)
                self._heard.kafka.answered(self._clock())
                await self._board.rest(_KAFKA_S)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    async def ask_servers(self) -> None:
        """Where one comes or goes, the status is asked at once."""
        while True:
            if self._board.viewers:
                answers, before = await ask_all(self._heard.servers), self._heard.answers
                if any((answers[name] is None) != (before.get(name) is None) for name in answers):
                    self._status_wanted.set()
                self._heard.answers = answers
            await self._board.rest(_PROBE_S)

    async def ask_status(self) -> None:
        """It takes seconds if a server is away."""
        thread = ThreadPoolExecutor(1, "page-status")
        try:
            while True:
                if self._board.viewers:
                    self._status_wanted.clear()
                    await self._take_status(thread)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_STATUS_S):
                            await self._status_wanted.wait()
                else:
                    await self._board.rest(_PROBE_S)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    async def _take_status(self, thread: ThreadPoolExecutor) -> None:
        try:
            status = await asyncio.get_running_loop().run_in_executor(thread, read_status, self._settings)
        # A server that goes away while it is asked may make a client raise anything; what it is, is said of the server.
        except Exception as error:
            self._board.fail("budgets", " ".join(str(error).split()) or type(error).__name__)
            return
        self._heard.take_status(status, self._clock())
        disk = asdict(status.disk) if status.disk else None
        self._board.post("budgets", {"disk": disk, "memory": memory(self._compose_file, self._variables)})
