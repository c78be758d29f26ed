"""A run begins when no other batch run computes: it waits for that, or says who does and ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from contract.errors import AnotherRun
from contract.settings import Settings
from serving.database import Connection, connect
from serving.turn import going_on, take_turn

SILENCE_S = 120.0
"""A driver that has said nothing for so long is not waited for."""
_LOOK_EVERY_S, _SAY_EVERY_S = 1.0, 10.0


@contextmanager
def turn(settings: Settings, say: Callable[[str], None], wait: bool) -> Iterator[Connection]:
    """The session that has the turn, within the block. AnotherRun if somebody else has it, or stands still while it `wait`s.

    Runs that have not ended, and whose driver is gone, are marked.
    """
    connection = connect(settings, "batch")
    try:
        say_at_s = time.monotonic()
        while not take_turn(connection):
            others = [run for run in going_on(connection) if run.kind != "audit"]
            what = others[0].text() if others else "another batch run is about to begin, or clears up behind its publication"
            if not wait:
                raise AnotherRun.goes_on(what)
            if others and others[0].silent_s > SILENCE_S:
                raise AnotherRun.is_silent(what)
            if time.monotonic() >= say_at_s:
                say(f"waiting: {what}")
                say_at_s += _SAY_EVERY_S
            time.sleep(_LOOK_EVERY_S)
        yield connection
    finally:
        # Not as the block of a connection ends: that would wait for an answer that a thread of the run waits for.
        connection.close()
