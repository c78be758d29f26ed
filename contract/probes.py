"""What a process says of itself over HTTP: /healthz, that it goes on; /readyz, that it does its work; /metrics, how much.

All of it is in the process's memory: to answer costs no server anything, and waits for none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import gethostname
from threading import Thread

import msgspec
from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from contract.errors import PortTaken

# When each series began says no more than when its process did, and is as many series again.
disable_created_metrics()  # type: ignore[no-untyped-call]

Ask = Callable[[], str | None]
"""None if all is well, else what is not: for people, with the numbers."""


def _well() -> None:
    return None


@dataclass(frozen=True)
class Answer:
    """To a GET request."""

    status: int
    content_type: str
    body: bytes


class Probes:
    """Answers for one process, whatever its web server is.

    `alive` is asked by /healthz: who restarts what hangs asks there. `ready` is asked by /readyz: what waits for a server is
    alive, and not ready. Both must answer at once.
    """

    paths = ("/healthz", "/readyz", "/metrics")

    def __init__(
        self,
        ready: Ask = _well,
        alive: Ask = _well,
        registry: Callable[[], CollectorRegistry] = lambda: REGISTRY,
    ) -> None:
        self._ready, self._alive, self._registry = ready, alive, registry

    def answer(self, path: str, accept: str = "") -> Answer | None:
        """To a path with or without a query; None if it is none of `paths`. `accept` is the request's header."""
        match path.partition("?")[0]:
            case "/healthz":
                return _said("alive", self._alive())
            case "/readyz":
                return _said("ready", self._ready())
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return Answer(200, content_type, encode(self._registry()))
        return None

    @contextmanager
    def served(self, port: int, host: str = "0.0.0.0") -> Iterator[int]:
        """Answers in threads for as long as the block lasts; yields the port, which for 0 is a free one. PortTaken."""
        try:
            server = self.server(port, host)
        except OSError as error:
            raise PortTaken.of(port, error, "BRAID_METRICS_PORT") from error
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()

    def server(self, port: int, host: str = "0.0.0.0") -> ThreadingHTTPServer:
        """Answers in threads until its process ends or `shutdown` is called. OSError if the port is taken."""
        probes = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                found = probes.answer(self.path, self.headers.get("Accept", "")) or _NOT_FOUND
                self.send_response(found.status)
                self.send_header("Content-Type", found.content_type)
                self.send_header("Content-Length", str(len(found.body)))
                self.end_headers()
                self.wfile.write(found.body)

            def log_request(self, code: object = "-", size: object = "-") -> None:
                """Who asks every few seconds is not worth a line."""

        server = ThreadingHTTPServer((host, port), Handler)
        Thread(target=server.serve_forever, name="probes", daemon=True).start()
        return server


_NOT_FOUND = Answer(404, "text/plain; charset=utf-8", b"/healthz, /readyz and /metrics are here\n")


def _said(state: str, problem: str | None) -> Answer:
    content = {"status": state if problem is None else f"not {state}", "instance": gethostname()}
    if problem is not None:
        content["detail"] = problem
    return Answer(200 if problem is None else 503, "application/json", msgspec.json.encode(content))
