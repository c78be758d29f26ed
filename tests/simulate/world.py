"""One Braid in one process: topic, store, clock and database, the processes of every layer, and what may happen to them.

Everything that happens is drawn from one seed, so a seed is a history that can be replayed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any

import batch.run
from contract.errors import (
    ArchiveBehind,
    ArchiveGap,
    EngineUnavailable,
    ForgettingUnfinished,
    InputError,
    PositionLost,
    RollbackRefused,
    RunRefused,
)
from contract.log_position import LogPosition
from contract.master import MASTER, partitions_in
from contract.resumption import Resumption
from contract.settings import Settings
from ingest.hdfs import FileStore
from serving.database import connect
from serving.gaps import plan_acceptance
from serving.resume import plan_resumption
from serving.rollback import rollback
from tests.fixtures.memory import MemoryStore, MemoryTopic
from tests.simulate.archivers import run_archiver
from tests.simulate.engines import Clock, Sessions, SimulatedConsumer
from tests.simulate.logs import Logs, Sent
from tests.simulate.operator import REFUSALS, START_ARCHIVER, STOP_ARCHIVER, accept_gap, forget_again, resume_topic
from tests.simulate.process import Killed, Process, point
from tests.simulate.records import START, Producers
from tests.simulate.statements import Statement, Statements
from tests.simulate.stored import Stored
from tests.simulate.storm import Storm

_RUN_ENDS = (RunRefused, ArchiveBehind, ArchiveGap, EngineUnavailable, PositionLost, ForgettingUnfinished)
_EXPECTED = {
    "run": _RUN_ENDS,
    "rollback": (RollbackRefused, EngineUnavailable),
    "resume-topic": (*_RUN_ENDS, *REFUSALS),
    "accept-gap": (*_RUN_ENDS, *REFUSALS),
    "forget": (*_RUN_ENDS, *REFUSALS),
    "lift": (EngineUnavailable, InputError),
}
"""By the first word of a process's name the errors with which it may end."""


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


Command = Callable[[Settings, FileStore, Callable[[str], None]], None]


