"""How busy an instance is, for a balancer that gives each one its share by that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_LEAST_PERCENT = 5
"""So that one that was busy gets a request now and then, or it would stay at what it was."""


class Load:
    """The share of a core that this process leaves idle, since it was asked last."""

    def __init__(self, used_s: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic) -> None:
        self._used_s, self._clock = used_s, clock
        self._last = used_s(), clock()

    def weight_percent(self) -> int:
        """From 5, one core and more in use, to 100, idle."""
        used_before, before = self._last
        self._last = used, now = self._used_s(), self._clock()
        busy = (used - used_before) / max(now - before, 1e-9)
        return max(_LEAST_PERCENT, round(100 * (1 - busy)))


async def answer_balancer(port: int) -> asyncio.Server:
    """HAProxy's agent check: whoever connects is told the weight as a line of text."""
    load = Load()

    async def told(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{load.weight_percent()}%\n".encode())
        writer.close()

    return await asyncio.start_server(told, None, port)
