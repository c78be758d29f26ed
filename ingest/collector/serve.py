"""One process of the collector: uvicorn, the application, one producer, and an answer for the balancer's agent check."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import uvicorn

from contract.settings import Settings
from ingest.collector.app import Parts, collector
from ingest.collector.breaker import Breaker
from ingest.collector.load import answer_balancer
from ingest.collector.publisher import Publisher
from ingest.collector.rates import Rates
from ingest.collector.visitors import Visitors
from ingest.formats.clients import Pseudonyms

_REQUESTS_AT_ONCE = 256
"""Each may hold its body three times, packed, unpacked and in the producer's queue."""
_LEAVE_S = 10


def serve(settings: Settings, host: str, port: int, agent_port: int, log: Callable[[str], None]) -> None:
    """Until SIGTERM or Ctrl-C; then what has begun is answered."""
    visitors = Visitors(Pseudonyms(settings.secret("visitor_key")), settings.collector_proxies)

    def ended(task: asyncio.Task[None]) -> None:
        # Without it no request would ever be answered; who restarts the process brings it back.
        if not task.cancelled():
            log(f"collector: {task.exception()!r}")
            signal.raise_signal(signal.SIGTERM)

    @asynccontextmanager
    async def parts() -> AsyncIterator[Parts]:
        breaker = Breaker(lambda line: log(f"collector: {line}"))
        publisher = Publisher(settings, breaker)
        # Before the port is open: who is asked first would say that it is not ready.
        await publisher.look()
        running = asyncio.create_task(publisher.run())
        running.add_done_callback(ended)
        async with await answer_balancer(agent_port):
            yield Parts(publisher, breaker, Rates(settings.collector_rate), visitors)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        publisher.close()

    uvicorn.run(
        collector(settings, parts),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_level="warning",
        access_log=False,
        # The application itself says whom it believes (visitors.py).
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_REQUESTS_AT_ONCE,
        timeout_graceful_shutdown=_LEAVE_S,
    )
