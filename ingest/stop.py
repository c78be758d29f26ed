"""A request to stop, made by a signal and seen between two steps.

Not an exception and not threading.Event: KeyboardInterrupt inside a callback of the Kafka client ends in SystemError, and an
event's lock may be held by the very thread that the signal interrupts.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SLICE_S = 0.1


class Stop:
    """Set once, seen by everyone who waits."""

    def __init__(self) -> None:
        self.interrupted = False
        self._requested = False

    def set(self) -> None:
        """Ask to stop."""
        self._requested = True

    def is_set(self) -> bool:
        """Whether it was asked."""
        return self._requested

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than until it was asked; says whether it was."""
        until = time.monotonic() + seconds
        while not self._requested and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_S))
        return self._requested

    def raise_if_interrupted(self) -> None:
        """KeyboardInterrupt at a place where nothing is half done."""
        if self.interrupted:
            raise KeyboardInterrupt

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handler of Ctrl-C. The second one ends the process at once, whatever it is in."""
        self.interrupted = True
        self.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A Stop that SIGTERM, with which containers are stopped, and Ctrl-C set within this block."""
    stop = Stop()
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, stop.interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: stop.set()),
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
