"""POST /events: 202 means that Kafka has acknowledged each event of the request, and any other status that none need count.

A request is taken as a whole: if one of its events is none, nothing is sent and the answer names them all, so whoever sends
it again, mended or not, sends all of it. What did arrive before a 503 counts once, by its id.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from contract.probes import Probes
from contract.settings import Settings
from ingest.collector.body import Refused, too_large, unpacked, values_of
from ingest.collector.breaker import Breaker, State
from ingest.collector.judged import Judged, judged
from ingest.collector.metrics import CollectorMetrics
from ingest.collector.publisher import NotAcknowledged
from ingest.collector.rates import Rates
from ingest.collector.visitors import Visitors, wants_not_to_be_followed
from ingest.sender import Record

_STATIC = Path(__file__).parent / "static"
_NAMED_REFUSALS = 20
_encode = msgspec.json.Encoder().encode
_ANY_ORIGIN = "*"
_WITHIN_A_DAY_S = 86_400


class Sends(Protocol):
    """What brings records to Kafka."""

    async def send(self, records: Sequence[Record]) -> None:
        """Returns when all are acknowledged; raises NotAcknowledged."""


@dataclass(frozen=True)
class Parts:
    """What one process of the collector has."""

    publisher: Sends
    breaker: Breaker
    rates: Rates
    visitors: Visitors


def collector(
    settings: Settings,
    parts: Callable[[], AbstractAsyncContextManager[Parts]],
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> Starlette:
    """The application; `parts` live as long as it serves."""
    origins = [origin.strip() for origin in settings.collector_origins.split(",") if origin.strip()]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with parts() as living:
            breaker = living.breaker
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            metrics = CollectorMetrics(lambda: breaker.state is State.OPEN, registry)
            app.state.events = Events(settings, origins, living, metrics, now_ms)
            ready = lambda: breaker.reason if breaker.state is State.OPEN else None  # noqa: E731
            app.state.probes = Probes(ready, registry=lambda: registry)
            yield

    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["Content-Type", "Content-Encoding"],
        expose_headers=["Retry-After"],
        max_age=_WITHIN_A_DAY_S,
    )
    routes = [
        Route("/events", _post, methods=["POST"]),
        Route("/beacon.js", _file("beacon.js")),
        Route("/", _file("page.html")),
        *(Route(path, _probe) for path in Probes.paths),
    ]
    return Starlette(routes=routes, middleware=[cors], lifespan=lifespan)


class Events:
    """Answers POST /events."""

    def __init__(
        self,
        settings: Settings,
        origins: list[str],
        parts: Parts,
        metrics: CollectorMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._most_bytes, self._rate = settings.collector_max_kb * 1_024, settings.collector_rate
        self._origins, self._parts, self._now_ms = origins, parts, now_ms

    async def answer(self, request: Request) -> Response:
        """The answer to a request, after Kafka's to its records."""
        began_s, status = time.perf_counter(), 500
        try:
            answer = await self._answer(request)
            status = answer.status_code
            return answer
        finally:
            self._metrics.answered(status, time.perf_counter() - began_s)

    async def _answer(self, request: Request) -> Response:
        parts, headers = self._parts, dict(request.headers.raw)
        if not self._is_from_allowed_page(headers):
            return _refused(Refused(403, "origin", "pages of this origin may not send: see BRAID_COLLECTOR_ORIGINS"))
        if parts.breaker.state is State.OPEN:
            return self._unavailable()
        try:
            encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
            values = values_of(unpacked(await self._body(request, headers), encoding, self._most_bytes))
        except Refused as refused:
            return _refused(refused)
        peer = request.client.host if request.client else None
        visitor = parts.visitors.of(request.headers.getlist("x-forwarded-for"), peer)
        found = judged(values, visitor, not wants_not_to_be_followed(headers), self._now_ms())
        if found.refusals:
            self._metrics.events("rejected", len(values))
            return _rejected(found, len(values))
        if wait_s := parts.rates.take(found.sites):
            self._metrics.events("throttled", len(values))
            detail = f"each site may send {self._rate} events/s to an instance of the collector"
            return _refused(Refused(429, "rate", detail), wait_s)
        return await self._send(found)

    async def _send(self, found: Judged) -> Response:
        parts = self._parts
        if not parts.breaker.enter():
            parts.rates.give_back(found.sites)
            self._metrics.events("unavailable", len(found.records))
            return self._unavailable()
        try:
            await parts.publisher.send(found.records)
        except BaseException as problem:  # whatever it is: who went in comes out
            parts.breaker.failed(str(problem))
            parts.rates.give_back(found.sites)
            self._metrics.events("unavailable", len(found.records))
            if isinstance(problem, NotAcknowledged):
                return self._unavailable(problem)
            raise
        parts.breaker.succeeded()
        self._metrics.events("accepted", len(found.records))
        return _json(202, {"accepted": len(found.records)})

    async def _body(self, request: Request, headers: Mapping[bytes, bytes]) -> bytes:
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most_bytes:
            raise too_large(self._most_bytes)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._most_bytes:
                raise too_large(self._most_bytes)
        return bytes(body)

    def _is_from_allowed_page(self, headers: Mapping[bytes, bytes]) -> bool:
        """Browsers send the page's origin with each POST; the collector's own page may, and servers have none."""
        origin = headers.get(b"origin")
        if origin is None or _ANY_ORIGIN in self._origins or origin.decode("latin-1") in self._origins:
            return True
        return origin.partition(b"://")[2] == headers.get(b"host")

    def _unavailable(self, problem: NotAcknowledged | None = None) -> Response:
        breaker = self._parts.breaker
        detail = f"nothing was sent: {breaker.reason}" if problem is None else f"not all of it is acknowledged: {problem}"
        return _refused(Refused(503, "kafka", f"{detail}; send it again"), breaker.retry_after_s)


async def _post(request: Request) -> Response:
    events: Events = request.app.state.events
    return await events.answer(request)


async def _probe(request: Request) -> Response:
    probes: Probes = request.app.state.probes
    answer = probes.answer(request.url.path, request.headers.get("accept", ""))
    assert answer is not None
    return Response(answer.body, answer.status, media_type=answer.content_type)


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return FileResponse(_STATIC / name)

    return answer


def _json(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encode(content), status, headers, "application/json")


def _refused(refused: Refused, retry_after_s: float | None = None) -> Response:
    headers = None if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    return _json(refused.status, {"accepted": 0, "reason": refused.reason, "detail": refused.detail}, headers)


def _rejected(found: Judged, events: int) -> Response:
    """All that is wrong, as far as it fits an answer."""
    first = found.refusals[0]
    return _json(
        400,
        {
            "accepted": 0,
            "reason": first.reason,
            "field": first.field,
            "detail": first.detail,
            "events": events,
            "rejected": len(found.refusals),
            "rejects": [asdict(refusal) for refusal in found.refusals[:_NAMED_REFUSALS]],
        },
    )
