"""R2: Spark Structured Streaming, foreachBatch into PostgreSQL with Spark's own aggregates.

Tuned: local[2], so no executor is a second JVM; as many shuffle partitions as cores; RocksDB for the state of the
removal of repeats, whose commits only append what changed; 250,000 records a batch; rows written
by COPY. A batch's rows hold its number, so one that Spark repeats replaces them. Its sketches stay rows of their own:
merging them is left to whoever reads, which costs Spark nothing here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from contract.event import MAX_BYTES_SENT, MAX_PAGE_LENGTH
from contract.settings import Settings
from serving.database import Connection, connect

_JARS = Path("/opt/braid/rivals/spark")
_VIEWS = {"site_traffic": ("1 minute", ["site"]), "page_traffic": ("1 hour", ["site", "page"])}
_FIELDS = (
    "event_id string, event_time timestamp, site string, page string, visitor_id string, "
    "status int, bytes_sent bigint, duration_ms double"
)
_REQUIRED = ("event_id", "event_time", "site", "page", "visitor_id")
_BATCH_RECORDS = 250_000


def main() -> None:
    """Counts all that is in the topic now, and ends."""
    settings = Settings.from_env()
    spark = (
        SparkSession.builder.appName("streaming")
        .master("local[2]")
        .config("spark.jars", ",".join(map(str, _JARS.glob("*.jar"))))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.memory", "3g")
        # Java's own, unlike Braid's short batch runs.
        .config("spark.driver.extraJavaOptions", "-XX:+TieredCompilation")
        .config("spark.shuffle.compress", "true")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.streaming.noDataMicroBatches.enabled", "false")
        .config("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled", "true")
        .config(
            "spark.sql.streaming.stateStore.providerClass",
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        )
        .getOrCreate()
    )
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap)
        .option("subscribe", settings.topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", str(_BATCH_RECORDS))
        .load()
    )
    # Longer than any event is late, or the watermark would drop those that Braid counts.
    unique = _events(records).withWatermark("event_time", "4 days").dropDuplicatesWithinWatermark(["day", "event_id"])
    with tempfile.TemporaryDirectory() as checkpoints, connect(settings, "batch") as connection:
        query = (
            unique.writeStream.option("checkpointLocation", checkpoints)
            .trigger(availableNow=True)
            .foreachBatch(lambda batch, number: _write(connection, batch, number))
            .start()
        )
        query.awaitTermination()


def _events(records: DataFrame) -> DataFrame:
    """What Spark's decoder takes and what has sense; that is a little more than Braid's decoder takes."""
    return (
        records.select("timestamp", F.from_json(F.col("value").cast("string"), _FIELDS).alias("event"))
        .select("timestamp", "event.*")
        .where(_is_event())
        .withColumn("day", F.to_date("event_time"))
    )


def _is_event() -> Column:
    right = F.col("status").between(100, 599) & F.col("bytes_sent").between(0, MAX_BYTES_SENT)
    for name in _REQUIRED:
        right &= F.col(name).isNotNull()
    right &= (F.col("site") != "") & (F.length("page") <= MAX_PAGE_LENGTH) & ~F.contains("page", F.lit("\0"))
    return right & (F.col("event_time") <= F.col("timestamp") + F.expr("interval 1 day"))


def _write(connection: Connection, batch: DataFrame, number: int) -> None:
    batch.persist()
    with connection.transaction():
        for view, (bucket, keys) in _VIEWS.items():
            rows = batch.groupBy(F.window("event_time", bucket).start.alias("bucket"), *keys).agg(
                F.count("*").alias("views"),
                F.sum(F.when(F.col("status") >= 500, 1).otherwise(0)).alias("errors"),
                F.sum("bytes_sent").alias("bytes_sent"),
                F.hll_sketch_agg("visitor_id", F.lit(11)).alias("visitors"),
                F.percentile_approx("duration_ms", [0.5, 0.95, 0.99], 100).alias("latency"),
            )
            connection.execute(f"DELETE FROM streamed_{view} WHERE batch = %s", [number])
            with connection.cursor() as cursor, cursor.copy(f"COPY streamed_{view} FROM STDIN") as copy:
                for row in rows.collect():
                    copy.write_row([number, *(bytes(item) if isinstance(item, bytearray) else item for item in row)])
    batch.unpersist()


if __name__ == "__main__":
    main()
