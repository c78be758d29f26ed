"""Processes of ours that run one step at a time: real code, stopped at every named point between two effects.

A point is where a process could be killed, stopped, or lose its connection, with a difference to the rest of the world.
The scheduler sees the point's name and decides how the process goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import greenlet


class Killed(BaseException):
    """kill -9: no handler of the program sees it, and whatever it tries afterwards has no effect."""


class Process:
    """A process that runs `body` until its next point each time it is resumed."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self.at = "start"
        self.holds_locks = False
        self.error: BaseException | None = None
        self.killed = False
        self.transactions = 0
        """How many it has open: others would wait for what these have locked."""
        self._fault: Exception | None = None
        self._greenlet = _Greenlet(self, body)

    @property
    def alive(self) -> bool:
        """Whether it can be resumed."""
        return not self._greenlet.dead

    def resume(self) -> None:
        """On to the next point, or to the end of the body; an error of the body is kept in `error`."""
        self._go(None)

    def fail(self) -> bool:
        """Resume, with the engine's error raised at the point; False if nothing can fail there."""
        if self._fault is None:
            return False
        self._go(self._fault)
        return True

    def interrupt(self) -> None:
        """Ctrl-C at the point: handlers run."""
        self._go(KeyboardInterrupt())

    def kill(self) -> None:
        """kill -9 at the point."""
        self.killed = True
        self._go(Killed())
        assert not self.alive, f"{self.name} survived kill -9 at {self.at}"

    def _go(self, command: BaseException | None) -> None:
        try:
            self.at, self._fault, self.holds_locks = self._greenlet.switch(command)
        except (Exception, Killed, KeyboardInterrupt) as error:
            self.error, self.holds_locks = error, False

    def reach(self, name: str, fault: Exception | None) -> None:
        """Let the scheduler decide how to go on from here."""
        # A handler of killed code would run on, and in the real world does not.
        command = Killed() if self.killed else self._greenlet.parent.switch((name, fault, self.transactions > 0))
        if command is not None:
            raise command


class _Greenlet(greenlet.greenlet):
    def __init__(self, process: Process, body: Callable[[], None]) -> None:
        super().__init__(self._run_body)
        self.process, self._body = process, body

    def _run_body(self, command: BaseException | None) -> tuple[str, None, bool]:
        if command is not None:
            raise command
        self._body()
        return "end", None, False


def current() -> Process | None:
    """The process that runs now; None outside of all, where checks look at the world."""
    here = greenlet.getcurrent()
    return here.process if isinstance(here, _Greenlet) else None


@contextmanager
def transaction_open() -> Iterator[None]:
    """The process that runs now has one inside the block."""
    process = current()
    if process is None:
        yield
        return
    process.transactions += 1
    try:
        yield
    finally:
        process.transactions -= 1


def point(name: str, fault: Exception | None = None) -> None:
    """A boundary between two effects. `fault` is what the engine's client raises here if the engine goes away.

    Where the process has a transaction open it goes on, or dies, before any other process has a turn.
    """
    process = current()
    if process is not None:
        process.reach(name, fault)
