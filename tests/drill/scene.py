"""What a fault has to work with: the stack, what can be done to it, and what is known of the batch runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException

from tests.drill.faults import BatchRun, Faults
from tests.drill.reader import Reader
from tests.drill.traffic import produce
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import next_offsets_of
from tests.fixtures.stack import Stack

_WITHIN_S = 600
_LOOK_S = 0.05


@dataclass
class Scene:
    """One drill while it runs. What a fault puts into `later` is done when the traffic has ended; the reader polls on."""

    stack: Stack
    faults: Faults
    reader: Reader
    site: str
    folder: Path
    say: Callable[[str], None]
    acknowledged: int = 0
    over_s: float | None = None
    marks: Mapping[int, int] = field(default_factory=dict)
    later: list[Callable[[], None]] = field(default_factory=list)

    def hold(self, seconds: float) -> None:
        """A fault's length; the reader polls on."""
        time.sleep(seconds)

    def fault_is_over(self) -> None:
        """Recovery is timed from the first call. `marks` are the topic's ends, as soon as the broker tells them."""
        if self.over_s is not None:
            return
        self.over_s = time.monotonic()

        def ask() -> None:
            try:
                self.marks = next_offsets_of(self.stack.settings, timeout_s=2)
            except KafkaException as error:
                raise AssertionError(f"Kafka does not answer: {error}") from error

        eventually(ask, _WITHIN_S)

    def produce(self, events: list[bytes]) -> None:
        """Send events as a file, all of them acknowledged when this returns."""
        self.acknowledged += produce(self.stack, events, self.folder / "events.jsonl")

    def is_fresh(self) -> bool:
        """Whether readers see what was in Kafka a moment ago, which takes half a second."""
        ends = next_offsets_of(self.stack.settings)
        self.hold(5)
        return all(self.reader.positions.get(partition, 0) >= end for partition, end in ends.items())

    def until(self, true: Callable[[], bool], batch: BatchRun | None = None) -> None:
        """Return once it is so; the batch run must not end before."""
        deadline = time.monotonic() + _WITHIN_S
        while not true():
            assert batch is None or not batch.has_ended, f"the run ended before the fault: {batch.finish()}"
            assert time.monotonic() < deadline, f"not so within {_WITHIN_S} s"
            time.sleep(_LOOK_S)

    def last_run(self) -> int:
        """The highest run_id so far."""
        return int(self.stack.ask("SELECT coalesce(max(run_id), 0) FROM runs")[0][0])

    def next_run(self, last: int, batch: BatchRun) -> int:
        """The id of the run that begins after run `last`."""
        self.until(lambda: self.last_run() > last, batch)
        return self.last_run()

    def state_of(self, run_id: int) -> str:
        """running, published or failed."""
        return str(self.stack.ask(f"SELECT state FROM runs WHERE run_id = {run_id}")[0][0])

    def tasks_of(self, run_id: int) -> int:
        """How many tasks have written rows."""
        query = f"SELECT count(*) FROM serving.run_task WHERE run_id = {run_id} AND row_count > 0"
        return int(self.faults.owner_asks(query)[0][0])

    def waiting(self, function: str) -> int:
        """How many sessions wait in this function for a lock."""
        query = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT %{function}(%'"
        return int(self.faults.owner_asks(query)[0][0])

    def expect_published(self, batch: BatchRun, run_id: int) -> None:
        """Wait for the run's end, which must be its publication."""
        status, said = batch.finish()
        assert status == 0, said
        assert self.state_of(run_id) == "published"
