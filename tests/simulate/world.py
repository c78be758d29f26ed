"""One Braid in one process: topic, store, clock and database, the processes of every layer, and what may happen to them.

Everything that happens is drawn from one seed, so a seed is a history that can be replayed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from pystorm.component import Tuple

import batch.run
from contract.errors import ArchiveBehind, DataLost, EngineUnavailable, RollbackRefused, RunRefused
from contract.master import MASTER, OffsetRange, archived_next_offset, folder
from contract.settings import Settings
from ingest.archive import Archiver
from ingest.archive_files import ArchiveFiles
from serving.database import connect
from serving.rollback import rollback
from speed.merge_bolt import MergeBolt
from speed.range_spout import RangeSpout
from speed.sketch_bolt import SketchBolt
from tests.fixtures.memory import GAP, MemoryStore, MemoryTopic
from tests.oracle import Record, Rejected, event_of
from tests.simulate.engines import Admin, Clock, HdfsClient, Sessions, SimulatedConsumer, Spark
from tests.simulate.process import Killed, Process, current, point

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
_MALFORMED = (b"", b"{", b"\xff\xfe", b"[]", b'{"event_id":"x"}', b"null", b"not an event", None)


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

    def end(self, tuple_id: str, acked: bool) -> None:
        """A bolt's ack or fail, or the time-out; the first that comes is the one that the spout hears."""
        if tuple_id in self.in_flight and current() in (None, *self.bolts):
            self.in_flight.remove(tuple_id)
            self.outcomes.append((tuple_id, acked))


class _Spout(RangeSpout):
    """The real spout with its two ends in memory."""

    def __init__(self, world: World) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger, self._storm = world.logger, world.storm

    def emit(self, values: list[Any], tup_id: str) -> None:  # type: ignore[override]
        self._storm.emit(tup_id, values)


class _Bolt(SketchBolt):
    """The real bolt with its two ends in memory."""

    def __init__(self, world: World) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger, self._storm = world.logger, world.storm

    def ack(self, tup: Tuple) -> None:  # type: ignore[override]
        self._storm.end(tup.id, acked=True)

    def fail(self, tup: Tuple) -> None:  # type: ignore[override]
        self._storm.end(tup.id, acked=False)

    def emit(self, values: list[Any]) -> None:  # type: ignore[override]
        self._storm.appended.append(Tuple("", "", "", "", values))


class _MergeBolt(MergeBolt):
    """The real bolt with its end in memory."""

    def __init__(self, world: World) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger = world.logger


