"""Seeds become histories: a database for them, one world a seed, a check after every step."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from contract.settings import Settings
from serving.database import connect
from serving.migrate import migrate
from tests.fixtures.database import emptying
from tests.simulate import edges
from tests.simulate.check import Checker
from tests.simulate.engines import Sessions
from tests.simulate.stand_ins import in_place
from tests.simulate.world import World

# How often each thing happens, relative to the others.
OPERATIONS = {
    World.work: 12,
    World.work_on: 12,
    World.produce: 10,
    World.count_and_archive: 6,
    World.work_on_a_run: 12,
    World.supervise: 5,
    World.begin_run: 6,
    World.crash: 3,
    World.pass_time: 3,
    World.send_again: 3,
    World.replay: 3,
    World.time_out: 2,
    World.replace_topology: 1,
    World.second_archiver: 1,
    World.archivers_at_once: 3,
    World.overtaken_run: 1,
    World.interrupt_run: 1,
    World.roll_back: 40,
    World.end_a_transaction: 1,
    edges.retention: 2,
    edges.restart_broker: 1,
    edges.add_partition: 1,
    edges.cut_logs: 1.3,
    edges.replace_topic: 0.8,
    edges.lose_file: 4,
    edges.resume_topics: 10,
    edges.accept_gaps: 4,
    edges.send_lost_again: 4,
    edges.change_archiver: 1,
    edges.forget_something: 4,
    edges.go_on_forgetting: 6,
    edges.lift: 5,
    edges.send_forgotten_again: 4,
}


class Wrong(Exception):
    """A history that broke a promise; `python -m tests.simulate --first SEED --seeds 1 --verbose` tells it again."""

    def __init__(self, seed: int, step: int, difference: str, history: tuple[str, ...]) -> None:
        super().__init__(seed, step, difference, history)
        self.seed, self.step, self.difference, self.history = seed, step, difference, history

    def __str__(self) -> str:
        return f"seed {self.seed}, step {self.step}: {self.difference}"


@dataclass(frozen=True)
class Told:
    """A history that was exact after each of its steps."""

    steps: int
    history: tuple[str, ...]

    def counts(self) -> Counter[str]:
        """How much happened in it."""
        counts = Counter(steps=self.steps)
        for line in self.history:
            counts["kills"] += ": kill at" in line
            counts["lost_connections"] += ": fail at" in line
            counts["publications"] += line.endswith(": published")
            counts["rollbacks"] += "is live in place of" in line
            counts["rescues"] += "takes them over" in line
            counts["partitions_added"] += line.endswith(": add_partition")
            counts["logs_cut"] += ": Kafka lost its offsets" in line
            counts["topics_replaced"] += "takes the place of the one before" in line
            counts["files_lost"] += " is lost, with " in line
            counts["resumptions"] += " from now on" in line
            counts["gaps_accepted"] += "are written down as lost" in line
            counts["fields_added"] += line == "archivers that start now know the duration"
            counts["statements"] += " is written down: " in line
            counts["statements_lifted"] += line.endswith(" is lifted")
            counts["forgettings_resumed"] += "statements are gone on with" in line
            counts["forgotten_and_sent_again"] += "forgotten records are sent again" in line
            counts["lost_and_sent_again"] += "lost records are sent again" in line
        counts["histories_that_forget"] = min(1, counts["statements"])
        return counts


class Simulator:
    """Histories, one after the other, on one database with the whole schema."""

    def __init__(self, settings: Settings, sessions: Sessions, eye: psycopg.Connection[Any]) -> None:
        self._settings, self._sessions, self._eye = settings, sessions, eye
        self._empty = emptying(eye)

    @contextmanager
    def world(self, seed: int) -> Iterator[tuple[World, Checker]]:
        """A new world over the emptied database."""
        self._eye.execute(self._empty)
        world = World(seed, self._settings, self._sessions)
        with in_place(world):
            try:
                yield world, Checker(world, self._eye)
            finally:
                world.end()

    def run(self, seed: int) -> Told:
        """The seed's history. Raises Wrong."""
        with self.world(seed) as (world, checker):
            chance, step = random.Random(f"steps of {seed}"), 0
            try:
                for step in range(chance.randint(20, 80)):
                    (operation,) = chance.choices(list(OPERATIONS), list(OPERATIONS.values()))
                    world.history.append(f"{step}: {operation.__name__}")
                    operation(world)
                    checker.check()
                world.settle(checker.check)
                # Most losses are settled there.
                if edges.send_lost_again(world):
                    world.settle(checker.check)
                checker.check_end()
            except Exception as error:
                difference = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
                raise Wrong(seed, step, difference, tuple(world.history)) from error
            return Told(step + 1, tuple(world.history))


@contextmanager
def simulator(settings: Settings) -> Iterator[Simulator]:
    """On a database of its own at the server that the settings name; it is dropped afterwards."""
    settings = replace(settings, database_name=f"simulate_{uuid.uuid4().hex[:12]}")
    name = sql.Identifier(settings.database_name)
    sessions = Sessions(psycopg.connect)
    try:
        migrate(settings)
        with connect(settings, "postgres") as eye:
            # Nothing here tests a power failure, and waiting for the disk takes most of the time.
            eye.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
        with connect(settings, "postgres") as eye:
            yield Simulator(settings, sessions, eye)
    finally:
        sessions.close()
        with connect(settings, "postgres", "postgres") as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def tell(seeds: range, stop: bool) -> tuple[Counter[str], list[Wrong]]:
    """What happened in the histories of these seeds, all counts added, and the wrong ones; with `stop` only the first."""
    wrong: list[Wrong] = []
    counts: Counter[str] = Counter()
    with simulator(Settings.from_env()) as histories:
        for seed in seeds:
            try:
                counts += histories.run(seed).counts()
            except Wrong as one:
                wrong.append(one)
                if stop:
                    break
    return counts, wrong
