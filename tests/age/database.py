"""A database as years leave it, made by the hand-off's own calls: thin history, absorbed speed rows, and fresh ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from contract.aggregate import aggregate
from contract.event import EVENT_SCHEMA
from contract.master import OffsetRange
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from serving.database import Connection, connect
from serving.handoff import Counts, begin_run, commit_range, merge_appended, publish, vacuum, write_task
from tests.fixtures.handoff import TOPIC, batch_rows, ledger_of
from tests.fixtures.pageviews import NO_REJECTS

_SITES, _PAGES, _VISITS_OF = 6, 400, 4
_DAYS_A_TASK = 30


def visits(
    seed: int,
    first_offset: int,
    count: int,
    start: datetime,
    span: timedelta,
    pages: int = _PAGES,
    within_s: float = 40,
    page_skew: float = 1.3,
) -> pl.DataFrame:
    """`count` events of one partition in the order of their times: visitors who read some pages of a site, as people do.

    A visitor reads them `within_s` on average; the greater `page_skew`, the more of them are the same few pages.
    """
    chance = np.random.default_rng(seed)
    visit = np.arange(count) // _VISITS_OF
    began_s = chance.uniform(0, span.total_seconds(), visit[-1] + 1)
    seconds = np.sort(np.minimum(began_s[visit] + chance.exponential(within_s, count), span.total_seconds() - 1))
    site, visitor = (chance.integers(0, most, visit[-1] + 1) for most in (_SITES, max(count // 10, 10)))
    page = np.minimum(chance.zipf(page_skew, count), pages) if pages <= _PAGES else chance.integers(0, pages, count)
    offsets = np.arange(first_offset, first_offset + count)
    times = start + pl.Series((seconds * 1e6).astype(np.int64)).cast(pl.Duration("us"))
    return pl.DataFrame(
        {
            "partition": np.zeros(count, np.int32),
            "offset": offsets,
            "kafka_time": times.cast(EVENT_SCHEMA["kafka_time"]),
            "event_id": offsets.astype(str),
            "event_time": times.cast(EVENT_SCHEMA["event_time"]),
            "site": np.char.add("site-", site[visit].astype(str)),
            "page": np.char.add("/page/", page.astype(str)),
            "visitor_id": np.char.add("visitor-", visitor[visit].astype(str)),
            "status": chance.choice([200, 200, 200, 404, 503], count),
            "bytes_sent": chance.integers(0, 10_000, count),
            "duration_ms": chance.lognormal(4, 1, count),
            "referrer": None,
            "user_agent": None,
        },
        schema_overrides=EVENT_SCHEMA,
    ).select(EVENT_SCHEMA.names())


def thin_history(settings: Settings, days: int, events_a_day: int) -> None:
    """A full run takes over what nobody has counted: so many days before today, some events on each."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with connect(settings, "batch") as batch:
        run = begin_run(batch, "full", {0: days * events_a_day})
        for number, first in enumerate(range(0, days, _DAYS_A_TASK)):
            some = min(_DAYS_A_TASK, days - first)
            frame = visits(
                number, first * events_a_day, some * events_a_day, today - timedelta(days=days - first), timedelta(days=some)
            )
            write_task(batch, run.run_id, str(number), batch_rows(frame), ledger_of(frame))
        every = [(today - timedelta(days=before)).date() for before in range(1, days + 1)]
        publish(batch, run.run_id, every, {part: cut.next_offset for part, cut in run.cut.items()}, [], TOPIC)


def dense_day(settings: Settings, events: int, pages: int, range_offsets: int, merged: bool, fresh: int) -> None:
    """Today's events come in commits, a run absorbs them, and its speed rows stay for a rollback; then `fresh` more come."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with connect(settings, "speed") as speed, connect(settings, "batch") as batch:
        first_offset = _next_offset(batch)
        frame = visits(10_001, first_offset, events, today, datetime.now(UTC) - today, pages)
        _commit(speed, frame, range_offsets, merged)
        run = begin_run(batch, "incremental")
        rows = aggregate(frame, with_rollups(VIEWS))
        write_task(batch, run.run_id, "dense", rows, ledger_of(frame))
        publish(batch, run.run_id, [today.date()], {part: cut.next_offset for part, cut in run.cut.items()}, [], TOPIC)
        start = datetime.now(UTC) - timedelta(minutes=20)
        if fresh:
            _commit(speed, visits(10_002, first_offset + events, fresh, start, timedelta(minutes=20), pages), 500, merged)
        vacuum(batch)


def _commit(speed: Connection, frame: pl.DataFrame, range_offsets: int, merged: bool) -> None:
    appended = 0
    for part in frame.iter_slices(range_offsets):
        rows = aggregate(part, VIEWS)
        offsets = OffsetRange(0, part["offset"][0], part["offset"][-1] + 1)
        assert commit_range(speed, offsets, rows, Counts(len(part), len(part), 0), NO_REJECTS, TOPIC)
        appended += sum(map(len, rows.values()))
        if merged and appended > 10_000:
            appended = 0
            merge_appended(speed, 0, 10_000)


def _next_offset(connection: Connection) -> int:
    row = connection.execute("SELECT next_offset FROM serving.positions(1) WHERE partition = 0").fetchone()
    assert row
    return int(row[0])
