"""Work beside the caller: one piece at a time, in the order in which it is given."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeVar

Work = Callable[[], None]
_T = TypeVar("_T")


class Worker(Protocol):
    """Who does work: Background, or AtOnce."""

    def do(self, work: Work) -> None:
        """Begin the work once the piece before it is done."""

    def check(self) -> None:
        """Raise what a piece of work has raised."""

    def settle(self) -> None:
        """Return once all work is done; raises what it has raised."""


class AtOnce:
    """Without a thread: the work is done when `do` returns, and raises there."""

    def do(self, work: Work) -> None:
        work()

    def check(self) -> None:
        pass

    def settle(self) -> None:
        pass


class Background:
    """One thread. What a piece of work raises comes out at the next call, or at the end of the block."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if error is None:
            self.check()

    def do(self, work: Work) -> None:
        # Waiting here bounds what is in memory: one piece under way, and what the caller gathers meanwhile.
        if self._under_way is not None:
            self._under_way.result()
        self._under_way = self._thread.submit(work)

    def check(self) -> None:
        if self._under_way is not None and self._under_way.done():
            self._under_way.result()

    def settle(self) -> None:
        if self._under_way is not None:
            self._under_way.result()


def ahead(items: Iterator[_T]) -> Generator[_T, None, None]:
    """The items, each made in a thread while the caller works with the one before; at most two are there at once.

    Close it when it is left early: then nothing is under way any more.
    """
    end = object()
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
