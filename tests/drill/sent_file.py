"""A log that grows and is counted with `make replay`, again and again, whatever is broken meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ingest.sample_log import LOG_NAME, SampleLog
from tests.fixtures.stack import ROOT, Stack
from tests.oracle import Record

LINES, PARTS = 20_000, 4
_AGAIN_S, _WITHIN_S = 5.0, 300.0
_FOLDER = ROOT / "build" / "drill-file"


class SentFile:
    """From `with` on, until `end`, when each line is counted.

    Of a replay that fails nobody knows how many records it had sent, so these are told apart from the simulator's by what
    they are. `records` were found so, repeats of a line included.
    """

    def __init__(self, stack: Stack, site: str, length_s: float) -> None:
        self._stack, self._site, self._pause_s = stack, site, length_s / PARTS
        self._values: set[bytes] = set()
        self._said, self.records = "", 0
        self._hurry, self._give_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        SampleLog(LINES, site=self._site).write(_FOLDER)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hurry.set()
        self._give_up.set()

    def end(self) -> None:
        """All of the log is counted. AssertionError if that takes too long."""
        self._hurry.set()
        self._thread.join(_WITHIN_S)
        assert not self._thread.is_alive(), f"the log was not counted within {_WITHIN_S:.0f} s: {self._said}"

    def noted(self, records: Iterator[Record]) -> Iterator[Record]:
        """The same records; those of the file are noted."""
        for record in records:
            value = record[3] or b""
            # Even of the simulator's mistakes each has an id, but those that have nothing at all.
            if value and b"simulator-" not in value:
                self.records += 1
                self._values.add(value)
            yield record

    def complaints(self) -> Iterator[str]:
        """What is not so of the records that were noted; each line has an id of its own, so no two of them are alike."""
        if len(self._values) != LINES:
            yield f"the log has {LINES} lines, the topic has {len(self._values)} of them"

    def _run(self) -> None:
        lines = (_FOLDER / LOG_NAME).read_bytes().splitlines(keepends=True)
        grown = _FOLDER / "grown.log"
        for part in range(1, PARTS + 1):
            grown.write_bytes(b"".join(lines[: LINES * part // PARTS]))
            while not self._is_counted(f"LOG={grown.relative_to(ROOT)}"):
                if self._give_up.wait(_AGAIN_S):
                    return
            self._hurry.wait(self._pause_s)

    def _is_counted(self, log: str) -> bool:
        done = self._stack.run("make", "--silent", "replay", log, f"SITE={self._site}", check=False)
        self._said = " ".join(done.stderr.split())[-500:]
        return done.returncode == 0
