"""A run begins when no other batch run computes: it waits for that, or says who does and ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from contract.errors import AnotherRun, EngineUnavailable
from contract.settings import Settings
from serving.database import Connection, connect
from serving.standstill import Standstill
from serving.turn import going_on, take_turn

SILENCE_S = 120.0
"""A driver that has said nothing for so long is not waited for, nor is a database."""
_LOOK_EVERY_S, _SAY_EVERY_S = 1.0, 10.0


@contextmanager
def turn(settings: Settings, say: Callable[[str], None], wait: bool) -> Iterator[Connection]:
    """The session that has the turn, within the block. AnotherRun if somebody else has it, or stands still while it `wait`s.

    Runs that have not ended, and whose driver is gone, are marked. Who waits bears a database that is gone for a while.
    """
    connection = connect(settings, "batch")
    try:
        say_at_s = time.monotonic()
        gone = Standstill(SILENCE_S)
        while True:
            try:
                if connection.closed:
                    connection = connect(settings, "batch")
                if take_turn(connection):
                    break
                what = _who_has_it(connection, wait)
                gone = Standstill(SILENCE_S)
            except EngineUnavailable as error:
                # guard: who waits for the turn bears a restart of the database
                if not wait or gone.too_long:
                    raise
                what = str(error)
                connection.close()
            if time.monotonic() >= say_at_s:
                say(f"waiting: {what}")
                say_at_s += _SAY_EVERY_S
            time.sleep(_LOOK_EVERY_S)
        yield connection
    finally:
        # Not as the block of a connection ends: that would wait for an answer that a thread of the run waits for.
        connection.close()


def _who_has_it(connection: Connection, wait: bool) -> str:
    """In words. AnotherRun if nobody waits for it, or it is not worth waiting for."""
    others = [run for run in going_on(connection) if run.kind != "audit"]
    what = others[0].text() if others else "another batch run is about to begin, or clears up behind its publication"
    if not wait:
        raise AnotherRun.goes_on(what)
    if others and others[0].silent_s > SILENCE_S:
        raise AnotherRun.is_silent(what)
    return what
