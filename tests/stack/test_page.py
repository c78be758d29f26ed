"""Whole stack: the live page in a browser. What is sent shows within a second; what is away shows as away, never as zero."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser

from serving.page.cookbook import questions
from tests.drill.faults import BatchRun, Faults
from tests.fixtures.browser import Tab, axe_of, browser_beside, screenshot, tab_of
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import ROOT, Stack

SHOP = "shop.example"
PAGES = ("/", "/shoes", "/shoes/red", "/cart", "/thanks")
VIEWS_ARE = "views => document.getElementById('tile-views').textContent === views"
BANNER_HAS = "text => document.getElementById('banner').textContent.includes(text)"
NO_BANNER = "() => document.getElementById('banner').textContent === ''"
ALL_IS_WELL = "() => document.getElementById('problems').textContent.startsWith('All is well')"
PROBLEM = "text => document.getElementById('problems').textContent.includes(text)"


@pytest.fixture(scope="module")
def faults(stack: Stack) -> Faults:
    return Faults(stack, os.environ["COMPOSE_PROJECT_NAME"])


@pytest.fixture(scope="module")
def collector(stack: Stack) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{stack.settings.port_collector}", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[httpx2.Client]:
    """The page's server, from outside."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{stack.settings.port_page}", timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def browser(faults: Faults) -> Iterator[Browser]:
    with browser_beside(faults.container("page")) as launched:
        yield launched


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """Whatever a test does, the page writes no error to the console."""
    with tab_of(browser) as opened:
        yield opened
        assert opened.errors == []


@pytest.fixture(scope="module")
def axe(stack: Stack) -> str:
    return axe_of(stack)


@pytest.fixture
def site() -> str:
    """One that no other test counts."""
    return f"site-{uuid.uuid4().hex[:8]}"


def event(site: str, time: datetime | None = None, page: str = "/", visitor: str = "me", **more: Any) -> dict[str, Any]:
    moment = (time or datetime.now(UTC)).isoformat()
    fixed = {"event_time": moment, "site": site, "page": page, "visitor_id": visitor, "status": 200, "bytes_sent": 100}
    return {"event_id": uuid.uuid4().hex} | fixed | more


def send(collector: httpx2.Client, events: list[dict[str, Any]]) -> None:
    for first in range(0, len(events), 500):
        assert collector.post("/events", json=events[first : first + 500]).status_code == 202


def shop_visits(number: int, seed: int, minutes: int = 55) -> list[dict[str, Any]]:
    """Views over the last minutes, more of them later; some fail, and each takes its time."""
    chance, now = random.Random(seed), datetime.now(UTC)
    return [
        event(
            SHOP,
            now - timedelta(minutes=minutes * chance.random() ** 1.4),
            PAGES[min(len(PAGES) - 1, int(chance.expovariate(0.9)))],
            f"visitor-{chance.randrange(400)}",
            status=503 if chance.random() < 0.01 else 200,
            duration_ms=round(chance.lognormvariate(4, 0.7), 3),
            referrer=chance.choice((None, "https://search.example/?q=shoes", "https://news.example/today")),
        )
        for _ in range(number)
    ]


@pytest.fixture(scope="module")
def shop(stack: Stack, collector: httpx2.Client) -> None:
    """An hour of a shop: most of it in a published run, the rest counted since; one record is no event."""
    send(collector, shop_visits(4_000, seed=1))
    stack.compose(
        "exec", "-T", "kafka", "kcat", "-P", "-b", "kafka:29092", "-t", stack.settings.topic, text='{"no": "event"}\n'
    )
    stack.wait_until_counted()
    stack.compose("run", "--rm", "-T", "--no-deps", "batch", "python", "-m", "batch", "run", "--wait")
    send(collector, shop_visits(1_500, seed=2, minutes=20))
    stack.wait_until_counted()


def test_an_event_that_is_sent_shows_within_a_second(tab: Tab, collector: httpx2.Client, site: str):
    tab.open(f"?site={site}&range=1h")
    # The database answered, so nothing is known to be nothing.
    tab.wait_for(VIEWS_ARE, "0")
    seconds = []
    for number in range(1, 8):
        began_s = time.monotonic()
        send(collector, [event(site)])
        tab.wait_for(VIEWS_ARE, str(number))
        seconds.append(time.monotonic() - began_s)
    assert median(seconds) <= 1, seconds
    assert tab.text("#views tbody tr:first-child, #views tbody tr:nth-child(2)")