@dataclass
class World:
    """All of Braid for one seed. `database` names a migrated, empty database; `sessions` are its connections."""

    seed: int
    database: Settings
    sessions: Sessions
    history: list[str] = field(default_factory=list)
    watch: Callable[[], None] = lambda: None
    """Called after each step of a process."""

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
        self.logs = Logs(self.topic, self.clock)
        self.producers = Producers(self.logs, self.settings.dedupe_window_offsets, chance)
        self.stored = Stored(self.store, self.settings.archive_root)
        self.statements = Statements(self.store, self.settings.archive_root, self.logs)
        self.marked: dict[int, dict[int, int]] = {}
        """By partition and offset the times of the records that files say are taken back."""
        self.removed: dict[int, dict[int, int | None]] = {}
        """By partition and offset the times of the records, if any, whose files were lost."""
        self.read: dict[int, dict[int, int | None]] = {}
        """The same of all that the speed layer has counted."""
        self.sent_again: set[int] = set()
        """Of what was lost."""
        self.knows_duration = True
        """Whether archivers that start are of today's version, or of one from before the event had its duration."""
        self.logger = _Logger(self.history.append)
        self.storm = Storm()
        self.processes: list[Process] = []
        self.archivers: list[Process] = []
        self.runs: list[Process] = []
        self._commands: list[Process] = []
        self._stopped_by: Process | None = None
        self._cuts = 0
        self._started_after: dict[Process, int] = {}
        """How often logs had been cut when an archiver started."""
        self._numbers, self._calm = 0, False
        self._replace_topology()
        self._start_archiver()

    # What may happen. Each is one step; the scheduler draws which.

    def produce(self) -> None:
        """New records."""
        self.producers.produce()

    def send_again(self) -> None:
        """Records of the window once more, but for those that are missing in the archive."""
        missing = {time_ms for gone in self.removed.values() for time_ms in gone.values() if time_ms is not None}
        self.producers.send_again(missing | self.lifted_in_window())

    def lifted_in_window(self) -> set[int]:
        """The times of what was forgotten until that was lifted, as long as the speed layer takes it for counted.

        What comes again is a repeat to it then, until the next run: docs/decisions.md says so.
        """
        ends = self.logs.ends()
        return {
            time_ms
            for time_ms, one in self.logs.sent.items()
            if not self.statements.forgets(time_ms)
            and any(time_ms <= said.last_sent_ms for said in self.statements.lifts_of(time_ms))
            and self.logs.holds(one)
            and one.offset >= ends[one.partition] - self.settings.dedupe_window_offsets
        }

    def is_on_its_way(self, statement: Statement) -> bool:
        """Whether a repeat of what the statement forgets was sent that not every layer has judged."""
        counted = self.counted_log_offsets()
        archived = {p: {*marks.values()} for p, marks in self.marked.items()}
        return any(
            one.first_ms is not None
            and statement.names(one)
            and (one.offset >= counted.get(partition, 0) or one.time_ms not in archived.get(partition, ()))
            for partition in self.topic.partitions
            for one in self.logs.there(partition)
        )

    def replay(self) -> None:
        """Events that the live run has counted once more."""
        if any(process.alive and process.name.startswith("rollback") for process in self.processes):
            return
        with connect(self.settings, "reader") as reader:
            cover = reader.execute("SELECT day, cut FROM replay_cover WHERE bytes > 0").fetchall()
        days, cut = {day for day, _ in cover}, next((cut for _, cut in cover), {})
        self.producers.replay([one for partition, at in cut.items() for one in self._counted(int(partition), at, days)])

    def _counted(self, partition: int, next_offset: int, days: set[date]) -> list[Sent]:
        """The events of the archive below an offset that are on one of the days, each once."""
        held = self.stored.records(partition).items()
        below = [self.logs.sent[one.time_ms] for offset, one in held if offset < next_offset]
        return [sent for sent in below if sent.day in days and sent.first_ms is None]

    def end_a_transaction(self) -> None:
        """An offset without a record."""
        self.producers.end_a_transaction()

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
        if living := [run for run in (*self.runs, *self._commands) if run.alive]:
            self._go_on_with(self.chance.choice(living), self.chance.randint(5, 80))

    def _go_on_with(self, run: Process, steps: int) -> None:
        for _ in range(steps):
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
        living = [process for process in self.archivers if process.alive]
        if len(living) < 3 and all(self._started_after[process] == self._cuts for process in living):
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
        until the next run, and docs/decisions.md says so. While nothing is kept a run goes on instead, mostly.
        """
        if self.is_position_lost():
            return
        with connect(self.settings, "reader") as reader:
            kept = [
                run_id for (run_id,) in reader.execute("SELECT run_id FROM runs WHERE is_kept AND NOT is_live ORDER BY 1")
            ]
        if not kept and self.chance.random() < 0.8:
            self.work_on_a_run()
            return
        counted = self.counted_log_offsets()
        if any(one.offset >= counted.get(one.partition, 0) for one in self.producers.replayed()):
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
        self.statements.look()
        # Between two points where it holds no locks a process commits once at most.
        self.watch()
        self.store.now_ms = int(self.clock.time() * 1000)
        if not process.alive:
            self._ended(process)
        elif process.at == STOP_ARCHIVER:
            self._stop_archiver(process)
        elif process.at == START_ARCHIVER:
            self._stopped_by = None
            for archiver in self.archivers:
                if archiver.alive and self._started_after[archiver] != self._cuts:
                    self.step(archiver, archiver.kill)
            self._start_archiver()

    def _stop_archiver(self, command: Process) -> None:
        """No archiver runs until the command lets it, or ends; nor does a bolt that may hold records of a lost log.

        One that is cut off from whoever stops it wakes up later, if no records of a lost log are at stake.
        """
        self._stopped_by = command
        if command.name.startswith("lift"):
            self.kill("archiver")
        elif command.name.startswith("forget"):
            for archiver in self.archivers:
                if archiver.alive and (self._calm or self.chance.random() < 0.5):
                    self.step(archiver, archiver.kill)
        else:
            self.kill("archiver")
            self._kill_bolts_of_a_lost_log()

    def _kill_bolts_of_a_lost_log(self) -> None:
        for bolt in self._living():
            if bolt.name.startswith("bolt") and (
                bolt not in self.storm.bolts or bolt.at != "bolt: idle" or self.storm.queues[bolt]
            ):
                self.step(bolt, bolt.kill)

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
        self._settle(check)
        if not any(archiver.alive for archiver in self.archivers):
            self._start_archiver()
        self._until("the archive is complete", check, lambda: self._is_archived() or self.lacks_offsets())
        self._settle(check)
        self._until("the archive is complete", check, self._is_archived)
        self._start_run()
        self._until("the run has ended", check, lambda: not self.runs[-1].alive)
        if error := self.runs[-1].error:
            raise error
        self._until("the speed layer is done", check, lambda: not self.storm.in_flight)

    def _settle(self, check: Callable[[], None]) -> None:
        """A person does what status, or the command before, asks for, more than once if that is needed."""
        for _ in range(6):
            # First, because the others end with a run, which is refused until it is done.
            if self.statements.unfinished:
                self.command("forget", forget_again, 0)
            elif self.lacks_offsets():
                self.command("accept-gap", accept_gap, 0)
            elif self.is_position_lost():
                self.command("resume-topic", resume_topic, 0)
            else:
                return
            self._until("a command has ended", check, lambda: not self.commands_under_way())
        raise AssertionError(f"commands are needed again and again; the last one ended with: {self._commands[-1].error}")

    def command(self, name: str, command: Command, steps: int) -> None:
        """A person begins with a command of compose/, and goes on with it for so many steps at least."""
        self._commands = [
            *self.commands_under_way(),
            self.start(name, lambda: command(self.settings, self.store, self.history.append)),
        ]
        self._go_on_with(self._commands[-1], steps)

    def commands_under_way(self) -> list[Process]:
        return [command for command in self._commands if command.alive]

    def kill(self, *kinds: str) -> None:
        """kill -9 of all processes whose names begin so."""
        for process in self._living():
            if process.name.startswith(kinds):
                self.step(process, process.kill)

    def keep_one_archiver(self) -> None:
        """Others are killed, and it stays alone until it has started anew."""
        for archiver in [archiver for archiver in self.archivers if archiver.alive][1:]:
            self.step(archiver, archiver.kill)
        self._cuts += 1

    def counted_log_offsets(self) -> dict[int, int]:
        """Where the speed layer stands in each partition, as Kafka counts."""
        with connect(self.settings, "reader") as reader:
            rows = reader.execute("SELECT * FROM log_positions").fetchall()
        return {partition: LogPosition(*at).log_offset for partition, *at in rows}

    def is_position_lost(self) -> bool:
        """Whether a reader stands in a log that Kafka has no more, as `make resume-topic` finds it."""
        return plan_resumption(self.settings) != Resumption()

    def lacks_offsets(self) -> bool:
        """Whether the archive, in the log that there is, lacks what Kafka has no more, as `make accept-gap` finds it."""
        return not plan_resumption(self.settings).partitions and bool(plan_acceptance(self.settings).lost)

    def misses_files(self) -> bool:
        """Whether a file was lost whose offsets are in no other one yet."""
        return any(gone.keys() - self.stored.covered(partition) for partition, gone in self.removed.items())

    def is_forgetting(self) -> bool:
        """Whether a command is at it that takes records out of the archive."""
        return any(command.name.startswith("forget") for command in self.commands_under_way())

    def archived_partitions(self) -> list[int]:
        """Those that the archive has files of."""
        place = f"{self.settings.archive_root}/{MASTER}/"
        return partitions_in(
            {path.removeprefix(place).partition("/")[0] for path in self.store.files if path.startswith(place)}
        )

    def ends(self) -> dict[int, LogPosition]:
        """Where the archive ends."""
        return {p: self.stored.extent(p).end for p in sorted({*self.archived_partitions(), *self.topic.partitions})}

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
                self._go_on(1, process)
                check()
            self.supervise()
            self.clock.now_s += 0.02
        raise AssertionError(f"it never comes that {state}")

    def _is_archived(self) -> bool:
        """All that Kafka has, in a topic of this id, and nothing is missing before it."""
        extents = {partition: self.stored.extent(partition) for partition in self.topic.partitions}
        return all(
            extent.end.log_offset == end and not extent.gaps and (end == 0 or extent.end.topic_id == self.topic.topic_id)
            for extent, end in ((extents[partition], end) for partition, end in self.logs.ends().items())
        )

    def _ended(self, process: Process) -> None:
        self.sessions.end(process)
        if process is self._stopped_by:
            self._stopped_by = None
        error = process.error
        if isinstance(error, Killed | KeyboardInterrupt | None):
            return
        if not isinstance(error, _EXPECTED.get(process.name.split()[0], ())):
            raise error
        self.history.append(f"{process.name} ended: {error}")

    def _start_archiver(self) -> None:
        if self._stopped_by is None:
            body = partial(run_archiver, self, self.knows_duration)
            self.archivers = [archiver for archiver in self.archivers if archiver.alive]
            self.archivers.append(self.start("archiver", body))
            self._started_after[self.archivers[-1]] = self._cuts

    def _replace_topology(self) -> None:
        self.storm.replace(self.start, self.chance.randint(1, 2), self.logger)

    def _start_run(self) -> None:
        full = self.chance.random() < 0.3

        def body() -> None:
            batch.run.run(self.settings, self.history.append, full)

        self.runs = [run for run in self.runs if run.alive]
        self.runs.append(self.start("run", body))

    def consumer(self, config: dict[str, Any]) -> SimulatedConsumer:
        """confluent_kafka's Consumer."""
        return SimulatedConsumer(config, self.topic, self.clock, self.chance)

    def _hdfs_point(self, operation: str, path: str) -> None:
        point(f"hdfs: {operation} {path.rpartition('/')[2]}", EngineUnavailable.at("HDFS", "memory", operation))
