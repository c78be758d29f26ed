"""Asks database, Kafka and all other servers on timers, and puts the answers on the board: once for all who look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from contract.settings import Settings
from serving.page.board import Board
from serving.page.engines import Engines
from serving.page.heard import Heard
from serving.page.pulse import Pulse
from serving.page.reader import Reader
from serving.page.servers import servers


class Watch:
    """What asks, and what tells; `pulse` knows how the page itself is."""

    def __init__(
        self, settings: Settings, board: Board, compose_file: Path, variables: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        heard = Heard(servers(settings))
        self._reader = Reader(settings, board, heard, clock)
        self._engines = Engines(settings, board, heard, clock, compose_file, variables)
        self.pulse = Pulse(board, heard, clock)

    async def run(self) -> None:
        """All loops at once; what goes wrong in one and is not foreseen ends all."""
        reader, engines = self._reader, self._engines
        async with asyncio.TaskGroup() as tasks:
            for loop in (
                reader.ask_positions,
                reader.ask_questions,
                engines.ask_kafka,
                engines.ask_servers,
                engines.ask_status,
                self.pulse.run,
            ):
                tasks.create_task(loop())