@pytest.mark.usefixtures("shop")
def test_everything_is_there_for_eye_ear_and_keyboard(tab: Tab, axe: str):
    tab.open(f"?site={SHOP}&range=1h")
    tab.wait_for("() => Number(document.getElementById('tile-views').textContent.replace(',', '')) > 5_000")
    tab.wait_for("() => document.querySelectorAll('#pages tbody tr').length === 5")
    tab.wait_for("() => document.querySelector('#ledger svg') && document.querySelector('#budgets tbody tr')")
    tab.wait_for(ALL_IS_WELL)
    assert "± " in tab.text("#tile-visitors-note")
    # Both halves and the run that divides them.
    halves = tab.text("#tile-views-note").replace(",", "").split()
    assert (halves[1], halves[3]) == ("batch", "speed")
    assert int(halves[0]) > 3_000 < int(halves[0]) + int(halves[2]) - 1_000
    tab.wait_for("() => document.querySelector('#runs tbody')?.textContent.includes('live')")
    tab.wait_for("() => document.getElementById('quarantine').textContent.includes('missing_field')")
    assert tab.page.evaluate("() => document.querySelectorAll('.figure .plot canvas').length") == 4
    assert tab.page.evaluate("() => document.querySelectorAll('.figure table').length") == 5
    for theme, wanted in (("light", "page-light"), ("dark", "page-dark")):
        tab.page.emulate_media(color_scheme=theme)
        tab.wait_for("theme => document.documentElement.dataset.theme === theme", theme)
        assert tab.violations(axe) == [], theme
        screenshot(tab, wanted)
    # The first thing that Tab reaches leads past the header.
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("() => document.activeElement.className") == "skip"
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("() => document.activeElement.id") == "main"


def test_a_run_is_seen_while_it_works_and_moves_the_seam(
    tab: Tab, faults: Faults, collector: httpx2.Client, stack: Stack, site: str
):
    send(collector, [event(site), event(site, visitor="you")])
    stack.wait_until_counted()
    tab.open(f"?site={site}&range=15m")
    tab.wait_for(VIEWS_ARE, "2")
    assert tab.text("#tile-views-note").startswith("0 batch, 2 speed")
    run = BatchRun(faults)
    tab.wait_for("() => document.querySelector('#runs progress')", within_s=90)
    code, said = run.finish()
    assert code == 0, said
    tab.wait_for("() => document.getElementById('tile-views-note').textContent.startsWith('2 batch, 0 speed')")
    assert tab.text("#tile-views") == "2"
    tab.wait_for("() => !document.querySelector('#runs progress')")


def test_site_range_and_theme_stay(tab: Tab, collector: httpx2.Client, site: str):
    send(collector, [event(site)])
    tab.open(f"?site={site}&range=15m")
    tab.wait_for(VIEWS_ARE, "1")
    tab.page.select_option("#range", "24h")
    assert f"site={site}&range=24h" in tab.page.url
    tab.wait_for("() => document.querySelectorAll('#views tbody tr').length === 96")
    tab.page.click("#theme")
    tab.page.reload()
    tab.wait_for(VIEWS_ARE, "1")
    assert (tab.page.input_value("#site"), tab.page.input_value("#range")) == (site, "24h")
    assert tab.page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    tab.page.go_back()
    tab.wait_for("() => document.getElementById('range').value === '15m'")
    tab.wait_for("() => document.querySelectorAll('#views tbody tr').length === 15")
    tab.page.select_option("#site", "")
    tab.wait_for("() => Number(document.getElementById('tile-views').textContent.replace(',', '')) >= 1")


def test_the_sql_box_answers_each_question_of_the_cookbook_and_nothing_else_than_its_page(tab: Tab, server: httpx2.Client):
    tab.open()
    tab.wait_for("() => document.getElementById('question').options.length > 20")
    tab.page.select_option("#question", index=1)
    tab.page.focus("#statement")
    tab.page.keyboard.press("Control+Enter")
    tab.wait_for("() => document.querySelector('#sql-answer tbody tr')")
    tab.page.fill("#statement", "delete from runs")
    tab.page.click("#sql button")
    tab.wait_for("() => document.querySelector('#sql-said .bad')")

    def ask(statement: str, **headers: str) -> httpx2.Response:
        return server.post("/sql", json={"sql": statement}, headers=headers)

    for question in questions((ROOT / "docs" / "sql.md").read_text(encoding="utf-8")):
        answer = ask(question.sql)
        assert "rows" in answer.json(), (question.title, answer.text)
    many = ask("select n, 'infinity'::date as never from generate_series(1, 1000000) as n").json()
    assert (len(many["rows"]), many["cut"], many["rows"][0]) == (1_000, True, ["1", "infinity"])
    wide = ask("select repeat('x', 300000) from generate_series(1, 100)").json()
    assert (len(wide["rows"]), wide["cut"]) == (3, True)
    assert ask("select 1 as one where false").json()["columns"] == ["one"]
    for statement in (
        "select 1; select 2",
        "create table t ()",
        "set statement_timeout = 0",
        "",
        "select pg_advisory_lock(1)",
    ):
        assert "refused" in ask(statement).json(), statement
    assert ask("select 1", Origin="https://x.example").status_code == 403
    assert server.get("/", headers={"Host": "x.example"}).status_code == 421


