"""R8: the batch views with Spark's own aggregates, as one would write them: dropDuplicates, groupBy, hll_sketch_agg.

Tuned as far as configuration goes: executors with twice the heap of Braid's, whose events are not in it; Java's own compiler
and collector; columns pruned by Parquet, one scan cached for both views, rows written by COPY from the executors. Repeats
are removed by (day, id), as Braid does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from contract.master import MASTER
from contract.settings import Settings
from serving.database import connect

_VIEWS = {"site_traffic": ("1 minute", ["site"]), "page_traffic": ("1 hour", ["site", "page"])}
_MEASURES = "views bigint, errors bigint, bytes_sent bigint, visitors bytea, latency double precision[]"
# Braid's runs are short and compile less; what Spark itself does with each row is worth compiling well.
_JAVA_AS_IT_IS = "-XX:+TieredCompilation"
_COLUMNS = ["event_id", "event_time", "site", "page", "visitor_id", "status", "bytes_sent", "duration_ms"]


def main() -> None:
    """Writes both views into tables of their own and says what they hold."""
    settings, started_s = Settings.from_env(), time.monotonic()
    with connect(settings, "postgres") as owner:
        for view, (_, keys) in _VIEWS.items():
            owner.execute(f"DROP TABLE IF EXISTS native_{view}")
            owner.execute(
                f"CREATE TABLE native_{view} (bucket timestamptz, {', '.join(f'{key} text' for key in keys)}, {_MEASURES})"
            )
            owner.execute(f"GRANT INSERT ON native_{view} TO batch")
    spark = (
        SparkSession.builder.appName("native")
        .master(settings.spark_master)
        .config("spark.sql.session.timeZone", "UTC")
        # The container has two networks, and its name may stand for its address on either.
        .config("spark.driver.bindAddress", "0.0.0.0")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.executor.memory", "1g")
        .config("spark.executor.extraJavaOptions", _JAVA_AS_IT_IS)
        .config("spark.driver.extraJavaOptions", _JAVA_AS_IT_IS)
        .config("spark.shuffle.compress", "true")
        .getOrCreate()
    )
    events = (
        spark.read.parquet(f"{settings.hdfs_url}{settings.archive_root}/{MASTER}")
        .select(*_COLUMNS)
        .withColumn("day", F.to_date("event_time"))
        .dropDuplicates(["day", "event_id"])
        .cache()
    )
    for view, (bucket, keys) in _VIEWS.items():
        rows = events.groupBy(F.window("event_time", bucket).start.alias("bucket"), *keys).agg(
            F.count("*").alias("views"),
            F.sum(F.when(F.col("status") >= 500, 1).otherwise(0)).alias("errors"),
            F.sum("bytes_sent").alias("bytes_sent"),
            F.hll_sketch_agg("visitor_id", F.lit(11)).alias("visitors"),
            F.percentile_approx("duration_ms", [0.5, 0.95, 0.99], 100).alias("latency"),
        )
        rows.foreachPartition(lambda some, view=view: _write(settings, view, some))
    spark.stop()
    seconds = time.monotonic() - started_s
    with connect(settings, "postgres") as owner:
        views = {view: int(owner.execute(f"SELECT sum(views) FROM native_{view}").fetchall()[0][0]) for view in _VIEWS}
    print(json.dumps({"seconds": seconds, "views": views}))


def _write(settings: Settings, view: str, rows: Iterable[Row]) -> None:
    copying = f"COPY native_{view} FROM STDIN"
    with connect(settings, "batch") as connection, connection.cursor() as cursor, cursor.copy(copying) as copy:
        for row in rows:
            copy.write_row([_plain(item) for item in row])


def _plain(item: Any) -> Any:
    return bytes(item) if isinstance(item, bytearray) else item


if __name__ == "__main__":
    main()
