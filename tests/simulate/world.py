"""One Braid in one process: topic, store, clock and database, the processes of every layer, and what may happen to them.

Everything that happens is drawn from one seed, so a seed is a history that can be replayed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import batch.run
from contract.errors import ArchiveBehind, ArchiveGap, EngineUnavailable, RollbackRefused, RunRefused
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.master import MASTER, OffsetRange, archived_next_offset, folder
from contract.settings import Settings
from ingest.archive import Archiver
from ingest.archive_files import ArchiveFiles
from serving.database import connect
from serving.rollback import rollback
from tests.fixtures.memory import MemoryStore, MemoryTopic
from tests.simulate.engines import Admin, Clock, HdfsClient, Sessions, SimulatedConsumer, Spark
from tests.simulate.process import Killed, Process, point
from tests.simulate.records import START, Producers
from tests.simulate.storm import Storm

_MOST_PARTITIONS = 5


class _Logger:
    """Keeps what the layers say; printed when a seed is replayed."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def info(self, text: str, *arguments: Any) -> None:
        self._say(text % arguments if arguments else text)

    warning = info

    def exception(self, text: str, *arguments: Any) -> None:
        """What nobody has foreseen ends the history."""
        self._say(text % arguments)
        raise


@dataclass
class World:
    """All of Braid for one seed. `database` names a migrated, empty database; `sessions` are its connections."""

    seed: int
    database: Settings
    sessions: Sessions
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.clock_chance = random.Random(f"clock of {self.seed}")
        random.seed(self.seed)  # of the pauses between retries
        chance = self.chance
        partitions = chance.randint(1, 3)
        self.settings = replace(
            self.database,
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
        self.store = MemoryStore(fault=self._hdfs_point)
        self.clock = Clock(START.timestamp())
        self.producers = Producers(self.topic, self.settings.dedupe_window_offsets, self.clock, chance)
        self.logger = _Logger(self.history.append)
        self.storm = Storm()
        self.processes: list[Process] = []
        self.archivers: list[Process] = []
        self.runs: list[Process] = []
        self._numbers, self._calm = 0, False
        self._replace_topology()
        self._start_archiver()

    # What may happen. Each is one step; the scheduler draws which.

    def produce(self) -> None:
        """New records."""
        self.producers.produce()

    def send_again(self) -> None:
        """Records of the window once more."""
        self.producers.send_again()

    def replay(self) -> None:
        """Events that the live run has counted once more."""
        if any(process.alive and process.name.startswith("rollback") for process in self.processes):
            return
        with connect(self.settings, "reader") as reader:
            cover = reader.execute("SELECT day, cut FROM replay_cover WHERE bytes > 0").fetchall()
        self.producers.replay({day for day, _ in cover}, next((cut for _, cut in cover), {}))

    def end_a_transaction(self) -> None:
        """An offset without a record."""
        self.producers.end_a_transaction()

    def retention(self) -> None:
        """Kafka deletes what is archived; in one history of ten, what is not, too."""
        ends = self.producers.ends()
        self.producers.retention(
            lambda partition: archived_next_offset(self.master_files(partition)) if self.seed % 10 else ends[partition]
        )

    def restart_broker(self) -> None:
        """Kafka's broker starts: each partition has a new leader epoch, and every record that it had."""
        for partition, end in self.producers.ends().items():
            self.topic.cut(partition, end)

    def add_partition(self) -> None:
        """The topic gets one more partition; producers know it at once."""
        if len(self.topic.partitions) < _MOST_PARTITIONS:
            self.topic.add_partition()

    def pass_time(self) -> None:
        """Files get old, ranges linger long enough; now and then somebody sets the clocks."""
        self.clock.now_s += self.chance.choice([0.1, 1, 10, 100])
        self.clock.step_s += self.clock_chance.choice([0] * 8 + [-3_600, 3_600])
        self.store.now_ms = int(self.clock.time() * 1000)

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
            self._go_on(1, *self.storm.processes, *self.archivers)
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
        """The views shall answer from another run, mostly one that is kept, or at once with a run that publishes.

        Not while a replay is on its way: repeats that come after a rollback past their first copies are not recognised
        until the next run, and docs/decisions.md says so.
        """
        with connect(self.settings, "reader") as reader:
            counted = dict(reader.execute("SELECT partition, next_offset FROM ledger").fetchall())
            kept = [
                run_id for (run_id,) in reader.execute("SELECT run_id FROM runs WHERE is_kept AND NOT is_live ORDER BY 1")
            ]
        if self.producers.replayed_since(counted):
            return
        run_id = self.chance.choice([*kept * 8, None, self.chance.randint(1, 8)])

        def body() -> None:
            with connect(self.settings, "batch") as connection:
                self.history.append(rollback(connection, run_id).text())

        self._go_on(self.chance.choice([1, 2, 3, 10, 10, 10]), self.start("rollback", body))

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
        self.store.now_ms = int(self.clock.time() * 1000)
        if not process.alive:
            self._ended(process)

    def start(self, name: str, body: Callable[[], None]) -> Process:
        """A process that begins at its first step."""
        self._numbers += 1
        process = Process(f"{name} {self._numbers}", body)
        self.processes = [*self._living(), process]
        return process

    def settle(self, check: Callable[[], None]) -> None:
        """No more faults: fresh processes do what is left, a batch run takes in all; AssertionError if that never comes."""
        for process in self._living():
            self.step(process, process.kill)
        self._calm = True
        self.settings = replace(self.settings, rescue_offsets=1, batch_wait_s=100, archive_flush_ms=1)
        self.producers.release()
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
                ("speed.reader.AdminClient", lambda config: Admin(self.topic)),
                ("serving.gaps.AdminClient", lambda config: Admin(self.topic)),
                ("serving.log_ends.AdminClient", lambda config: Admin(self.topic)),
                ("serving.log_check.Consumer", self._consumer),
                ("serving.log_check.time", self.clock),
                ("speed.reader.time", self.clock),
                ("batch.archive.InsecureClient", lambda *arguments, **options: HdfsClient(self.store)),
                ("batch.archive.time", self.clock),
                ("batch.archive.Archive.read", lambda archive, path, first_byte=0: self.store.read(path, first_byte)),
                ("batch.job.context", lambda settings: Spark(self.chance)),
                # Runs share this process's handlers here; interrupt() raises where Ctrl-C would.
                ("batch.run.signal", SimpleNamespace(SIGINT=2, SIGTERM=15, signal=lambda number, handler: None)),
                # It is no transaction that could be cut off, and changes no answer.
                ("batch.run.vacuum", lambda connection: None),
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
        return ends == self.producers.ends()

    def records_are_lost(self) -> bool:
        """Kafka deleted records before they were in a file."""
        return any(
            Extent.of(partition, self.master_files(partition), lambda file: LogPosition(file.next_offset)).lost(
                self.topic.low_offsets.get(partition, 0)
            )
            for partition in self.topic.partitions
        )

    def _ended(self, process: Process) -> None:
        self.sessions.end(process)
        error = process.error
        if isinstance(error, Killed | KeyboardInterrupt | None):
            return
        expected = {
            "run": (RunRefused, ArchiveBehind, ArchiveGap, EngineUnavailable),
            "rollback": (RollbackRefused, EngineUnavailable),
        }
        if not isinstance(error, expected.get(process.name.split()[0], ())):
            raise error
        self.history.append(f"{process.name} ended: {error}")

    def _start_archiver(self) -> None:
        def body() -> None:
            files = ArchiveFiles(self.store, self.settings.archive_root)
            clocks = self.clock.monotonic, self.clock.time
            archiver = Archiver(
                self.settings,
                lambda: self._consumer({}),
                self.topic.described,
                files,
                _NeverStop(self.clock),
                self.history.append,
                *clocks,
            )
            archiver.start()
            while True:
                point("archiver: idle")
                archiver.step()

        self.archivers = [archiver for archiver in self.archivers if archiver.alive]
        self.archivers.append(self.start("archiver", body))

    def _replace_topology(self) -> None:
        self.storm.replace(self.start, self.chance.randint(1, 2), self.logger)

    def _start_run(self) -> None:
        full = self.chance.random() < 0.3

        def body() -> None:
            batch.run.run(self.settings, self.history.append, full)

        self.runs = [run for run in self.runs if run.alive]
        self.runs.append(self.start("run", body))

    def _consumer(self, config: dict[str, Any]) -> SimulatedConsumer:
        return SimulatedConsumer(config, self.topic, self.clock, self.chance)

    def _hdfs_point(self, operation: str, path: str) -> None:
        point(f"hdfs: {operation} {path.rpartition('/')[2]}", EngineUnavailable.at("HDFS", "memory", operation))


@dataclass(frozen=True)
class _NeverStop:
    """ingest.stop.Stop of a process that nobody asks to stop."""

    clock: Clock

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.clock.sleep(seconds)
        return False
