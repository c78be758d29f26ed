"""The exporter: what `status` knows, for Prometheus. It asks now and then by itself; to scrape it costs servers nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.errors import BraidError
from contract.probes import Probes
from contract.settings import Settings
from serving.database import connect
from serving.facts import Facts, read_facts
from serving.families import facts_families, status_families
from serving.status import Status, read_status

EVERY_S = 10.0
_SHARE = 20.0
"""It rests so many times as long as an answer took, so that a question that has become slow is asked less often."""
_STALE_S = 120.0


class Exporter(Collector):
    """The last answers as metrics. `status` never raises; `facts` may raise a BraidError, and is left out then."""

    def __init__(
        self,
        status: Callable[[], Status],
        facts: Callable[[], Facts],
        wall_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status, self._facts, self._wall_s, self._clock_s = status, facts, wall_s, clock_s
        self._answered_s: float | None = None
        self._begun_s = clock_s()
        self._families: list[Metric] = []

    def refresh(self) -> float:
        """Ask once; returns for how long to rest."""
        began_s = self._clock_s()
        families = list(status_families(self._status()))
        # Status says of the database that it is down.
        with suppress(BraidError):
            families += facts_families(self._facts())
        self._answered_s = self._clock_s()
        took_s = self._answered_s - began_s
        for name, text, value in (
            ("braid_status_timestamp_seconds", "When the servers were asked last", self._wall_s()),
            ("braid_status_duration_seconds", "How long they took to answer", took_s),
        ):
            families.append(GaugeMetricFamily(name, text, value=value))
        self._families = families
        return max(EVERY_S, _SHARE * took_s)

    def collect(self) -> Iterator[Metric]:
        """As of the last time."""
        yield from self._families

    def problem(self) -> str | None:
        """That there is no answer of late, if so."""
        silent_s = self._clock_s() - (self._begun_s if self._answered_s is None else self._answered_s)
        if self._answered_s is None:
            return f"no server was asked yet, for {silent_s:.0f} s"
        return f"the last answer is {silent_s:.0f} s old" if silent_s > _STALE_S else None


def export(settings: Settings) -> None:
    """Until it is ended."""

    def facts() -> Facts:
        with connect(settings, "reader") as connection:
            return read_facts(connection)

    exporter = Exporter(lambda: read_status(settings), facts)
    # Beside what the client says of each process.
    REGISTRY.register(exporter)
    with Probes(exporter.problem).served(settings.metrics_port):
        while True:
            time.sleep(exporter.refresh())
