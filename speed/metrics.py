"""What spout and bolts count. Each is a process of its own; whichever has the port answers for all in its container.

They write into files of a folder (PROMETHEUS_MULTIPROC_DIR) that are named by the task of the topology: a process that is
started anew goes on with the numbers of the one before, and there are never more files than tasks need.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector

from contract.master import OffsetRange
from contract.probes import Probes

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TRY_AGAIN_S = 5.0
_SILENT_S = 30.0
_PLANNED, _FAILING = "braid_speed_planned_timestamp_seconds", "braid_speed_partition_failing"


class SpeedMetrics:
    """Of one task of the topology. Nothing but files is shared, so nobody waits for anybody."""

    def __init__(self) -> None:
        by_partition = ("partition",)
        self._records = Counter(
            "braid_speed_records", "Records of committed ranges", ("partition", "outcome"), registry=None
        )
        self._commits = Counter("braid_speed_commits", "Commits to the database", by_partition, registry=None)
        self._commit = Histogram(
            "braid_speed_commit_seconds", "How long the database took for one", buckets=_SECONDS, registry=None
        )
        self._freshness = Histogram(
            "braid_speed_freshness_seconds",
            "From Kafka's time of a commit's first record until it is counted",
            buckets=_SECONDS,
            registry=None,
        )
        self._ranges = Counter(
            "braid_speed_ranges", "Ranges of offsets: planned, counted, failed", ("partition", "outcome"), registry=None
        )
        self._failing = Gauge(
            _FAILING,
            "1 from a range that could not be counted until the next one that was",
            by_partition,
            registry=None,
            multiprocess_mode="mostrecent",
        )
        self._planned = Gauge(
            _PLANNED,
            "When the spout last knew where Kafka's log ends and the database stands",
            registry=None,
            multiprocess_mode="max",
        )
        self._starts = Counter("braid_speed_starts", "Processes started", ("component",), registry=None)
        self._merged = Counter("braid_speed_merged_rows", "Rows of commits that were merged", by_partition, registry=None)

    def started(self, component: str) -> None:
        """A process of spout or bolt begins."""
        self._starts.labels(component).inc()

    def plans(self) -> None:
        """The spout knows what there is to plan."""
        self._planned.set(time.time())

    def planned(self, offsets: OffsetRange) -> None:
        """A range goes to its bolt."""
        self._ranges.labels(str(offsets.partition), "planned").inc()

    def committed(self, partition: int, outcomes: dict[str, int], first_ms: int | None, seconds: float) -> None:
        """`outcomes` says how the records were judged; the first came at `first_ms`."""
        for outcome, records in outcomes.items():
            self._records.labels(str(partition), outcome).inc(records)
        self._commits.labels(str(partition)).inc()
        self._commit.observe(seconds)
        if first_ms is not None:
            self._freshness.observe(max(0.0, time.time() - first_ms / 1_000))

    def counted(self, partition: int) -> None:
        """A range is, in one commit or several."""
        self._ranges.labels(str(partition), "counted").inc()
        self._failing.labels(str(partition)).set(0)

    def failed(self, partition: int, outcome: str) -> None:
        """A range is not: `refused` by the fence, which is no fault, or `failed`."""
        self._ranges.labels(str(partition), outcome).inc()
        if outcome == "failed":
            self._failing.labels(str(partition)).set(1)

    def merged(self, partition: int, rows: int) -> None:
        """So many became fewer."""
        self._merged.labels(str(partition)).inc(rows)


def of_task(context: Mapping[str, Any], port: int) -> SpeedMetrics:
    """The metrics of this process, which is a task of Storm's context; without one they are nobody's.

    It answers on the port unless another one of its container does; then it asks for the port again, for that one may end.
    """
    if (task_id := context.get("taskid")) is None:
        return SpeedMetrics()
    # A process that is started anew has another id, and its task the same.
    values.ValueClass = values.MultiProcessValue(lambda: task_id)
    metrics = SpeedMetrics()
    metrics.started(str(context.get("componentid") or "unknown"))
    Thread(target=_answer, args=(port,), name="probes-port", daemon=True).start()
    return metrics


def of_all_tasks() -> CollectorRegistry:
    """What all in this container have written."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


def problem(registry: CollectorRegistry, now_s: float) -> str | None:
    """Why not all is counted that comes, if so."""
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    planned_s = max((sample.value for sample in samples if sample.name == _PLANNED), default=0.0)
    if not planned_s:
        return "the spout has not asked Kafka and the database yet"
    # guard: a spout that asks nobody is not ready
    if now_s - planned_s > _SILENT_S:
        return f"the spout has not had an answer of Kafka or the database for {now_s - planned_s:.0f} s"
    failing = sorted(sample.labels["partition"] for sample in samples if sample.name == _FAILING and sample.value)
    return f"ranges of partition {', '.join(failing)} cannot be counted, and are tried again" if failing else None


def _answer(port: int) -> None:
    probes = Probes(lambda: problem(of_all_tasks(), time.time()), registry=of_all_tasks)
    while True:
        try:
            probes.server(port)
            return
        except OSError:
            time.sleep(_TRY_AGAIN_S)
