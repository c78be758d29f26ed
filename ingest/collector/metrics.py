"""What one process of the collector counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class CollectorMetrics:
    """In a registry of Prometheus. All events of a request have one outcome."""

    def __init__(self, is_open: Callable[[], bool], registry: CollectorRegistry) -> None:
        self._requests = Counter("braid_collector_requests", "POST /events by its answer", ("status",), registry=registry)
        self._seconds = Histogram(
            "braid_collector_request_duration_seconds",
            "From a request's head until its answer, Kafka's acknowledgement included",
            buckets=_SECONDS,
            registry=registry,
        )
        self._events = Counter(
            "braid_collector_events",
            "Events of requests that were understood: accepted, rejected, throttled, or unavailable because of Kafka",
            ("outcome",),
            registry=registry,
        )
        is_broken = Gauge("braid_collector_breaker_open", "1 while Kafka is away and nothing goes there", registry=registry)
        is_broken.set_function(lambda: float(is_open()))

    def answered(self, status: int, seconds: float) -> None:
        """A request has its answer."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def events(self, outcome: str, count: int) -> None:
        """So many events were accepted, rejected, throttled or unavailable."""
        self._events.labels(outcome).inc(count)
