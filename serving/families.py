"""`status` as Prometheus reads it. What is not known has no sample: an outage is never a zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from serving.facts import Facts
from serving.status import NOT_KNOWN, Status

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float | None]]


def status_families(status: Status) -> Iterator[Metric]:
    """Servers, positions and lags, the ledger, what stands in the way, disks, runs that go on."""
    yield _gauge(
        "braid_server_up",
        "Whether a server answers as it should",
        ("server",),
        (((health.name,), float(health.up)) for health in status.health),
    )
    yield from _positions(status)
    yield from _ledger(status)
    if is_up(status, "TimescaleDB"):
        yield _gauge(
            "braid_forgotten_statements_shown",
            "Statements of what is forgotten that no published run knows",
            (),
            [((), len(status.still_shown))],
        )
        yield from _going_on(status)
    if is_up(status, "Kafka"):
        yield _gauge(
            "braid_readers_lost", "Readers that stand still: Kafka has another log", (), [((), _told(status.lost_positions))]
        )
        yield _gauge(
            "braid_partitions_unread", "Partitions that a reader has not begun with", (), [((), _told(status.unread))]
        )
    if is_up(status, "HDFS NameNode"):
        yield _gauge(
            "braid_archive_gaps", "Gaps of the archive: no run can publish above", (), [((), len(status.archive_gaps))]
        )
    yield from _disk(status)


def facts_families(facts: Facts) -> Iterator[Metric]:
    """Quarantine, runs, publications, drift."""
    yield _gauge(
        "braid_quarantine_records",
        "Records that are no events",
        ("reason",),
        (((reason,), records) for reason, records in sorted(facts.quarantined.items())),
    )
    yield _gauge(
        "braid_runs",
        "Batch runs and audits so far",
        ("kind", "state"),
        ((labels, runs) for labels, runs in sorted(facts.runs.items())),
    )
    yield _gauge("braid_live_run_id", "The run whose rows readers see", (), [((), facts.live_run_id)])
    yield _gauge("braid_live_run_published_timestamp_seconds", "When it was published first", (), [((), facts.published_s)])
    if last := facts.last_run:
        label = (str(last["kind"]),)
        yield _gauge(
            "braid_last_run_failed",
            "Whether the last run that ended failed",
            ("kind",),
            [(label, last["state"] == "failed")],
        )
        for name, text in (("days", "Days"), ("rows", "Rows"), ("events", "Events")):
            yield _gauge(f"braid_last_run_{name}", f"{text} that it computed", ("kind",), [(label, last[name])])
        yield _gauge("braid_last_run_duration_seconds", "How long it took", ("kind",), [(label, last["duration_s"])])
    yield _gauge("braid_views_drifted", "Views that were wrong before the last run", (), [((), facts.wrong_views)])


def _positions(status: Status) -> Iterator[Metric]:
    for name, text, attribute in (
        ("braid_kafka_high_watermark_offset", "First offset that Kafka's log has not", "kafka"),
        ("braid_held_back_offsets", "Offsets that an open transaction keeps from readers", "held_back"),
        ("braid_archive_offset", "Up to where the archive has the log", "archive"),
        ("braid_archive_lag_offsets", "Offsets that the archive is behind Kafka", "archive_lag"),
        ("braid_speed_offset", "Up to where the speed layer has counted", "speed"),
        ("braid_speed_lag_offsets", "Offsets that the speed layer is behind Kafka", "speed_lag"),
        ("braid_batch_offset", "Up to where the live run has counted", "batch"),
    ):
        yield _gauge(name, text, ("partition",), (((str(at.partition),), getattr(at, attribute)) for at in status.positions))
    yield _gauge(
        "braid_open_transaction_since_timestamp_seconds",
        "When the earliest transaction began that is open",
        ("partition",),
        (((str(one.partition),), one.since.timestamp() if one.since else None) for one in status.open_transactions),
    )


def _ledger(status: Status) -> Iterator[Metric]:
    yield _gauge(
        "braid_ledger_records",
        "What became of the records that came in",
        ("partition", "outcome"),
        (
            ((str(row["partition"]), outcome), row[outcome])
            for row in status.ledger
            for outcome in ("received", "counted", "duplicate", "quarantined", "forgotten", "lost")
        ),
    )
    for name, column, text in (
        ("braid_ledger_difference_records", "difference", "Records that came in and are in none of the ledger's columns"),
        ("braid_ledger_in_flight_offsets", "in_flight", "Offsets that a run took over and has not published"),
    ):
        yield _gauge(name, text, ("partition",), (((str(row["partition"]),), row[column]) for row in status.ledger))


def _going_on(status: Status) -> Iterator[Metric]:
    runs = [((str(run.run_id), run.kind), run) for run in status.going_on]
    for name, text, attribute in (
        ("braid_run_age_seconds", "For how long a run goes on", "age_s"),
        ("braid_run_stood_seconds", "For how long it has come no further", "stood_s"),
        ("braid_run_silent_seconds", "For how long its driver has said nothing", "silent_s"),
        ("braid_run_tasks_done", "Tasks of its step that have ended", "tasks_done"),
        ("braid_run_tasks", "Tasks of its step", "tasks"),
    ):
        yield _gauge(name, text, ("run_id", "kind"), ((labels, getattr(run, attribute)) for labels, run in runs))


def _disk(status: Status) -> Iterator[Metric]:
    if (disk := status.disk) is None:
        return
    for name, text, value in (
        ("braid_kafka_log_bytes", "What Kafka's log of the topic takes", disk.kafka_bytes),
        ("braid_kafka_log_limit_bytes", "What it may take", disk.kafka_budget_bytes),
        ("braid_kafka_log_day_bytes", "What came in the last 24 hours", disk.kafka_day_bytes),
        ("braid_archive_disk_bytes", "What the archive takes, with all copies", disk.archive_bytes),
        ("braid_disk_free_bytes", "What is free on the disk of Kafka's log", disk.free_bytes),
        ("braid_disk_size_bytes", "The size of that disk", disk.size_bytes),
        (
            "braid_disk_warnings",
            "What `make status` warns of under Disk",
            len(disk.warnings) if is_up(status, "Kafka") else None,
        ),
    ):
        yield _gauge(name, text, (), [((), value)])


def is_up(status: Status, server: str) -> bool:
    """Whether the server answers; its name is the one that status has."""
    return any(health.up for health in status.health if health.name == server)


def _told(lines: list[str]) -> int | None:
    """How many there are; None where Kafka was asked and did not say."""
    return None if any(line.startswith(NOT_KNOWN) for line in lines) else len(lines)


def _gauge(name: str, text: str, labels: Labels, samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        # guard: what is not known is no zero
        if value is not None:
            family.add_metric(values, float(value))
    return family
