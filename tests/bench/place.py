"""Where the bench measures: a stack of its own without traffic, that can be emptied, filled and asked for its CPU time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
from confluent_kafka import KafkaException
from requests import RequestException

from batch.archive import Archive
from contract.errors import BraidError
from serving.database import Connection, connect
from tests.bench.rounds import Candidates, Sample, in_turn
from tests.bench.usage import Containers
from tests.fixtures.database import emptying
from tests.fixtures.kafka import next_offsets_of
from tests.fixtures.own_stack import compose
from tests.fixtures.stack import ROOT, Stack

_LOOK_S = 0.1
_WITHIN_S = 600
# As fast as the simulator can.
_NO_LIMIT = 100_000_000


@dataclass
class Place:
    """The stack under measurement."""

    stack: Stack
    containers: Containers
    say: Callable[[str], None]
    with_rivals: bool

    def wait_for_rest(self) -> None:
        """Until the speed layer has taken up its work: the partitions have their positions."""
        self.until(lambda: len(self.stack.ask("SELECT partition FROM ledger")) == self.stack.settings.topic_partitions)

    def in_turn(self, ours: Candidates, rivals: Candidates, rounds: int) -> dict[str, list[Sample]]:
        """Samples of each candidate, without the rivals where they are not wanted."""
        return in_turn({**ours, **(rivals if self.with_rivals else {})}, rounds)

    def fill(self, events: int, seed: int) -> int:
        """Add simulated records to the topic; returns how many records it holds now."""
        self.say(f"filling the topic with {events:,} simulated records")
        self.stack.tools(
            *("-m", "ingest", "simulate", "--events", str(events), "--seed", str(seed), "--rate", str(_NO_LIMIT))
        )
        return self.records()

    def send(self, events: int, oldest_days: int, newest_days: int = 0) -> int:
        """Add simulated events from so many days ago to so many; returns how many records, by then counted and archived."""
        self.say(f"sending {events:,} events, {oldest_days} to {newest_days} days old")
        arguments = map(str, (events, oldest_days, newest_days, self.records() + 1))
        sent = int(self.inside("tests", "python", "-m", "tests.bench.inside.history", *arguments)["sent"])
        self.settle()
        return sent

    def thin_history(self, days: int, events_a_day: int, seed: int) -> None:
        """Send so many events of each of so many days before today; they are counted and archived when this returns."""
        self.say(f"sending {events_a_day:,} events of each of {days:,} days")
        self.inside("tests", "python", "-m", "tests.bench.inside.thin", *map(str, (days, events_a_day, seed)))
        self.settle()

    def records(self) -> int:
        """How many records the topic holds now."""
        return sum(next_offsets_of(self.stack.settings).values())

    def settle(self) -> int:
        """Until all that is in the topic is counted and archived; returns how many records that is."""
        self.say("waiting until all is counted and archived")
        records = self.records()
        self.until(lambda: self.counted() >= records and self.archived() >= records)
        return records

    def recover(self, look_s: float = _LOOK_S) -> None:
        """The same, whichever server is not there yet; of what comes after Kafka has answered nothing is waited for."""
        records: list[int] = []

        def recovered() -> bool:
            try:
                if not records:
                    records.append(self.records())
                return self.counted() >= records[0] and self.archived() >= records[0]
            except (BraidError, KafkaException, psycopg.Error, RequestException):
                self.forget_connection()
                return False

        self.until(recovered, look_s)

    def empty_views(self) -> None:
        """As if nothing had ever been counted; what is in Kafka stays."""
        with connect(self.stack.settings, "postgres") as owner:
            owner.execute(emptying(owner))

    def start_anew(self) -> None:
        """An empty stack, as after its first start."""
        self.say("emptying the stack")
        compose("--profile", "*", "down", "--volumes")
        subprocess.run(["compose/up"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        self.forget_connection()
        self.wait_for_rest()

    def counted(self) -> int:
        """How many records the speed layer has committed."""
        return int(self._eye.execute("SELECT coalesce(sum(next_offset), 0)::bigint FROM ledger").fetchall()[0][0])

    def archived(self) -> int:
        """How many records are on HDFS."""
        return sum(Archive(self.stack.settings).next_offsets().values())

    def forget_connection(self) -> None:
        """The database was away: the next question needs another one."""
        self.__dict__.pop("_eye", None)

    @cached_property
    def _eye(self) -> Connection:
        """A connection that stays: one a look would cost the database more than the look."""
        return connect(self.stack.settings, "reader")

    def truth(self) -> dict[str, int]:
        """Of all records in the topic, by the ledger: how many were received, counted, repeats, rejected."""
        names = ("received", "counted", "duplicate", "quarantined")
        sums = ", ".join(f"sum({name})::bigint" for name in names)
        return dict(zip(names, self.stack.ask(f"SELECT {sums} FROM ledger")[0], strict=True))

    def exact_events(self) -> int:
        """How many different events the archive holds, all of the topic in it; the speed layer's filters may drop some."""
        return int(self.inside("tests", "python", "-m", "tests.bench.rivals.one_process", "polars")["views"])

    def sample(self, position: Callable[[], int], end: int, look_s: float = _LOOK_S) -> Sample:
        """From the first progress that `position` shows until it reaches `end`; what starting up takes is not in it.

        A look costs the servers some milliseconds, which what is measured lacks: dear ones must be seldom.
        """
        reached = 0

        def has_reached(wanted: int) -> bool:
            nonlocal reached
            reached = position()
            return reached >= wanted

        self.until(lambda: has_reached(1), look_s)
        with self.containers.metered() as used:
            first, started_s = position(), time.monotonic()
            assert first < end, f"all {end:,} were there at the first look: too few to measure"
            self.until(lambda: has_reached(end), look_s)
            seconds = time.monotonic() - started_s
        return Sample(reached - first, seconds, used.cpu_s, used.memory_bytes)

    def inside(self, service: str, *arguments: str) -> dict[str, Any]:
        """What a program of ours in a container of its own printed as JSON on its last line."""
        said = self.stack.compose("run", "--rm", "-T", "--no-deps", service, *arguments)
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    def batch_run_s(self, *arguments: str) -> float:
        """How many seconds a batch run took, from the command to its end."""
        self.say(f"a batch run {' '.join(arguments)}".rstrip())
        started_s = time.monotonic()
        self.stack.compose("run", "--rm", "-T", "--no-deps", "batch", "python", "-m", "batch", "run", *arguments)
        return time.monotonic() - started_s

    def until(self, true: Callable[[], bool], look_s: float = _LOOK_S) -> None:
        """Return once it is so; AssertionError if that takes longer than anything measured here may."""
        deadline = time.monotonic() + _WITHIN_S
        while not true():
            assert time.monotonic() < deadline, f"not within {_WITHIN_S} s"
            time.sleep(look_s)
