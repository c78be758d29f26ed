"""L2, the limit for batch: the same Parquet files on a local disk, one process, no cluster, no database.

DuckDB with its own aggregates, and Polars with Braid's kernel; exact removal of repeats in both.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
from hdfs import InsecureClient

from batch.archive import Archive
from contract.aggregate import aggregate, columns_read, first_of_each
from contract.master import MASTER, covering
from contract.settings import Settings

_DUCKDB = """
WITH events AS (
    SELECT DISTINCT ON (event_time::date, event_id) event_time, site, page, visitor_id, status, bytes_sent, duration_ms
    FROM read_parquet('{files}')
)
SELECT sum(views)::bigint FROM (
    SELECT time_bucket(INTERVAL {bucket}, event_time) AS bucket, {keys}, count(*) AS views,
        count_if(status >= 500) AS errors, sum(bytes_sent) AS bytes_sent, approx_count_distinct(visitor_id) AS visitors,
        approx_quantile(duration_ms, [0.5, 0.95, 0.99]) AS latency
    FROM events GROUP BY ALL
)"""


def main() -> None:
    """Argument: duckdb or polars."""
    settings = Settings.from_env()
    count: Callable[[Path], int] = {"duckdb": _duckdb, "polars": _polars}[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        _download(settings, Path(folder))
        before, started_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        views = count(Path(folder))
        seconds, after = time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"views": views, "seconds": seconds, "cpu_s": cpu_s}))


def _download(settings: Settings, folder: Path) -> None:
    client, archive = InsecureClient(settings.webhdfs_url, user="braid"), Archive(settings)
    next_offsets = archive.next_offsets()
    for partition, files in archive.files(MASTER).items():
        for piece in covering(partition, files, next_offsets[partition]):
            path = piece.file.path(settings.archive_root, MASTER)
            client.download(path, str(folder / f"{partition}-{piece.file.first_offset}.parquet"))


def _duckdb(folder: Path) -> int:
    answers = set()
    for bucket, keys in (("'1 minute'", "site"), ("'1 hour'", "site, page")):
        query = _DUCKDB.format(files=folder / "*.parquet", bucket=bucket, keys=keys)
        answers.add(duckdb.sql(query).fetchall()[0][0])
    (views,) = answers
    return int(views)


def _polars(folder: Path) -> int:
    rows = aggregate(first_of_each(pl.read_parquet(folder / "*.parquet", columns=columns_read())))
    (views,) = {int(frame["views"].sum()) for frame in rows.values()}
    return views


if __name__ == "__main__":
    main()
