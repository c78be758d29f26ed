"""R2: Spark Structured Streaming, foreachBatch into PostgreSQL with Spark's own aggregates.

Tuned: local[2], so that no executor is a second JVM; as many shuffle partitions as cores; RocksDB for the state of the removal of
repeats; 200,000 records a batch, more of which make it no faster; rows written by COPY, keyed by batch, so that a batch that is
repeated replaces its rows. A batch's sketches stay rows of their own: merging them is left to whoever reads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from contract.settings import Settings
from serving.database import connect

_JARS = Path("/opt/braid/bench-jars")
_VIEWS = {"site_traffic": ("1 minute", ["site"]), "page_traffic": ("1 hour", ["site", "page"])}
_FIELDS = (
    "event_id string, event_time timestamp, site string, page string, visitor_id string, "
    "status int, bytes_sent bigint, duration_ms double"
)
_BATCH_RECORDS = 200_000


def main() -> None:
    """Argument: how many records to read; then it ends."""
    settings, records = Settings.from_env(), int(sys.argv[1])
    spark = (
        SparkSession.builder.appName("streaming")
        .master("local[2]")
        .config("spark.jars", ",".join(map(str, _JARS.glob("*.jar"))))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "2g")
        .config(
            "spark.sql.streaming.stateStore.providerClass",
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        )
        .getOrCreate()
    )
    raw = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap)
        .option("subscribe", settings.topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", str(_BATCH_RECORDS))
        .load()
    )
    events = (
        raw.select(F.from_json(F.col("value").cast("string"), _FIELDS).alias("event"))
        .select("event.*")
        .where("event_id is not null")
        .withWatermark("event_time", "4 days")
        .dropDuplicatesWithinWatermark(["event_id"])
    )
    query = events.writeStream.foreachBatch(lambda batch, number: _write(settings, batch, number)).start()
    while query.isActive:
        query.awaitTermination(1)
        progress = query.lastProgress
        if progress and sum(map(int, _ends(progress).values())) >= records:
            query.stop()


def _ends(progress: Any) -> dict[str, int]:
    import json

    sources = json.loads(progress.json)["sources"]
    return dict(next(iter(sources[0]["endOffset"].values())))


def _write(settings: Settings, batch: DataFrame, number: int) -> None:
    batch.persist()
    with connect(settings, "batch") as connection, connection.transaction():
        for view, (bucket, keys) in _VIEWS.items():
            rows = batch.groupBy(F.window("event_time", bucket).start.alias("bucket"), *keys).agg(
                F.count("*").alias("views"),
                F.sum(F.when(F.col("status") >= 500, 1).otherwise(0)).alias("errors"),
                F.sum("bytes_sent").alias("bytes_sent"),
                F.hll_sketch_agg("visitor_id", F.lit(11)).alias("visitors"),
                F.percentile_approx("duration_ms", [0.5, 0.95, 0.99], 100).alias("latency"),
            )
            connection.execute(f"DELETE FROM streamed_{view} WHERE batch = %s", [number])
            _copy(connection, view, number, rows.toLocalIterator())
    batch.unpersist()


def _copy(connection: Any, view: str, number: int, rows: Iterable[Row]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY streamed_{view} FROM STDIN") as copy:
        for row in rows:
            copy.write_row([number, *(bytes(item) if isinstance(item, bytearray) else item for item in row)])


if __name__ == "__main__":
    main()
