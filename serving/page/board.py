"""What was told last, for all who look: encoded once, however many they are, and sent to each of a scope."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from serving.page.scope import Scope

MOST_VIEWERS = 200
MOST_SCOPES = 16
"""So many different questions are asked at once."""
_WAITING = 256
"""Messages: who is so far behind is let go, and comes again."""
_IDLE_S = 2.0
"""So long rests who asks for the board while nobody looks."""
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Crowded(Exception):
    """There are as many viewers, or scopes, as one process serves."""


@dataclass
class _Part:
    """What is known of one thing: the last answer and when it came, and since when and why there has been none."""

    at_s: float | None = None
    data: Any = None
    error: str | None = None
    failed_since_s: float | None = None

    def message(self, name: str) -> bytes:
        return message(
            "part",
            {
                "name": name,
                "at": self.at_s,
                "data": self.data,
                "error": self.error,
                "failed_since": self.failed_since_s,
            },
        )


def message(event: str, content: Any) -> bytes:
    """One server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), _encode(content))


class Viewer:
    """One open page: its messages in order, and None when it is let go."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)

    def tell(self, text: bytes | None) -> bool:
        """False if it is too far behind."""
        try:
            self.messages.put_nowait(text)
        except asyncio.QueueFull:
            return False
        return True


class Board:
    """All methods are called in the event loop's thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._parts: dict[tuple[Scope | None, str], _Part] = {}
        self._viewers: dict[Scope, set[Viewer]] = {}
        self.somebody = asyncio.Event()
        """Set while anybody looks."""

    @property
    def scopes(self) -> list[Scope]:
        """Those that somebody looks at."""
        return list(self._viewers)

    @property
    def viewers(self) -> int:
        return sum(map(len, self._viewers.values()))

    async def rest(self, busy_s: float) -> None:
        """So long while somebody looks; while nobody does, until somebody comes, and not too long."""
        if self.viewers:
            await asyncio.sleep(busy_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await self.somebody.wait()

    def last(self, name: str, scope: Scope | None = None) -> Any:
        """What was told last of a part; None if nothing was."""
        part = self._parts.get((scope, name))
        return None if part is None else part.data

    def post(self, name: str, data: Any, scope: Scope | None = None) -> None:
        """An answer, for those who look at the scope, or for all."""
        if self._is_left(scope):
            return
        part = self._parts.setdefault((scope, name), _Part())
        part.at_s, part.data, part.error, part.failed_since_s = self._clock(), data, None, None
        self._tell(part.message(name), scope)

    def fail(self, name: str, error: str, scope: Scope | None = None) -> None:
        """No answer. What was known stays, with the time of which it is."""
        if self._is_left(scope):
            return
        part = self._parts.setdefault((scope, name), _Part())
        if part.error == error:
            return
        part.error, part.failed_since_s = error, part.failed_since_s or self._clock()
        self._tell(part.message(name), scope)

    def pulse(self, content: Any) -> None:
        """To all, and nobody who comes later is told."""
        self._tell(message("pulse", content), None)

    @contextmanager
    def viewer(self, scope: Scope) -> Iterator[Viewer]:
        """Within the block a viewer of the scope is told what is known, and then what becomes known. Raises Crowded."""
        if self.viewers >= MOST_VIEWERS or (scope not in self._viewers and len(self._viewers) >= MOST_SCOPES):
            raise Crowded
        viewer = Viewer()
        for (of, name), part in self._parts.items():
            if of in (None, scope):
                viewer.tell(part.message(name))
        self._viewers.setdefault(scope, set()).add(viewer)
        self.somebody.set()
        try:
            yield viewer
        finally:
            self._leave(scope, viewer)

    def close(self) -> None:
        """Everybody is let go."""
        for scope, viewers in list(self._viewers.items()):
            for viewer in list(viewers):
                self._let_go(scope, viewer)

    def _is_left(self, scope: Scope | None) -> bool:
        """Whether nobody looks any more: an answer that comes then is for nobody."""
        return scope is not None and scope not in self._viewers

    def _tell(self, text: bytes, scope: Scope | None) -> None:
        for of, viewers in list(self._viewers.items()):
            if scope in (None, of):
                for viewer in [one for one in viewers if not one.tell(text)]:
                    self._let_go(of, viewer)

    def _let_go(self, scope: Scope, viewer: Viewer) -> None:
        while not viewer.messages.empty():
            viewer.messages.get_nowait()
        viewer.tell(None)
        self._leave(scope, viewer)

    def _leave(self, scope: Scope, viewer: Viewer) -> None:
        viewers = self._viewers.get(scope)
        if viewers is None:
            return
        viewers.discard(viewer)
        if not viewers:
            del self._viewers[scope]
            if not self._viewers:
                self.somebody.clear()
            # What nobody looks at is not asked any more, and would be old when somebody does.
            for key in [key for key in self._parts if key[0] == scope]:
                del self._parts[key]
