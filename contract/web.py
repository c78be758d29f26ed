"""How a process of ours serves HTTP with Starlette: uvicorn, and what must go on beside it for as long as it answers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp


def serve_http(app: ASGIApp, host: str, port: int, requests_at_once: int, leave_s: int) -> None:
    """Until SIGTERM or Ctrl-C; then what has begun has `leave_s` seconds to end."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_level="warning",
        access_log=False,
        # An application says by itself whom it believes.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=requests_at_once,
        timeout_graceful_shutdown=leave_s,
    )


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], say: Callable[[str], None]) -> AsyncIterator[None]:
    """Runs `work` within the block. Where it ends by itself, the process does: whoever restarts it brings both back."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            say(repr(task.exception()))
            signal.raise_signal(signal.SIGTERM)

    running = asyncio.create_task(work)
    running.add_done_callback(ended)
    try:
        yield
    finally:
        running.cancel()
        # What it was that went wrong has been said.
        with suppress(asyncio.CancelledError, Exception):
            await running
