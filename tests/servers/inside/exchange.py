"""A client that knows what it sent and what came back, to the byte. Only the standard library, and only sockets of it."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from tests.servers.inside.requests import Request

_TIMEOUT_S = 10
_BLOCK_BYTES = 1 << 16
_NO_BODY = frozenset({204, 304})
_PIPED = "piped"
_IPV4, _IPV6 = "127.0.0.1", "::1"


@dataclass(frozen=True)
class Answer:
    """What came back for a request, and when; `body_bytes` is without the frames of chunks, `sent_bytes` with."""

    status: int
    head_bytes: int
    body_bytes: int
    sent_bytes: int
    elapsed_ms: float


class NoAnswer(Exception):
    """The server closed the connection, or said nothing in time."""


def ask_all(requests: Sequence[Request], port: int) -> list[tuple[Request, Answer | None]]:
    """Each request with its answer, one after the other; None if none came."""
    asked: list[tuple[Request, Answer | None]] = []
    for alike, group in groupby(requests, lambda it: it.alike or it.name):
        together = list(group)
        answers = _ask(together, port, alike == _PIPED)
        asked += zip(together, answers, strict=True)
    return asked


def encoded(request: Request, close: bool) -> bytes:
    """The request as it goes over the wire."""
    headers = {
        "Host": request.host,
        "User-Agent": request.user_agent,
        "Referer": request.referrer,
        **request.headers,
        "Content-Length": str(len(request.body)) if request.body else None,
        "Connection": "close" if close and request.protocol == "HTTP/1.1" else None,
    }
    lines = [f"{request.method} {request.target} {request.protocol}"]
    lines += [f"{name}: {value}".rstrip() for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def _ask(requests: Sequence[Request], port: int, pipelined: bool) -> list[Answer | None]:
    answers: list[Answer | None] = []
    client = requests[0].client
    server = _IPV6 if ":" in client else _IPV4
    with socket.create_connection((server, port), _TIMEOUT_S, (client, 0)) as connection:
        connection.settimeout(_TIMEOUT_S)
        reader = _Reader(connection)
        wires = [encoded(it, close=it is requests[-1]) for it in requests]
        began = time.monotonic()
        try:
            if pipelined:
                connection.sendall(b"".join(wires))
            for request, wire in zip(requests, wires, strict=True):
                if not pipelined:
                    began = time.monotonic()
                    connection.sendall(wire)
                answers.append(reader.answer(request.method, began))
        except (NoAnswer, OSError, ValueError, IndexError):
            pass
    return answers + [None] * (len(requests) - len(answers))


class _Reader:
    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._here, self._taken = connection, b"", 0

    def answer(self, method: str, began: float) -> Answer:
        before = self._taken
        head = self._until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (it.partition(b":") for it in head.split(b"\r\n")[1:])
        }
        head_bytes, start = self._taken - before, self._taken
        if method == "HEAD" or status in _NO_BODY:
            body_bytes = 0
        elif headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body_bytes = self._chunks()
        elif b"content-length" in headers:
            body_bytes = len(self._exactly(int(headers[b"content-length"])))
        else:
            body_bytes = self._rest()
        elapsed_ms = (time.monotonic() - began) * 1000
        return Answer(status, head_bytes, body_bytes, self._taken - start, elapsed_ms)

    def _chunks(self) -> int:
        length = 0
        while size := int(re.split(rb"[;\r]", self._until(b"\r\n"))[0], 16):
            length += len(self._exactly(size))
            self._exactly(2)
        while self._until(b"\r\n") != b"\r\n":
            pass
        return length

    def _more(self) -> bytes:
        more = self._connection.recv(_BLOCK_BYTES)
        if not more:
            raise NoAnswer
        self._here += more
        return more

    def _until(self, end: bytes) -> bytes:
        while end not in self._here:
            self._more()
        return self._exactly(self._here.index(end) + len(end))

    def _exactly(self, length: int) -> bytes:
        while len(self._here) < length:
            self._more()
        taken, self._here = self._here[:length], self._here[length:]
        self._taken += length
        return taken

    def _rest(self) -> int:
        try:
            while True:
                self._more()
        except NoAnswer:
            return len(self._exactly(len(self._here)))
