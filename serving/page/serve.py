"""One process: uvicorn, the page, and what fills its board."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn

from contract.settings import Settings
from serving.page.app import page
from serving.page.board import MOST_VIEWERS, Board
from serving.page.cookbook import questions
from serving.page.sql_box import SqlBox
from serving.page.watch import Watch

_LEAVE_S = 1
"""Streams never end by themselves: whoever looks comes again."""


def serve(
    settings: Settings,
    host: str,
    port: int,
    compose_file: Path,
    cookbook_file: Path,
    variables: Mapping[str, str],
    log: Callable[[str], None],
) -> None:
    """Until SIGTERM or Ctrl-C."""
    board = Board(time.time)

    def ended(task: asyncio.Task[None]) -> None:
        # A page that is not told anything must not go on; who restarts the process brings it back.
        if not task.cancelled():
            log(f"page: {task.exception()!r}")
            signal.raise_signal(signal.SIGTERM)

    @asynccontextmanager
    async def watching() -> AsyncIterator[None]:
        running = asyncio.create_task(Watch(settings, board, compose_file, variables, time.time).run())
        running.add_done_callback(ended)
        yield
        running.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await running

    uvicorn.run(
        page(board, SqlBox(settings), questions(cookbook_file.read_text(encoding="utf-8")), watching),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=2 * MOST_VIEWERS,
        timeout_graceful_shutdown=_LEAVE_S,
    )
