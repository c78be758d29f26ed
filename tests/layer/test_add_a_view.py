"""docs/add-a-view.md does what it says: its entries, its queries, on a database that has counted before."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from datetime import date
from pathlib import Path

import polars as pl

import contract.views
from contract.measures import Seen
from contract.settings import Settings
from contract.views import VIEWS, View
from serving.database import Connection, connect
from serving.handoff import collect_garbage
from serving.migrate import migrate
from tests.fixtures.handoff import assert_merged, commit, full_run
from tests.fixtures.pageviews import events

DOC = (Path(__file__).resolve().parents[2] / "docs" / "add-a-view.md").read_text(encoding="utf-8")
REFERRERS = (None, "", "https://Example.org/a?b", "http://u@news.example.net:8080", "nonsense", "https://[::1]/")
HOSTS = ("", "", "example.org", "news.example.net", "", "")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```$", DOC, re.MULTILINE | re.DOTALL)


def declared() -> tuple[View, ...]:
    """What the page adds to VIEWS."""
    (declaration,) = blocks("python")
    names = {**vars(contract.views), "Seen": Seen}
    exec(declaration, names)
    added: tuple[View, ...] = names["VISITORS"]
    return added


def with_referrers(frame: pl.DataFrame) -> pl.DataFrame:
    chance = random.Random(len(frame))
    return frame.with_columns(referrer=pl.Series([chance.choice(REFERRERS) for _ in range(len(frame))], dtype=pl.String))


def test_the_walk_through(database: Settings, speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = with_referrers(pl.concat(events(1, 0, first, 200) for first in (0, 200, 400)))
    commit(speed, frame[:200])
    full_run(batch, frame[:200])
    views = (*VIEWS, *declared())
    assert migrate(database, views)
    with connect(database, "speed") as new_speed, connect(database, "batch") as new_batch:
        commit(new_speed, frame[200:400], views=views)
        full_run(new_batch, frame[:400], views=views)
        commit(new_speed, frame[400:], views=views)
        assert_merged(reader, frame, views)
        days: dict[tuple[str, date], set[str]] = defaultdict(set)
        hosts: dict[str, list[str]] = defaultdict(list)
        for row in frame.iter_rows(named=True):
            days[row["site"], row["event_time"].date()].add(row["visitor_id"])
            if row["site"] == "demo":
                hosts[HOSTS[REFERRERS.index(row["referrer"])]].append(row["visitor_id"])
        of_day, of_site, of_host = (query.replace("visitor-7", "visitor 7") for query in blocks("sql"))
        expected = sorted(day for day, visitors in days.items() if "visitor 7" in visitors)
        assert reader.execute(of_day.encode()).fetchall() == expected
        was_here = {site: here for site, here, _ in reader.execute(of_site.encode())}
        assert was_here == {site: any(site == of for of, _ in expected) for site in ("demo", "shop")}
        top = {host: views for host, views, _ in reader.execute(of_host.encode())}
        assert top == {host: len(visitors) for host, visitors in hosts.items() if host}
        assert len(top) == 2
        collect_garbage(new_batch, keep_runs=3)
        # And back again.
        assert migrate(database, VIEWS)
    with connect(database, "speed") as old_speed, connect(database, "batch") as old_batch:
        more = with_referrers(events(1, 0, 600, 100))
        commit(old_speed, more)
        full_run(old_batch, pl.concat([frame, more]))
        assert_merged(reader, pl.concat([frame, more]))
        assert reader.execute("SELECT to_regclass('public.referrers')").fetchone() == (None,)
