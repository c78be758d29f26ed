"""Records into Kafka from an event loop: who sends waits until each of them is acknowledged by all in-sync replicas.

All runs in the loop's thread. The producer is asked for its reports every few milliseconds while somebody waits: a thread of
its own would fight with the loop for the interpreter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.settings import Settings
from ingest.collector.breaker import Breaker
from ingest.sender import Record, configuration

_BY_KEY = -1  # the partitioner chooses
_POLL_S, _IDLE_POLL_S = 0.002, 0.2
_PROBE_S = 2.0
_QUEUE_KB = 65_536


class NotAcknowledged(Exception):
    """Kafka did not take each of the records, as far as is known: some of them may be there."""


class _Batch:
    """The records of one request that are on their way."""

    def __init__(self, records: int, loop: asyncio.AbstractEventLoop) -> None:
        self._left = records
        self._error: KafkaError | None = None
        self.done: asyncio.Future[None] = loop.create_future()

    def report(self, error: KafkaError | None, message: Message) -> None:
        self._left -= 1
        self._error = self._error or error
        # guard: acknowledged means that each record is there
        if self._left or self.done.done():
            return
        if self._error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(NotAcknowledged(self._error.str()))


class Publisher:
    """One idempotent producer, made again if it is beyond repair; `breaker` is told of what befalls it."""

    def __init__(self, settings: Settings, breaker: Breaker, connect: Callable[..., Producer] = Producer) -> None:
        self._settings, self._breaker, self._connect = settings, breaker, connect
        self._in_flight, self._awaited = 0, asyncio.Event()
        self._is_broken = False
        self._producer = self._made()

    async def send(self, records: Sequence[Record]) -> None:
        """Returns when all are acknowledged; raises NotAcknowledged within the time that a request may wait.

        Sent again, a record may be there twice: its event's id counts once.
        """
        batch = _Batch(len(records), asyncio.get_running_loop())
        produce, topic, report = self._producer.produce, self._settings.topic, batch.report
        try:
            for key, value in records:
                # Arguments by position, because with names the call takes twice as long.
                produce(topic, value, key, _BY_KEY, report)
        except BufferError as error:
            raise NotAcknowledged("more records wait for Kafka than there is room for") from error
        except KafkaException as error:
            raise NotAcknowledged(error.args[0].str()) from error
        self._in_flight += 1
        self._awaited.set()
        try:
            await batch.done
        finally:
            self._in_flight -= 1

    async def look(self) -> None:
        """Asks Kafka once, within seconds, and tells the breaker."""
        self._breaker.probed(await asyncio.to_thread(self._problem))

    async def run(self) -> None:
        """Until it is cancelled: hands out the producer's reports, and asks Kafka when the breaker wants to know."""
        await asyncio.gather(self._poll(), self._probe())

    def close(self) -> None:
        """What is on its way is given a moment."""
        self._producer.flush(1)

    async def _poll(self) -> None:
        while True:
            self._producer.poll(0)
            if self._in_flight:
                await asyncio.sleep(_POLL_S)
            else:
                self._awaited.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._awaited.wait(), _IDLE_POLL_S)

    async def _probe(self) -> None:
        while True:
            if self._breaker.is_probe_due:
                if self._is_broken:
                    self._replace()
                await self.look()
            await asyncio.sleep(_IDLE_POLL_S)

    def _problem(self) -> str | None:
        """What is wrong with Kafka; None if it would take records."""
        topic = self._settings.topic
        try:
            found = self._producer.list_topics(topic, timeout=_PROBE_S).topics[topic]
        except KafkaException as error:
            return f"Kafka does not answer: {error.args[0].str()}"
        if found.error is not None:
            return f"Kafka has no topic {topic}: {found.error.str()}"
        if any(partition.leader < 0 for partition in found.partitions.values()):
            return f"partitions of topic {topic} have no leader"
        return None

    def _on_error(self, error: KafkaError) -> None:
        self._is_broken = self._is_broken or error.fatal()
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._breaker.trip(error.str())

    def _replace(self) -> None:
        """A producer after a fatal error takes nothing more. Who waits for the old one hears that it failed."""
        self._producer.purge()
        self._producer.flush(0.1)
        self._producer, self._is_broken = self._made(), False

    def _made(self) -> Producer:
        return self._connect(
            configuration(self._settings)
            | {
                "linger.ms": 5,
                "message.timeout.ms": self._settings.collector_wait_ms,
                # Kafka that is back is noticed within a second.
                "reconnect.backoff.max.ms": 1_000,
                "queue.buffering.max.kbytes": _QUEUE_KB,
                "error_cb": self._on_error,
            }
        )
