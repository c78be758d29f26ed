"""How long events take until a reader sees them, for hours: one a second, whatever happens to the stack meanwhile."""

from __future__ import annotations

import threading
import time
import uuid
from types import TracebackType
from typing import Self

import psycopg
from confluent_kafka import Producer

from contract.errors import BraidError
from contract.event import Event, encode
from serving.database import Connection, connect
from tests.fixtures.stack import Stack

PERIOD_S = 1.0
_LOOK_S = 0.02
_AWAY_S = 0.5


class Canary:
    """Sends and looks from `with` to its end. `taken_ms` gives the delays since it was asked last."""

    def __init__(self, stack: Stack) -> None:
        self._settings = stack.settings
        self._site = f"canary-{uuid.uuid4().hex[:8]}"
        self._delays_ms: list[float] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(30)

    def taken_ms(self) -> list[float]:
        """Of events that are seen by now, and of those that were not sent while one of them was waited for."""
        with self._lock:
            taken, self._delays_ms = self._delays_ms, []
        return taken

    def _run(self) -> None:
        options = {"bootstrap.servers": self._settings.kafka_bootstrap, "enable.idempotence": True, "linger.ms": 0}
        # Whatever is broken comes back; an event that the client gave up would never be seen.
        producer = Producer({**options, "message.timeout.ms": 3_600_000, "log_level": 0})
        number, reader = 0, None
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            producer.produce(self._settings.topic, self._event(number), self._site)
            number += 1
            while not self._stop.is_set():
                producer.poll(0)
                try:
                    reader = reader or connect(self._settings, "reader")
                    if _seen(reader, self._site) >= number:
                        break
                except (BraidError, psycopg.Error):
                    reader = None
                    self._stop.wait(_AWAY_S)
                self._stop.wait(_LOOK_S)
            else:
                return
            due_s = self._note(due_s)

    def _note(self, due_s: float) -> float:
        """The event's delay, and those of the events that were due meanwhile; when the next one is due."""
        seen_s = time.monotonic()
        with self._lock:
            while due_s <= seen_s:
                self._delays_ms.append(1_000 * (seen_s - due_s))
                due_s += PERIOD_S
        return due_s

    def _event(self, number: int) -> bytes:
        return encode(
            Event(
                event_id=f"{self._site}:{number}",
                event_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                site=self._site,
                page="/",
                visitor_id=self._site,
                status=200,
                bytes_sent=1,
            )
        )


def _seen(reader: Connection, site: str) -> int:
    query = "SELECT coalesce(sum(views), 0)::bigint FROM site_traffic WHERE site = %s"
    ((seen,),) = reader.execute(query, [site]).fetchall()
    return int(seen)
