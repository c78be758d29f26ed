"""One process of the collector: uvicorn, the application, one producer, and an answer for the balancer's agent check."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from contract.settings import Settings
from contract.web import beside, serve_http
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

    @asynccontextmanager
    async def parts() -> AsyncIterator[Parts]:
        breaker = Breaker(lambda line: log(f"collector: {line}"))
        publisher = Publisher(settings, breaker)
        # Before the port is open: who is asked first would say that it is not ready.
        await publisher.look()
        async with beside(publisher.run(), lambda line: log(f"collector: {line}")), await answer_balancer(agent_port):
            yield Parts(publisher, breaker, Rates(settings.collector_rate), visitors)
        publisher.close()

    serve_http(collector(settings, parts), host, port, _REQUESTS_AT_ONCE, _LEAVE_S)
