"""What a fault has to work with: the stack, what can be done to it, and what is known of the batch runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, islice

from confluent_kafka import KafkaException

from batch.archive import Archive
from contract.master import OffsetRange
from contract.resumption import Resumption
from ingest.simulate import Shares, events
from tests.drill.faults import BatchRun, Faults
from tests.drill.reader import Reader
from tests.drill.sent_file import SentFile
from tests.drill.traffic import RecordedTraffic, Traffic, produce
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import next_offsets_of
from tests.fixtures.stack import Stack, shifted

_WITHIN_S = 600
_LOOK_S = 0.05


@dataclass
class Ground:
    """A stack on which something is about to break, what can be done to it, and who is told."""

    stack: Stack
    faults: Faults
    say: Callable[[str], None]

    def hold(self, seconds: float) -> None:
        """A fault's length; whoever looks at the stack looks on."""
        time.sleep(seconds)


@dataclass
class Scene(Ground):
    """One drill while it runs. What a fault puts into `later` is done when the traffic has ended; the reader polls on.

    `before` is where the speed layer stood at rest before it. A fault that loses records of Kafka sets `plan` and
    `archived`, as loss.Loss has them, and `shifts`, by which Braid counts from then on; one that loses records of HDFS
    sets `gap`, one that loses the database `anew_s`, and one that takes events back the site `taken_back` that all of them
    name; one that has a file sent sets `file`. What goes `beside` ends when the readers do. Readers look at `site` and at
    `other_site`. `during` says of a moment what was going on then; what is wrong, and what was measured, goes to
    `complaints` and `figures`.
    """

    reader: Reader
    before: Mapping[int, int]
    site: str
    traffic: Traffic | RecordedTraffic | None = None
    acknowledged: int = 0
    over_s: float | None = None
    marks: Mapping[int, int] = field(default_factory=dict)
    later: list[Callable[[], None]] = field(default_factory=list)
    shifts: Mapping[int, int] = field(default_factory=dict)
    started: Mapping[str, str] = field(default_factory=dict)
    plan: Resumption | None = None
    archived: Mapping[int, int] = field(default_factory=dict)
    gap: OffsetRange | None = None
    anew_s: float = float("inf")
    taken_back: str = ""
    file: SentFile | None = None
    beside: ExitStack = field(default_factory=ExitStack)
    during: Callable[[float], str] = lambda at_s: ""
    complaints: list[str] = field(default_factory=list)
    figures: dict[str, float | str] = field(default_factory=dict)

    @property
    def other_site(self) -> str:
        """For events beside the drill's own."""
        return f"{self.site}-other"

    def fault_is_over(self) -> None:
        """Recovery is timed from the first call. `marks` are the topic's ends, as soon as the broker tells them."""
        if self.over_s is not None:
            return
        self.over_s = time.monotonic()

        def ask() -> None:
            try:
                self.marks = self.ends(timeout_s=2)
            except KafkaException as error:
                raise AssertionError(f"Kafka does not answer: {error}") from error

        eventually(ask, _WITHIN_S)

    def ends(self, timeout_s: float = 10) -> dict[int, int]:
        """Where each partition of the topic ends, as Braid counts."""
        return shifted(next_offsets_of(self.stack.settings, timeout_s), self.shifts)

    def is_counted(self) -> bool:
        """Whether readers have seen all that is in Kafka."""
        return all(self.reader.positions.get(partition, 0) >= end for partition, end in self.ends().items())

    def archive_ends(self) -> dict[int, int]:
        """Up to where each partition is on HDFS."""
        return Archive(self.stack.settings).next_offsets()

    def takes_over(self) -> bool:
        """Whether a run may take offsets over from the speed layer, which are in flight then."""
        return self.plan is not None or self.gap is not None or self.anew_s < float("inf")

    def stretch(self, start: datetime, length: timedelta, number: int, site: str = "") -> list[bytes]:
        """Valid events of the drill's site, or another, spread over a time, none twice."""
        ticks, source = count(), f"history of {site}" if site else "history"
        stream = events(1, lambda: start + length * next(ticks) / number, source, [site or self.site], Shares(0, 0, 0))
        return [value for _, value in islice(stream, number)]

    def produce(self, values: list[bytes]) -> None:
        """Send events, all of them acknowledged when this returns."""
        self.acknowledged += produce(self.stack, values)

    def is_fresh(self) -> bool:
        """Whether readers see what was in Kafka a moment ago, which takes half a second."""
        ends = self.ends()
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
