"""Producers of a drill, run as a user runs them, and what each was told is in Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message

from contract.errors import BraidError
from ingest.sender import Record as Sent
from ingest.sender import Sender, connect
from ingest.simulate import Shares, events, pace
from ingest.stop import Stop
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import ROOT, Stack
from tests.oracle import Record

_RECORDED_RATE = 500
"""Each record is judged twice by the oracle, before and after the loss, and these drills last for minutes."""
_ENDS_WITHIN_S = 150
LOG = ROOT / "build" / "drill-traffic.log"


@dataclass(frozen=True)
class Load:
    """What is sent during a drill, events/s and shares of them from 0 to 1, and how many readers ask every so often."""

    rate: int = 2_000
    late: float = 0.05
    late_days: int = 3
    twice: float = 0.01
    malformed: float = 0.001
    readers: int = 1
    poll_s: float = 0.1


def _ingest(stack: Stack, *arguments: str) -> subprocess.Popen[str]:
    with LOG.open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ingest", *arguments, "--json"],
            cwd=ROOT,
            env=os.environ | {"BRAID_KAFKA_BOOTSTRAP": stack.settings.kafka_bootstrap},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _acknowledged(producer: subprocess.Popen[str], within_s: float = _ENDS_WITHIN_S) -> int:
    said, _ = producer.communicate(timeout=within_s)
    assert producer.returncode == 0, f"the producer failed with {producer.returncode}; see {LOG.relative_to(ROOT)}"
    return int(json.loads(said)["sent"])


class Traffic:
    """The simulator from `with` to its end; afterwards `acknowledged` records are in Kafka."""

    def __init__(self, stack: Stack, site: str, seed: int, load: Load) -> None:
        shares = {name: getattr(load, name) for name in ("rate", "late", "late_days", "twice", "malformed")}
        arguments = [word for name, value in shares.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        self._producer = _ingest(stack, "simulate", "--seed", str(seed), "--site", site, *arguments)
        self.acknowledged = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._producer.terminate()
        try:
            if error is None:
                self.acknowledged = _acknowledged(self._producer)
        finally:
            self._producer.kill()
            self._producer.wait()


class RecordedTraffic:
    """Thinner traffic, of which it is known where each record is: what Kafka loses afterwards is known all the same.

    `logs` are the records that were acknowledged, by Kafka's own offsets, those between two pauses together.
    """

    def __init__(self, stack: Stack, site: str, seed: int, load: Load) -> None:
        self._stack, self._site, self._seed = stack, site, seed
        self._shares = Shares(load.late, load.twice, load.malformed, load.late_days)
        self._again: deque[Sent] = deque()
        self.logs: list[list[Record]] = []
        self.keys: dict[bytes, str] = {}
        self.go_on()

    @property
    def acknowledged(self) -> int:
        """How many records Kafka has ever acknowledged."""
        return sum(map(len, self.logs))

    def go_on(self) -> None:
        """Send as soon as the broker answers, with a new producer: a broker that lost records knows the old one no more."""
        self._stop, self._error, acknowledged = Stop(), list[BraidError](), list[Record]()

        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                sender.on_failure(error, message)
                return
            place, value = (message.partition() or 0, message.offset() or 0), message.value() or b""
            acknowledged.append((*place, message.timestamp()[1], value))
            self.keys[value] = (message.key() or b"").decode()

        def connected() -> None:
            try:
                senders.append(Sender(self._stack.settings, connect(self._stack.settings, report_all=True), self._stop))
            except BraidError as error:
                raise AssertionError(str(error)) from error

        def send(part: Sequence[Sent]) -> None:
            sender.send(part, None, repeat(report))

        def run() -> None:
            try:
                for _ in pace(self._records(), lambda: _RECORDED_RATE, send, wait):
                    sender.poll()
                sender.finish()
            except BraidError as error:
                self._error.append(error)

        senders: list[Sender] = []
        eventually(connected, _ENDS_WITHIN_S)
        sender, wait = senders[0], self._stop.wait
        self.logs.append(acknowledged)
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """All that was sent is acknowledged when this returns; BraidError if it was not."""
        self._stop.set()
        self._thread.join(_ENDS_WITHIN_S)
        assert not self._thread.is_alive(), "Kafka did not acknowledge all records"
        for error in self._error:
            raise error

    def send_again(self, values: Iterable[bytes]) -> None:
        """Records that were sent before, beside the others, with the keys that they had."""
        self._again.extend((self.keys[value], value) for value in values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.pause()
        self._stop.set()

    def _records(self) -> Iterator[Sent]:
        new = events(self._seed, lambda: datetime.now(UTC), "drill", [self._site], self._shares)
        while True:
            yield self._again.popleft() if self._again else next(new)


def produce(stack: Stack, values: Iterable[bytes]) -> int:
    """Send events with the visitor as their key, and others without one; returns how many are in Kafka, all of them."""
    sender = Sender(stack.settings, connect(stack.settings), Stop())
    sender.send((_key(value), value) for value in values)
    sender.finish()
    return sender.delivered


def _key(value: bytes) -> str | None:
    try:
        return str(json.loads(value)["visitor_id"])
    except ValueError:
        return None
