"""The exporter: what `status` knows, for Prometheus. It asks every ten seconds; to scrape it costs servers nothing."""

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
from serving.families import facts_families, is_up, status_families
from serving.status import Status, read_status

EVERY_S = 10.0
_SHARE, _LONGEST_REST_S = 20.0, 600.0
"""The quarantine is counted again after so many times as long as that took: it may be large."""
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
        self._last_facts: list[Metric] = []
        self._facts_due_s = float("-inf")

    def refresh(self) -> None:
        """Ask once."""
        began_s = self._clock_s()
        status = self._status()
        families = list(status_families(status))
        took_s = self._clock_s() - began_s
        families += self._facts_families(is_up(status, "TimescaleDB"))
        for name, text, value in (
            ("braid_status_timestamp_seconds", "When the servers were asked last", self._wall_s()),
            ("braid_status_duration_seconds", "How long they took to answer", took_s),
        ):
            families.append(GaugeMetricFamily(name, text, value=value))
        self._answered_s, self._families = self._clock_s(), families

    def _facts_families(self, is_there: bool) -> list[Metric]:
        """Those of the last time, unless they are to be asked for again; none while the database is not there."""
        began_s = self._clock_s()
        if began_s >= self._facts_due_s or not is_there:
            # Status says of the database that it is down.
            self._last_facts = []
            with suppress(BraidError):
                self._last_facts = list(facts_families(self._facts()))
                rest_s = min(_SHARE * (self._clock_s() - began_s), _LONGEST_REST_S)
                self._facts_due_s = self._clock_s() + rest_s
        return self._last_facts

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
            exporter.refresh()
            time.sleep(EVERY_S)