@pytest.mark.usefixtures("shop")
def test_a_database_that_restarts_is_shown_and_survived(
    tab: Tab, faults: Faults, stack: Stack, collector: httpx2.Client, site: str, axe: str
):
    send(collector, [event(site)])
    tab.open(f"?site={site}&range=15m")
    tab.wait_for(VIEWS_ARE, "1")
    with ExitStack() as after, tab_of(tab.page.context.browser) as beside:  # type: ignore[arg-type]
        beside.open(f"?site={SHOP}&range=1h")
        beside.wait_for("() => document.querySelector('#ledger svg')")
        faults.kill_and_keep_down("timescaledb")
        after.callback(faults.start, "timescaledb")
        for one in (tab, beside):
            one.wait_for(BANNER_HAS, "TimescaleDB does not answer")
            one.wait_for(PROBLEM, "make logs S=timescaledb")
        # What was known stays, and says how old it is; nothing became zero.
        assert tab.text("#tile-views") == "1"
        assert tab.page.get_attribute("section:has(#views)", "data-stale")
        # While it is away, something is sent.
        send(collector, [event(site)])
        assert "0" not in [row.split()[0] for row in tab.text("#tile-views").splitlines()]
        beside.wait_for("() => document.getElementById('tile-freshness-note').textContent.includes('not known')")
        assert beside.violations(axe) == []
        screenshot(beside, "page-outage")
        assert beside.errors == []
    tab.wait_for(NO_BANNER, within_s=60)
    tab.wait_for(VIEWS_ARE, "2", within_s=60)
    tab.wait_for("() => document.getElementById('servers').textContent.includes('TimescaleDB: ')")
    assert tab.page.get_attribute("section:has(#views)", "data-stale") is None
    stack.wait_until_counted()


def test_while_kafka_is_away_the_minutes_are_not_known_and_not_zero(
    tab: Tab, faults: Faults, collector: httpx2.Client, site: str
):
    tab.open(f"?site={site}&range=15m")
    tab.wait_for(VIEWS_ARE, "0")

    def ready() -> None:
        assert collector.get("/readyz").status_code == 200

    faults.kill_and_keep_down("kafka")
    try:
        tab.wait_for(BANNER_HAS, "Kafka does not answer")
        tab.wait_for(PROBLEM, "make logs S=kafka")
        # A step that begins while it is away has no number.
        tab.wait_for("() => document.querySelector('#views tbody tr').textContent.includes('not known')", within_s=90)
        assert tab.text("#tile-views-note").endswith("not known")
    finally:
        faults.start("kafka")
        eventually(ready, within_s=90)
    tab.wait_for(NO_BANNER, within_s=90)

    # One that was refused may have come all the same, and counts once.
    one = event(site)

    def taken() -> None:
        send(collector, [one])

    eventually(taken, within_s=90)
    tab.wait_for(VIEWS_ARE, "1", within_s=60)
    tab.wait_for("() => document.getElementById('servers').textContent.includes('Kafka: ')")


def test_a_server_that_is_away_is_named_with_what_helps(tab: Tab, faults: Faults):
    tab.open()
    tab.wait_for(ALL_IS_WELL)
    faults.kill_and_keep_down("zookeeper")
    try:
        tab.wait_for(PROBLEM, "ZooKeeper: its container does not run")
        tab.wait_for(PROBLEM, "make logs S=zookeeper")
    finally:
        faults.start("zookeeper")
    tab.wait_for(ALL_IS_WELL, within_s=60)


def test_a_page_that_has_lost_its_server_says_so_and_finds_it_again(browser: Browser, faults: Faults):
    # The browser itself complains of a connection that broke.
    with tab_of(browser) as tab:
        tab.open()
        tab.wait_for("() => document.querySelector('#ledger svg')")
        with faults.frozen("page"):
            tab.wait_for(BANNER_HAS, "lost its server")
            assert tab.text("#connection").startswith("no connection")
        tab.wait_for(NO_BANNER, within_s=60)
        tab.wait_for("() => document.getElementById('connection').textContent.startsWith('live')")
