"""Frames as arguments of SQL functions: every value arrives as it is, and what is no value changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import psycopg
import pytest

from contract.errors import BraidError, CatalogueError
from contract.master import OffsetRange
from contract.settings import Settings
from contract.sketches import hll
from contract.views import VIEWS
from serving.database import Connection, connect
from serving.handoff import Counts, commit_range, positions
from serving.row_arrays import row_array, view_rows
from tests.fixtures.handoff import TOPIC
from tests.fixtures.pageviews import NO_REJECTS, Range, events

LEAST, MOST = -(2**63), 2**63 - 1
PAGE_TRAFFIC = next(view for view in VIEWS if view.name == "page_traffic")
EMPTY = hll.encode(np.empty(0, np.uint32))


def test_values_at_their_limits_arrive_as_they_are(database: Settings) -> None:
    rows = [
        (datetime(1970, 1, 1, tzinfo=UTC), "", "\x01'\"\\{,}\n", LEAST, MOST, 0, EMPTY, []),
        (datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC), "ünï", "\U0010fffd" * 2_048, 1, -1, 2**40, EMPTY, [LEAST, MOST]),
        (datetime(2026, 11, 21, tzinfo=UTC), "NULL", "", 1, 2, 3, EMPTY, [7]),
    ]
    frame = pl.DataFrame(rows, schema=PAGE_TRAFFIC.schema, orient="row")
    with connect(database, "postgres") as owner:
        for part in (frame, frame[1:], frame[1:2], frame[:0]):
            argument = row_array(owner, "serving.page_traffic_row", part)
            stored = owner.execute("SELECT * FROM unnest(%s::serving.page_traffic_row[])", [argument]).fetchall()
            expected = [(*row[:6], "\\x" + row[6].hex(), row[7]) for row in part.rows()]
            assert stored == expected


def test_nulls_arrive_as_nulls(database: Settings) -> None:
    schema = pl.Schema(
        {
            "topic": pl.String(), "partition": pl.Int32(), "offset": pl.Int64(), "kafka_time": pl.Datetime("ms", "UTC"),
            "reason": pl.String(), "detail": pl.String(), "value_bytes": pl.Int64(), "value": pl.Binary(),
        }
    )  # fmt: skip
    rows = [
        ("t", 1, 2, datetime(2026, 11, 21, tzinfo=UTC), "r", "d", 3, b"\0\xff"),
        (None,) * 8,
        ("", 0, 0, datetime(2000, 1, 1, tzinfo=UTC), "", "", 0, b""),
    ]
    with connect(database, "postgres") as owner:
        argument = row_array(owner, "serving.quarantined", pl.DataFrame(rows, schema=schema, orient="row"))
        assert owner.execute("SELECT * FROM unnest(%s::serving.quarantined[])", [argument]).fetchall() == rows


@pytest.mark.parametrize(
    "wrong",
    [
        pl.lit(b"no sketch").alias("visitors"),
        pl.lit(EMPTY[:1] + b"\x8c" + EMPTY[2:]).alias("visitors"),
        pl.lit(None, pl.Int64).alias("views"),
        pl.lit(7, pl.Int32).alias("views"),
        pl.lit(b"\xff").alias("site"),
    ],
    ids=["sketch", "size of sketch", "null", "width", "text"],
)
def test_a_commit_with_one_wrong_value_changes_nothing(speed: Connection, database: Settings, wrong: pl.Expr) -> None:
    part = Range.of(events(1, 0, 0, 100))
    rows = part.rows | {"page_traffic": part.rows["page_traffic"].with_columns(wrong)}
    with pytest.raises((psycopg.DatabaseError, BraidError)):
        commit_range(speed, part.offsets, rows, Counts(100, 100, 0), NO_REJECTS, TOPIC)
    assert positions(speed)[0].next_offset == 0
    with connect(database, "postgres") as owner:
        for table in ("speed_site_traffic", "speed_page_traffic", "speed_ledger"):
            assert owner.execute(f"SELECT count(*) FROM serving.{table}".encode()).fetchone() == (0,), table
    assert commit_range(speed, OffsetRange(0, 0, 100), part.rows, Counts(100, 100, 0), NO_REJECTS, TOPIC)


def test_rows_of_a_view_that_the_database_does_not_have_are_refused(speed: Connection) -> None:
    rows = Range.of(events(1, 0, 0, 10)).rows
    with pytest.raises(CatalogueError, match="rows of view other, but the catalogue has only site_traffic, site_tr"):
        view_rows(speed, {"other": rows["page_traffic"]})
