"""Batch runs one after the other: each must end, whatever is broken meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from batch.__main__ import GOES_ON
from tests.drill.faults import BatchRun, Faults

RUN_LIMIT_S = 300.0
"""Some 60 s of work, a silent executor (120 s), none at all (75 s), and a server that is frozen (45 s)."""
_EXPECTED = (0, 1, GOES_ON)
_PAUSE_S = 1.0


class Runs:
    """From `with` on, until `end`: how long each took, how many were published, and to `complain` what is wrong with one."""

    def __init__(self, faults: Faults, complain: Callable[[float, str], None]) -> None:
        self._faults, self._complain = faults, complain
        self.took_s: list[float] = []
        self.published = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """The run that is under way ends too."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                status, said = BatchRun(self._faults).finish(RUN_LIMIT_S)
                self.published += status == 0
                # A fault may end a run, with its reason.
                is_told = status in _EXPECTED and bool(said.strip())
                assert is_told, f"a batch run ended with status {status}, and said: {said[-500:]}"
            except AssertionError as error:
                self._complain(time.monotonic(), str(error))
            self.took_s.append(time.monotonic() - began_s)
            self._stop.wait(_PAUSE_S)
