"""Whole stack: docs/add-a-view.md, as written, with `make deploy`; meanwhile no query on another view fails or changes."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from serving.database import connect
from tests.fixtures.deployed import changed_code, deploy_s
from tests.fixtures.kafka import records_of
from tests.fixtures.stack import ROOT, Stack
from tests.oracle import Outcome
from tests.stack.test_exact import TOTALS

DOC = (ROOT / "docs" / "add-a-view.md").read_text(encoding="utf-8")
SITE = "www.example.com"
# Rows of days have no bucket.
NEW = "SELECT sum(views), bool_or(coalesce(to_jsonb(v) ->> 'bucket', '') LIKE '%T12:00:00%') FROM visitor_days AS v"
HALVES = "SELECT site, bucket::time <> '00:00', sum(views) FROM visitor_days GROUP BY 1, 2"
NOT_THERE = ("not there",)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```$", DOC, re.MULTILINE | re.DOTALL)


def counted_events(stack: Stack) -> list[tuple[datetime, dict[str, Any]]]:
    """When every event that counts was, and its fields."""
    outcome, events = Outcome(), []
    for record in sorted(records_of(stack.settings), key=lambda record: (record.partition(), record.offset())):
        if event := outcome.take(record.value(), record.timestamp()[1]):
            events.append((datetime.fromisoformat(event["event_time"]).astimezone(UTC), event))
    return events


class Polls:
    """Asks all the time, on a connection that stays, and keeps all answers: NOT_THERE where there was no such view."""

    def __init__(self, stack: Stack, *queries: str) -> None:
        self.answers: dict[str, set[tuple[Any, ...]]] = {query: set() for query in queries}
        self._stack, self._stop = stack, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._failed: list[Exception] = []

    def __enter__(self) -> Polls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._failed == []

    def _ask(self) -> None:
        try:
            with connect(self._stack.settings, "reader") as reader:
                while not self._stop.wait(0.1):
                    for query, answers in self.answers.items():
                        try:
                            answers.update(reader.execute(query.encode()).fetchall())
                        except psycopg.errors.UndefinedTable:
                            answers.add(NOT_THERE)
        except Exception as error:
            self._failed.append(error)


@pytest.mark.long
def test_views_are_added_changed_and_removed_as_the_page_says(stack: Stack):
    stack.simulate(5_000, seed=60)
    before = stack.everything()
    totals = stack.ask(TOTALS)
    (declaration,) = blocks("python")
    edits = (
        ("Measure, Quantiles, Sum\n", "Measure, Quantiles, Seen, Sum\n"),
        ("VIEWS: tuple[View, ...] = (", f"{declaration}\nVIEWS: tuple[View, ...] = ("),
        ('    View("page_traffic",', '    *CLIENTS,\n    View("page_traffic",'),
    )
    with changed_code("contract/streams/page_views.py", *edits) as folder, Polls(stack, TOTALS, NEW) as polls:
        deploy_s(stack, folder)
    events = counted_events(stack)
    assert polls.answers == {TOTALS: set(totals), NEW: {NOT_THERE, (len(events), False)}}
    assert stack.everything() == before

    # With events from both layers.
    stack.simulate(2_000, seed=61)
    events = counted_events(stack)
    assert stack.ask("SELECT sum(views), sum(speed_views) > 0 FROM visitor_days") == [(len(events), True)]
    visitor = events[-1][1]["visitor_id"]
    of_day, of_site, of_agent = (
        query.replace("visitor-7", visitor).replace("'demo'", f"'{SITE}'") for query in blocks("sql")
    )
    days = {(event["site"], time.date()) for time, event in events if event["visitor_id"] == visitor}
    assert days <= set(stack.ask(of_day))
    sites = {site for site, _ in days}
    assert {site for site, was_here, _ in stack.ask(of_site) if was_here} >= sites
    agents = Counter(event["user_agent"] for _, event in events if event["site"] == SITE and event.get("user_agent"))
    assert 1 < len(agents) <= 10
    assert {agent: views for agent, views, _ in stack.ask(of_agent)} == agents
    assert stack.ask("SELECT sum(views) FROM user_agents") == [(len(events),)]

    # Half days instead of days.
    before = stack.everything()
    totals = stack.ask(TOTALS)
    changed = (*edits, ("bucket=timedelta(days=1)", "bucket=timedelta(hours=12)"))
    with changed_code("contract/streams/page_views.py", *changed) as folder, Polls(stack, TOTALS, NEW) as polls:
        deploy_s(stack, folder)
    assert polls.answers == {TOTALS: set(totals), NEW: {(len(events), False), (len(events), True)}}
    halves = Counter((event["site"], time.hour >= 12) for time, event in events)
    assert {(site, half): views for site, half, views in stack.ask(HALVES)} == halves

    deploy_s(stack, ROOT)
    assert stack.everything() == before
    assert stack.ask("SELECT to_regclass('visitor_days'), to_regclass('user_agents')") == [(None, None)]
