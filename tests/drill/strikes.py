"""How each fault of the drill `chaos` begins, and how it is lifted, whatever happened between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from tests.drill.faults import Faults
from tests.drill.scene import Ground
from tests.drill.schedule import Kind, Strike
from tests.fixtures.eventually import eventually

_READY_WITHIN_S = 180
"""Nimbus gives a supervisor up after 120 s, and a new worker takes its time."""
_WHICH = ("--oldest", "--newest")


def strike(ground: Ground, one: Strike, set_clock: Callable[[int], None]) -> None:
    """Breaks what runs, leaves it so for its length, and lifts it. AssertionError if it did not run in time."""
    eventually(lambda: ground.faults.all_run(*one.services), _READY_WITHIN_S)
    with _BROKEN[one.kind](ground.faults, one, set_clock):
        ground.hold(one.length_s)


@contextmanager
def _killed(faults: Faults, one: Strike, _: Callable[[int], None]) -> Iterator[None]:
    try:
        faults.kill_and_keep_down(*one.parts)
        yield
    finally:
        faults.start(*one.parts)


@contextmanager
def _process_killed(faults: Faults, one: Strike, _: Callable[[int], None]) -> Iterator[None]:
    """Who started it starts another, or the engine its container."""
    service, *words = one.parts
    eventually(lambda: faults.kill(service, *words), _READY_WITHIN_S)
    yield


@contextmanager
def _process_stopped(faults: Faults, one: Strike, _: Callable[[int], None]) -> Iterator[None]:
    service, *words = one.parts
    eventually(lambda: faults.signal(service, "STOP", *words), _READY_WITHIN_S)
    try:
        yield
    finally:
        # Others may have been started since, so the oldest or newest may be another one. It may be gone, too.
        faults.inside(service, "pkill", "-CONT", *(word for word in words if word not in _WHICH), check=False)


@contextmanager
def _frozen(faults: Faults, one: Strike, _: Callable[[int], None]) -> Iterator[None]:
    with ExitStack() as frozen:
        for service in one.parts:
            frozen.enter_context(faults.frozen(service))
        yield


@contextmanager
def _clock_stepped(faults: Faults, one: Strike, set_clock: Callable[[int], None]) -> Iterator[None]:
    try:
        set_clock(one.ahead_s)
        yield
    finally:
        eventually(lambda: set_clock(0), _READY_WITHIN_S)


_BROKEN: Mapping[Kind, Callable[[Faults, Strike, Callable[[int], None]], AbstractContextManager[None]]] = {
    "kill-container": _killed,
    "kill-containers": _killed,
    "kill-process": _process_killed,
    "stop-process": _process_stopped,
    "freeze": _frozen,
    "cut": lambda faults, one, _: faults.partition(*one.parts),
    "fill-disk": lambda faults, one, _: faults.full(*one.parts),
    "step-clock": _clock_stepped,
}
