"""Storm in memory: tuples between the real spout and the real bolts, whose messages go nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from pystorm.component import Tuple

from speed.merge_bolt import MergeBolt
from speed.range_spout import RangeSpout
from speed.sketch_bolt import SketchBolt
from tests.simulate.process import Process, current, point


class _Spout(RangeSpout):
    """The real spout with its two ends in memory."""

    def __init__(self, storm: Storm, logger: Any) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger, self._storm = logger, storm

    def emit(self, values: list[Any], tup_id: str) -> None:  # type: ignore[override]
        self._storm.emit(tup_id, values)


class _Bolt(SketchBolt):
    """The real bolt with its two ends in memory."""

    def __init__(self, storm: Storm, logger: Any) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger, self._storm = logger, storm

    def ack(self, tup: Tuple) -> None:  # type: ignore[override]
        self._storm.end(tup.id, acked=True)

    def fail(self, tup: Tuple) -> None:  # type: ignore[override]
        self._storm.end(tup.id, acked=False)

    def emit(self, values: list[Any]) -> None:  # type: ignore[override]
        self._storm.appended.append(Tuple("", "", "", "", values))


class _MergeBolt(MergeBolt):
    """The real bolt with its end in memory."""

    def __init__(self, logger: Any) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger = logger


class Storm:
    """Tuples on their way between the spout and the bolts. Every message of a process that was replaced is lost."""

    def __init__(self) -> None:
        self.bolts: list[Process] = []
        self.spout: Process | None = None
        self.merger: Process | None = None
        self.queues: dict[Process, list[Tuple]] = {}
        self.in_flight: list[str] = []
        self.outcomes: list[tuple[str, bool]] = []
        self.appended: list[Tuple] = []

    def emit(self, tuple_id: str, values: list[Any]) -> None:
        """Fields grouping by partition."""
        if current() is self.spout:
            self.in_flight.append(tuple_id)
            self.queues[self.bolts[values[0] % len(self.bolts)]].append(Tuple(tuple_id, "", "", "", values))

    @property
    def processes(self) -> list[Process]:
        """Spout, bolts and merger."""
        return [process for process in (self.spout, *self.bolts, self.merger) if process]

    def end(self, tuple_id: str, acked: bool) -> None:
        """A bolt's ack or fail, or the time-out; the first that comes is the one that the spout hears."""
        if tuple_id in self.in_flight and current() in (None, *self.bolts):
            self.in_flight.remove(tuple_id)
            self.outcomes.append((tuple_id, acked))

    def replace(self, start: Callable[[str, Callable[[], None]], Process], bolts: int, logger: Any) -> None:
        """Processes started anew, with so many bolts. Whoever is alive of the old ones is not heard any more."""

        def spout() -> None:
            spout = _Spout(self, logger)
            spout.initialize({}, {})
            while True:
                point("spout: idle")
                while self.outcomes and self.spout is current():
                    tuple_id, acked = self.outcomes.pop(0)
                    (spout.ack if acked else spout.fail)(tuple_id)
                spout.next_tuple()

        def bolt() -> None:
            bolt = _Bolt(self, logger)
            bolt.initialize({}, {})
            while True:
                point("bolt: idle")
                if queue := self.queues[current()]:
                    bolt.process(queue.pop(0))

        def merger() -> None:
            merger = _MergeBolt(logger)
            merger.initialize({}, {})
            while True:
                point("merger: idle")
                if self.appended:
                    merger.process(self.appended.pop(0))

        self.merger = start("merger", merger)
        self.bolts = [start("bolt", bolt) for _ in range(bolts)]
        self.queues |= {process: [] for process in self.bolts}
        self.spout = start("spout", spout)
        self.in_flight, self.outcomes = [], []
