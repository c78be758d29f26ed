"""The only reader of the environment: Settings.from_env() is checked once, then frozen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from contract.errors import ConfigurationError


def _setting(variable: str, default: Any, reason: str, minimum: float | None = None) -> Any:
    return field(default=default, metadata={"variable": variable, "reason": reason, "minimum": minimum})


@dataclass(frozen=True)
class Settings:
    """Every address, limit and switch, with its variable, default and reason in one place.

    `compose/.env.example` lists the same variables; a test compares both.
    """

    kafka_bootstrap: str = _setting("BRAID_KAFKA_BOOTSTRAP", "kafka:29092", "where the brokers are")
    topic: str = _setting("BRAID_TOPIC", "pageviews", "the topic of page-view events")
    topic_partitions: int = _setting(
        "BRAID_TOPIC_PARTITIONS",
        2,
        "partitions of a new topic: as many as bolts are fastest, more allow more bolts; `make add-partitions` later",
        1,
    )
    kafka_disk_mb: int = _setting(
        "BRAID_KAFKA_DISK_MB",
        0,
        "megabytes of disk that Kafka's log of the topic may take; 0: half of what is free, as `make up` finds it",
        0,
    )
    database_host: str = _setting("BRAID_DATABASE_HOST", "timescaledb", "where TimescaleDB is")
    database_port: int = _setting("BRAID_DATABASE_PORT", 5432, "its port", 1)
    database_name: str = _setting("BRAID_DATABASE_NAME", "braid", "its database")
    secrets_dir: str = _setting("BRAID_SECRETS_DIR", "/run/secrets", "one file a secret, made by `make up`")
    webhdfs_url: str = _setting("BRAID_WEBHDFS_URL", "http://namenode:9870", "HDFS for Python: no JVM needed")
    hdfs_url: str = _setting("BRAID_HDFS_URL", "hdfs://namenode:8020", "HDFS for Spark")
    archive_root: str = _setting("BRAID_ARCHIVE_ROOT", "/braid", "HDFS folder of master dataset and quarantine")
    archive_flush_rows: int = _setting(
        "BRAID_ARCHIVE_FLUSH_ROWS", 250_000, "rows after which a partition's file is written", 1
    )
    archive_flush_ms: int = _setting(
        "BRAID_ARCHIVE_FLUSH_MS", 5_000, "age after which it is written anyway; a batch run waits this long for its cut", 1
    )
    archive_flush_mb: int = _setting(
        "BRAID_ARCHIVE_FLUSH_MB",
        32,
        "megabytes of a partition's values after which its file is written; the largest is, at twice that of all partitions",
        1,
    )
    archive_merge_files: int = _setting(
        "BRAID_ARCHIVE_MERGE_FILES", 24, "small neighbouring files that are merged into one", 2
    )
    archive_grace_ms: int = _setting(
        "BRAID_ARCHIVE_GRACE_MS",
        21_600_000,
        "how long a merged-away file stays for runs that still read it; longer than a run",
        0,
    )
    spark_master: str = _setting("SPARK_MASTER", "spark://spark-master:7077", "any Spark master; local[2] works too")
    nimbus_host: str = _setting("BRAID_NIMBUS_HOST", "nimbus", "where the topology is submitted")
    bolts: int = _setting("BRAID_BOLTS", 2, "sketch bolts; at most one a partition has work", 1)
    range_max_offsets: int = _setting(
        "BRAID_RANGE_MAX_OFFSETS", 100_000, "largest range of offsets in one tuple; larger is faster, smaller is fresher", 1
    )
    range_max_mb: int = _setting(
        "BRAID_RANGE_MAX_MB", 32, "megabytes of values that a bolt reads and commits at once: bounds its memory", 1
    )
    range_linger_ms: int = _setting(
        "BRAID_RANGE_LINGER_MS",
        20,
        "least time between ranges of a partition that hold few events; shorter is fresher and costs CPU",
        0,
    )
    ranges_in_flight: int = _setting(
        "BRAID_RANGES_IN_FLIGHT", 4, "ranges of a partition planned before the first is acked", 1
    )
    speed_merge_rows: int = _setting(
        "BRAID_SPEED_MERGE_ROWS",
        10_000,
        "rows that commits of a partition append before they are merged; fewer make queries on fresh data faster",
        1,
    )
    dedupe_window_offsets: int = _setting(
        "BRAID_DEDUPE_WINDOW_OFFSETS", 1_000_000, "offsets of a partition in which the speed layer recognises a repeat", 1
    )
    dedupe_false_positive_rate: float = _setting(
        "BRAID_DEDUPE_FALSE_POSITIVE_RATE",
        1e-6,
        "share of new events it may take for a repeat until the next batch run",
        1e-12,
    )
    day_filter_mb: int = _setting(
        "BRAID_DAY_FILTER_MB",
        256,
        "memory of a bolt for filters of the days that batch runs have computed; of what does not fit it asks for blocks",
        1,
    )
    batch_wait_s: int = _setting(
        "BRAID_BATCH_WAIT_S", 120, "how long a run that waits for its cut bears an archive that does not advance", 1
    )
    rescue_offsets: int = _setting(
        "BRAID_RESCUE_OFFSETS",
        1_000_000,
        "offsets the speed layer may be behind the archive before a run takes them over",
        1,
    )
    keep_runs: int = _setting("BRAID_KEEP_RUNS", 3, "published runs kept for rollback", 1)
    collector_rate: int = _setting(
        "BRAID_COLLECTOR_RATE", 10_000, "events/s of a site that one instance of the collector takes; 0: any number", 0
    )
    collector_max_kb: int = _setting("BRAID_COLLECTOR_MAX_KB", 1_024, "kilobytes of one request to it, unpacked", 1)
    collector_wait_ms: int = _setting(
        "BRAID_COLLECTOR_WAIT_MS", 5_000, "how long a request to it waits for Kafka's acknowledgement", 100
    )
    collector_origins: str = _setting(
        "BRAID_COLLECTOR_ORIGINS", "", "whose pages may send to it: https://www.example.com,https://shop.example.com; * all"
    )
    collector_proxies: int = _setting(
        "BRAID_COLLECTOR_PROXIES",
        1,
        "proxies of your own before it, each writing into X-Forwarded-For whom it heard; its balancer is one",
        0,
    )
    metrics_port: int = _setting(
        "BRAID_METRICS_PORT",
        9464,
        "where archiver, speed layer, page and exporter answer /healthz, /readyz and /metrics; 0 is any free port",
        0,
    )
    log_format: str = _setting("BRAID_LOG_FORMAT", "text", "what our processes log: lines of text, or of JSON with `json`")
    log_level: str = _setting("BRAID_LOG_LEVEL", "info", "`debug` logs each commit and each file of the archive too")
    lineage_url: str = _setting(
        "BRAID_LINEAGE_URL",
        "",
        "where the OpenLineage event of a run is posted; empty: a file on HDFS, see docs/monitoring.md",
    )
    rate: int = _setting("RATE", 200, "events/s of the traffic simulator", 1)
    seed: int = _setting("BRAID_SEED", 1, "seed of the traffic simulator", 0)
    port_kafka: int = _setting("BRAID_PORT_KAFKA", 9092, "Kafka on 127.0.0.1 for host clients", 1)
    port_database: int = _setting("BRAID_PORT_DATABASE", 5433, "TimescaleDB on 127.0.0.1", 1)
    port_namenode: int = _setting("BRAID_PORT_NAMENODE", 9870, "NameNode page on 127.0.0.1", 1)
    port_spark: int = _setting("BRAID_PORT_SPARK", 8080, "Spark master page on 127.0.0.1", 1)
    port_collector: int = _setting("BRAID_PORT_COLLECTOR", 8081, "the collector on 127.0.0.1", 1)
    port_page: int = _setting("BRAID_PORT_PAGE", 8082, "the live page on 127.0.0.1", 1)
    port_prometheus: int = _setting("BRAID_PORT_PROMETHEUS", 9090, "Prometheus on 127.0.0.1, with METRICS=1", 1)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from the environment; a wrong value raises ConfigurationError that names the variable."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for setting in fields(cls):
            variable = setting.metadata["variable"]
            text = environ.get(variable, "")
            if text:
                values[setting.name] = _convert(variable, text, type(setting.default), setting.metadata["minimum"])
        return cls(**values)

    @property
    def filter_false_positive_rate(self) -> float:
        """Of one filter: a new event is held against three, two of recent events and its day's."""
        return self.dedupe_false_positive_rate / 3

    @property
    def logs_commits(self) -> bool:
        """Whether each commit is worth a line."""
        return self.log_level == "debug"

    def secret(self, name: str) -> str:
        """The text of one secret; it is read where it is needed and never stored in settings, logs or topology."""
        path = Path(self.secrets_dir) / name
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError.missing_secret(str(path)) from error


def spark_folder() -> Path | None:
    """Where a task may put files aside: Spark tells its Python workers, and deletes the folder. Elsewhere there is none."""
    folders = os.environ.get("SPARK_LOCAL_DIRS")
    return Path(folders.split(",")[0]) if folders else None


def hand_spark_key(key: str) -> None:
    """The JVM that this process starts next authenticates itself with it. Arguments would show in the list of processes."""
    os.environ["_SPARK_AUTH_SECRET"] = key


def _convert(variable: str, text: str, kind: type, minimum: float | None) -> Any:
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError as error:
        raise ConfigurationError.bad_value(variable, text, "a whole number" if kind is int else "a number") from error
    if minimum is not None and not value >= minimum:
        raise ConfigurationError.bad_value(variable, text, f"at least {minimum:g}")
    return value