class _Logger:
    """Keeps what the layers say; printed when a seed is replayed."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def info(self, text: str, *arguments: Any) -> None:
        self._say(text % arguments if arguments else text)

    warning = info


@dataclass
class World:
    """All of Braid for one seed. `database` names a migrated, empty database; `sessions` are its connections."""

    seed: int
    database: Settings
    sessions: Sessions
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        random.seed(self.seed)  # of the pauses between retries
        chance = self.chance
        partitions = chance.randint(1, 3)
        self.settings = replace(
            self.database,
            topic_partitions=partitions,
            archive_flush_rows=chance.randint(2, 12),
            archive_flush_ms=chance.choice([1, 2_000, 20_000]),
            archive_merge_files=chance.randint(2, 4),
            archive_grace_ms=chance.choice([0, 5_000, 60_000]),
            range_max_offsets=chance.randint(1, 12),
            range_linger_ms=chance.choice([0, 250]),
            ranges_in_flight=chance.randint(1, 3),
            speed_merge_rows=chance.choice([1, 5, 10_000]),
            dedupe_window_offsets=chance.choice([8, 16, 64]),
            dedupe_false_positive_rate=1e-12,
            batch_wait_s=3,
            rescue_offsets=chance.choice([1, 10, 1_000_000]),
            keep_runs=chance.randint(1, 2),
        )
        self.topic = MemoryTopic({partition: [] for partition in range(partitions)})
        self.repeats: dict[tuple[int, int], int] = {}
        """(partition, offset) of a repeat: the offset of its first copy."""
        self.replayed: set[tuple[int, int]] = set()
        """(partition, offset) of repeats of what a batch run had counted; their first copy may be in another partition."""
        self.store = MemoryStore(fault=self._hdfs_point)
        self.clock = Clock(START.timestamp())
        self.logger = _Logger(self.history.append)
        self.storm = Storm()
        self.processes: list[Process] = []
        self.archivers: list[Process] = []
        self.runs: list[Process] = []
        self.held: list[tuple[int, bytes]] = []
        self._numbers, self._calm = 0, False
        self._replace_topology()
        self._start_archiver()

    # What may happen. Each is one step; the scheduler draws which.

    def produce(self) -> None:
        """A few new events, some late, some malformed; some are held back and arrive after later ones."""
        for _ in range(self.chance.randint(1, 6)):
            partition, value = self.chance.randrange(self.settings.topic_partitions), self._value()
            if self.chance.random() < 0.1:
                self.held.append((partition, value))
            else:
                self._append(partition, value)
        while self.held and self.chance.random() < 0.3:
            self._append(*self.held.pop(self.chance.randrange(len(self.held))))

    def send_again(self) -> None:
        """Records of the window once more, as a producer that heard no answer, or a client, does."""
        for _ in range(self.chance.randint(1, 4)):
            partition = self.chance.randrange(self.settings.topic_partitions)
            records = self.topic.partitions[partition]
            first = max(self.topic.low_offsets.get(partition, 0), len(records) - self.settings.dedupe_window_offsets)
            known = [o for o in range(first, len(records)) if records[o] is not GAP and not self.is_again(partition, o)]
            if known:
                offset = self.chance.choice(known)
                self.repeats[partition, len(records)] = offset
                records.append((self._now_ms(), records[offset][1]))  # type: ignore[index]

    def replay(self) -> None:
        """Events that the live run has counted, of any age, once more and in any partition, as a replay of history does."""
        with connect(self.settings, "reader") as reader:
            cover = reader.execute("SELECT day, cut FROM replay_cover WHERE bytes > 0").fetchall()
        days, cut = {day for day, _ in cover}, next((cut for _, cut in cover), {})
        counted = []
        for partition, next_offset in cut.items():
            for place in self.records(int(partition), 0, next_offset):
                with suppress(Rejected):
                    _, time = event_of(place[3], place[2])
                    if time.date() in days and not self.is_again(*place[:2]):
                        counted.append(place)
        for partition, _, _, value in self.chance.sample(counted, min(len(counted), self.chance.randint(1, 5))):
            # Batch counts the copy that is first by (partition, offset); so the ledger's partitions stay what they were.
            target = self.chance.randrange(partition, self.settings.topic_partitions)
            self.replayed.add((target, len(self.topic.partitions[target])))
            self._append(target, value)

    def end_a_transaction(self) -> None:
        """A producer's transaction leaves an offset without a record."""
        self.topic.partitions[self.chance.randrange(self.settings.topic_partitions)].append(GAP)

    def retention(self) -> None:
        """Kafka deletes old records, read or not; only where no first copy goes whose repeat stays."""
        partition = self.chance.randrange(self.settings.topic_partitions)
        low, high = self.topic.low_offsets.get(partition, 0), len(self.topic.partitions[partition])
        safe = archived_next_offset(self.master_files(partition)) if self.seed % 10 else high
        target = self.chance.randint(low, max(low, safe))
        if not any(p == partition and first < target <= again for (p, again), first in self.repeats.items()):
            self.topic.low_offsets[partition] = target

    def pass_time(self) -> None:
        """Files get old, ranges linger long enough."""
        self.clock.now_s += self.chance.choice([0.1, 1, 10, 100])
        self.store.now_ms = int(self.clock.now_s * 1000)

    def work(self) -> None:
        """A process goes on to its next point."""
        if living := self._living():
            process = self.chance.choice(living)
            self.step(process, self.chance.choice([process.resume] * 12 + [process.fail]))

    def work_on(self) -> None:
        """A process goes on for a while, as it usually does."""
        if living := self._living():
            self._go_on(self.chance.randint(2, 40), self.chance.choice(living))

    def work_on_a_run(self) -> None:
        """A batch run goes on for a while, and the archiver while it waits for it."""
        if living := [run for run in self.runs if run.alive]:
            run = self.chance.choice(living)
            for _ in range(self.chance.randint(5, 80)):
                self._go_on(1, run, *(self.archivers if run.at == "asleep" else ()))

    def count_and_archive(self) -> None:
        """The layers that follow the topic come as far as they can, or nearly."""
        for _ in range(self.chance.randint(2, 15)):
            storm = (self.storm.spout, *self.storm.bolts, self.storm.merger)
            self._go_on(1, *(process for process in storm if process), *self.archivers)
            self.clock.now_s += 0.1

    def crash(self) -> None:
        """kill -9 of a process where it stands."""
        if living := self._living():
            process = self.chance.choice(living)
            self.step(process, process.kill)

    def time_out(self) -> None:
        """Storm gives up a tuple."""
        if self.storm.in_flight:
            self.storm.end(self.chance.choice(self.storm.in_flight), acked=False)

    def replace_topology(self) -> None:
        """Storm starts other workers, perhaps another number of them; some of the old ones are alive still."""
        for process in self._living():
            if process.name.startswith(("bolt", "spout", "merger")) and self.chance.random() < 0.5:
                self.step(process, process.kill)
        self._replace_topology()

    def second_archiver(self) -> None:
        """One more archiver, while another one may be at work, or may wake up later."""
        if sum(process.alive for process in self.archivers) < 3:
            self._start_archiver()

    def archivers_at_once(self) -> None:
        """All archivers go on, now this one and now that one, while records come, and other archivers."""
        for _ in range(self.chance.randint(5, 40)):
            if self.chance.random() < 0.1:
                self.second_archiver()
            if living := [archiver for archiver in self.archivers if archiver.alive]:
                self._go_on(self.chance.randint(1, 10), self.chance.choice(living))
            if self.chance.random() < 0.3:
                self.produce()

    def begin_run(self) -> None:
        """A batch run, beside another one perhaps."""
        if sum(process.alive for process in self.runs) < 2:
            self._start_run()

    def overtaken_run(self) -> None:
        """A run is still at work when another one, with a later cut, publishes and collects the garbage."""
        if not any(run.alive for run in self.runs):
            self._start_run()
            slow = self.runs[-1]
            self._go_on(self.chance.randint(2, 20), slow)
            self.produce()
            self.count_and_archive()
            self._start_run()
            self._go_on(200, self.runs[-1], *self.archivers)
            self._go_on(self.chance.choice([0, 10, 200]), slow, *self.archivers)

    def roll_back(self) -> None:
        """The views shall answer from another run, which may not be kept, or at once with a run that publishes."""
        run_id = self.chance.choice([None, None, self.chance.randint(1, 8)])

        def body() -> None:
            with connect(self.settings, "batch") as connection:
                self.history.append(rollback(connection, run_id).text())

        self._go_on(self.chance.randint(1, 4), self._start("rollback", body))

    def interrupt_run(self) -> None:
        """Ctrl-C."""
        if living := [run for run in self.runs if run.alive]:
            run = self.chance.choice(living)
            self.step(run, run.interrupt)

    def supervise(self) -> None:
        """What died is started again."""
        if not any(process.alive for process in self.archivers):
            self._start_archiver()
        if not (self.storm.spout and self.storm.spout.alive and all(bolt.alive for bolt in self.storm.bolts)):
            self._replace_topology()

    # How it happens.

    def _go_on(self, steps: int, *processes: Process) -> None:
        """These processes in turn, each as many steps or until it ends."""
        for _ in range(steps):
            for process in processes:
                if process.alive:
                    self.step(process, process.resume)

    def step(self, process: Process, how: Callable[[], object]) -> None:
        """One process, up to its next point where it holds no locks; the clock stands still meanwhile."""
        where = process.at
        if how() is False:
            process.resume()
        self.history.append(f"{process.name}: {getattr(how, '__name__', how)} at {where!r} -> {process.at!r}")
        while process.alive and process.holds_locks:
            where, draw = process.at, 1 if self._calm else self.chance.random()
            (process.kill if draw < 0.05 else process.fail if draw < 0.1 else process.resume)()
            self.history.append(f"{process.name}: on from {where!r} -> {process.at!r}")
        self.store.now_ms = int(self.clock.now_s * 1000)
        if not process.alive:
            self._ended(process)

    def settle(self, check: Callable[[], None]) -> None:
        """No more faults: fresh processes do what is left, a batch run takes in all; AssertionError if that never comes."""
        for process in self._living():
            self.step(process, process.kill)
        self._calm = True
        self.settings = replace(self.settings, rescue_offsets=1, batch_wait_s=100, archive_flush_ms=1)
        for held in self.held:
            self._append(*held)
        self.held.clear()
        self._replace_topology()
        self._start_archiver()
        self._until("the archive is complete", check, lambda: self._archived_all() or self.records_are_lost())
        if self.records_are_lost():
            return
        self._start_run()
        self._until("the run has ended", check, lambda: not self.runs[-1].alive)
        if error := self.runs[-1].error:
            raise error
        self._until("the speed layer is done", check, lambda: not self.storm.in_flight)

    def ends(self) -> dict[int, int]:
        """The high watermark of each partition."""
        return {partition: len(records) for partition, records in self.topic.partitions.items()}

    def records(self, partition: int, first_offset: int = 0, next_offset: int | None = None) -> Iterator[Record]:
        """The records of a partition that were ever produced, deleted ones included."""
        for offset, record in enumerate(self.topic.partitions[partition][:next_offset]):
            if record is not GAP and offset >= first_offset:
                yield partition, offset, record[0], record[1]  # type: ignore[index]

    def is_again(self, partition: int, offset: int) -> bool:
        """Whether the record is another one once more."""
        return (partition, offset) in self.repeats or (partition, offset) in self.replayed

    def master_files(self, partition: int) -> list[OffsetRange]:
        """What the listing of the master dataset shows."""
        place = folder(self.settings.archive_root, MASTER, partition) + "/"
        names = (path.removeprefix(place) for path in self.store.files if path.startswith(place))
        return [file for name in names if (file := OffsetRange.of_file(partition, name))]

    @contextmanager
    def in_place(self) -> Iterator[World]:
        """The engines' clients are those of this world inside the block."""
        with ExitStack() as stack:
            for place, stand_in in (
                ("psycopg.connect", self.sessions.open),
                ("ingest.archive_files.uuid.uuid4", lambda: SimpleNamespace(hex=f"{self.chance.getrandbits(128):032x}")),
                ("speed.range_spout.AdminClient", lambda config: Admin(self.topic)),
                ("speed.range_spout.time", self.clock),
                ("speed.reader.Consumer", self._consumer),
                ("speed.reader.time", self.clock),
                ("batch.archive.InsecureClient", lambda *arguments, **options: HdfsClient(self.store)),
                ("batch.archive.time", self.clock),
                ("batch.archive.Archive.read", lambda archive, path: self.store.read(path)),
                ("batch.job.context", lambda settings: Spark(self.chance)),
                # Runs share this process's handlers here; interrupt() raises where Ctrl-C would.
                ("batch.run.signal", SimpleNamespace(SIGINT=2, SIGTERM=15, signal=lambda number, handler: None)),
                ("contract.settings.Settings.from_env", lambda: self.settings),
            ):
                stack.enter_context(patch(place, stand_in))
            yield self

    def end(self) -> None:
        """Kill what is alive, so that nothing of this world touches the next one's."""
        for process in self._living():
            process.kill()
            self.sessions.end(process)

    def _living(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def _until(self, state: str, check: Callable[[], None], reached: Callable[[], bool]) -> None:
        for _ in range(2_000):
            if reached():
                return
            for process in self._living():
                self.step(process, process.resume)
                check()
            self.clock.now_s += 0.02
        raise AssertionError(f"it never comes that {state}")

    def _archived_all(self) -> bool:
        ends = {partition: archived_next_offset(self.master_files(partition)) for partition in self.topic.partitions}
        return ends == self.ends()

    def records_are_lost(self) -> bool:
        """Kafka deleted records before the archiver read them, and it said so."""
        return isinstance(self.archivers[-1].error, DataLost)

    def _ended(self, process: Process) -> None:
        self.sessions.end(process)
        error = process.error
        if isinstance(error, Killed | KeyboardInterrupt | None):
            return
        expected = {
            "archiver": (DataLost,),
            "run": (RunRefused, ArchiveBehind, EngineUnavailable),
            "rollback": (RollbackRefused, EngineUnavailable),
        }
        if not isinstance(error, expected.get(process.name.split()[0], ())):
            raise error
        self.history.append(f"{process.name} ended: {error}")

    def _start(self, name: str, body: Callable[[], None]) -> Process:
        self._numbers += 1
        process = Process(f"{name} {self._numbers}", body)
        self.processes = [*self._living(), process]
        return process

    def _start_archiver(self) -> None:
        def body() -> None:
            files = ArchiveFiles(self.store, self.settings.archive_root)
            consumer = self._consumer({})
            archiver = Archiver(self.settings, consumer, files, _NeverStop(self.clock), self.history.append, self.clock.time)
            archiver.start()
            while True:
                point("archiver: idle")
                archiver.step()

        self.archivers = [archiver for archiver in self.archivers if archiver.alive]
        self.archivers.append(self._start("archiver", body))

    def _replace_topology(self) -> None:
        def spout() -> None:
            spout = _Spout(self)
            spout.initialize({}, {})
            while True:
                point("spout: idle")
                while self.storm.outcomes and self.storm.spout is current():
                    tuple_id, acked = self.storm.outcomes.pop(0)
                    (spout.ack if acked else spout.fail)(tuple_id)
                spout.next_tuple()

        def bolt() -> None:
            bolt = _Bolt(self)
            bolt.initialize({}, {})
            while True:
                point("bolt: idle")
                if queue := self.storm.queues[current()]:
                    bolt.process(queue.pop(0))

        def merger() -> None:
            merger = _MergeBolt(self)
            merger.initialize({}, {})
            while True:
                point("merger: idle")
                if self.storm.appended:
                    merger.process(self.storm.appended.pop(0))

        self.storm.merger = self._start("merger", merger)
        self.storm.bolts = [self._start("bolt", bolt) for _ in range(self.chance.randint(1, 2))]
        self.storm.queues |= {process: [] for process in self.storm.bolts}
        self.storm.spout = self._start("spout", spout)
        self.storm.in_flight, self.storm.outcomes = [], []

    def _start_run(self) -> None:
        full = self.chance.random() < 0.3

        def body() -> None:
            batch.run.run(self.settings, self.history.append, full)

        self.runs = [run for run in self.runs if run.alive]
        self.runs.append(self._start("run", body))

    def _consumer(self, config: dict[str, Any]) -> SimulatedConsumer:
        return SimulatedConsumer(config, self.topic, self.clock, self.chance)

    def _hdfs_point(self, operation: str, path: str) -> None:
        point(f"hdfs: {operation} {path.rpartition('/')[2]}", EngineUnavailable.at("HDFS", "memory", operation))

    def _append(self, partition: int, value: bytes | None) -> None:
        self.topic.partitions[partition].append((self._now_ms(), value))

    def _now_ms(self) -> int:
        return int(self.clock.now_s * 1000)

    def _value(self) -> bytes | None:
        chance = self.chance
        if chance.random() < 0.1:
            return chance.choice(_MALFORMED)
        self._numbers += 1
        late = timedelta(days=chance.choice([0, 0, 0, 0, 1, 30]), minutes=chance.choice([0, 1, 61]))
        event = {
            "event_id": f"e:{self._numbers}",
            "event_time": (START - late).isoformat(),
            "site": chance.choice(["demo", "shop"]),
            "page": chance.choice(["/", "/cart"]),
            "visitor_id": f"v{chance.randrange(20)}",
            "status": chance.choice([200, 200, 404, 503]),
            "bytes_sent": chance.randrange(10_000),
        }
        if chance.random() < 0.7:
            event["duration_ms"] = chance.choice([0.0, 1.5, 80.0, 3_000.0])
        return json.dumps(event).encode()


@dataclass(frozen=True)
class _NeverStop:
    """ingest.stop.Stop of a process that nobody asks to stop."""

    clock: Clock

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.clock.sleep(seconds)
        return False
