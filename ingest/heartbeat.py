"""Who must not stand still says so in a file, for a health check; one that hangs is ended and started anew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

_TOLD_EVERY_S = 1.0
_LOOK_EVERY_S = 10.0
UNHEALTHY_S = 120.0
"""One step may take a minute."""


def _end() -> None:
    # Whatever hangs would hang an orderly end too.
    os._exit(1)


class Heartbeat:
    """The file's time of modification is that of the last beat, to about a second.

    `limit_s` is more than any one step takes: a process that did not beat for so long hangs. `end` ends it.
    """

    def __init__(
        self,
        file: Path,
        limit_s: float = 600.0,
        clock_s: Callable[[], float] = time.monotonic,
        end: Callable[[], None] = _end,
    ) -> None:
        self._file, self._limit_s, self._clock_s, self._end = file, limit_s, clock_s, end
        self._beat_s, self._told_s = clock_s(), float("-inf")

    def beat(self) -> None:
        """I go on. Any thread may say so."""
        self._beat_s = self._clock_s()
        if self._beat_s - self._told_s >= _TOLD_EVERY_S:
            self._file.touch()
            self._told_s = self._beat_s

    def problem(self) -> str | None:
        """That nothing has moved for long, if so: what its container's health check says of it too."""
        stood_s = self._clock_s() - self._beat_s
        return f"nothing has moved for {stood_s:.0f} s" if stood_s > UNHEALTHY_S else None

    def look(self, log: Callable[[str], None]) -> bool:
        """Whether all is well; if not, the process is ended."""
        stood_s = self._clock_s() - self._beat_s
        # guard: who hangs is started again
        if stood_s <= self._limit_s:
            return True
        log(f"nothing has moved for {stood_s:.0f} s: ended, to be started again")
        self._end()
        return False

    @contextmanager
    def watched(self, log: Callable[[str], None]) -> Iterator[None]:
        """Looks now and then, in a thread, for as long as the block lasts."""
        done = Event()

        def watch() -> None:
            while not done.wait(_LOOK_EVERY_S) and self.look(log):
                pass

        self.beat()
        Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            done.set()
