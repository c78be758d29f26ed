"""Whole stack: history and quarantine are sent again as a user does it, and counts are what they were, or become right."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.views import VIEWS, with_rollups
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import Stack, status_of
from tests.fixtures.views import stored_rows
from tests.stack.test_exact import BATCH, assert_equals_oracle

KCAT = ("exec", "-T", "kafka", "kcat", "-b", "kafka:29092")


def replay(stack: Stack, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return stack.run("make", "--silent", "replay", *words, check=check)


def every_column(stack: Stack) -> dict[str, list[tuple[Any, ...]]]:
    """`select *` of all merged views."""
    return {
        view.name: stack.ask(f"SELECT * FROM {stored_rows(view)} ORDER BY {', '.join(view.group)}")
        for view in with_rollups(VIEWS)
    }


def wait_until_archived(stack: Stack) -> None:
    def is_archived() -> None:
        assert [place for place in status_of(stack)["positions"] if place["archive_lag"] != 0] == []

    eventually(is_archived, within_s=60)


@pytest.fixture
def two_days(stack: Stack) -> tuple[str, str]:
    """FROM= and TO= of yesterday and today, on which there are archived events, late ones among them."""
    stack.simulate(10_000, seed=21)
    wait_until_archived(stack)
    now = datetime.now(UTC)
    return f"FROM={now - timedelta(days=1):%Y-%m-%d}", f"TO={now:%Y-%m-%d}"


@pytest.mark.long
def test_history_sent_three_times_twice_of_it_at_once_changes_no_byte_of_any_view(stack: Stack, two_days: tuple[str, str]):
    before = every_column(stack)
    events = json.loads(replay(stack, *two_days, "DRY_RUN=1", "FORMAT=json").stdout)["events"]
    assert events > 5_000
    with ThreadPoolExecutor() as pool:
        for speeds in (("max",), ("max", "100000x")):
            at_once = [pool.submit(replay, stack, *two_days, f"SPEED={speed}", "FORMAT=json") for speed in speeds]
            for done in at_once:
                result = json.loads(done.result().stdout)
                assert (result["events"], result["topic"]) == (events, "pageviews")
            stack.wait_until_counted()
            assert every_column(stack) == before
    assert_equals_oracle(stack)
    rows = stack.everything()
    stack.run(*BATCH)
    assert stack.everything() == rows


def test_shifted_history_counts_as_new(stack: Stack, two_days: tuple[str, str]):
    before = stack.everything()
    result = json.loads(replay(stack, *two_days, "SHIFT=now", "SITE=www.example.com", "FORMAT=json").stdout)
    assert stack.ask("SELECT sum(views) FROM site_traffic WHERE site = 'replay.www.example.com'") == [(result["events"],)]
    others = "WHERE site <> 'replay.www.example.com'"
    assert {view.name: stack.merged(view, others) for view in with_rollups(VIEWS)} == before


def test_another_topic_gets_history_and_nothing_counts(stack: Stack, two_days: tuple[str, str]):
    stack.run("env", "BRAID_TOPIC=replayed", "compose/engine", "compose", "run", "--rm", "-T", "--no-deps", "topic")
    before = every_column(stack)
    result = json.loads(replay(stack, *two_days, "TOPIC=replayed", "FORMAT=json").stdout)
    assert len(stack.compose(*KCAT, "-t", "replayed", "-C", "-e", "-q", "-f", "%p\n").splitlines()) == result["events"]
    assert every_column(stack) == before


def test_a_quarantined_record_that_is_an_event_by_now_is_counted_and_resolved(stack: Stack):
    event = {
        "event_id": "ahead:1", "site": "cured", "page": "/", "visitor_id": "me", "status": 200, "bytes_sent": 5,
        "event_time": (datetime.now(UTC) + timedelta(days=1, seconds=20)).isoformat(),
    }  # fmt: skip
    stack.compose(*KCAT, "-t", "pageviews", "-P", "-k", "me", text=f"{json.dumps(event)}\nno event\n")
    stack.wait_until_counted()
    wait_until_archived(stack)
    quarantined = stack.ask("SELECT count(*) FROM quarantine")

    def is_cured() -> None:
        result = json.loads(replay(stack, "QUARANTINE=1", "REASON=too_far_ahead", "FORMAT=json").stdout)
        assert stack.ask("SELECT sum(views) FROM page_traffic WHERE site = 'cured'") == [(1,)], result

    eventually(is_cured, within_s=120)
    states = "SELECT reason, state FROM quarantine_state WHERE state <> 'open' AND first_reason = 'too_far_ahead'"
    assert stack.ask(states) == [("too_far_ahead", "resolved")]
    result = json.loads(replay(stack, "QUARANTINE=1", "REASON=not_json", "FORMAT=json").stdout)
    assert (result["sent"], set(result["kept"])) == (0, {"not_json"})
    assert stack.ask("SELECT count(*) FROM quarantine") == quarantined
    assert stack.ask("SELECT sum(difference) FROM ledger") == [(0,)]
    before = stack.everything()
    stack.run(*BATCH)
    assert stack.everything() == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "what? make replay LOG=access.log"),
        (("FROM=2015-05-19", "TO=2015-05-18"), "FROM=2015-05-19 is after TO=2015-05-18"),
        (("FROM=18.5.2015",), "'18.5.2015' is not a date"),
        (("FROM=1999-01-01",), "the archive has no event of 1999-01-01"),
        (("FROM=2015-05-18", "SPEED=fast"), "SPEED='fast' is neither max nor a multiple"),
        (("FROM=2015-05-18", "TOPIC=nowhere"), "has no topic nowhere, so nothing was sent"),
        (("FROM=2015-05-18", "LOG=access.log"), "FROM= means nothing with LOG="),
        (("QUARANTINE=1", "REASON=ugly"), "REASON='ugly' is none of"),
    ],
)
def test_bad_use_is_refused_in_one_line(stack: Stack, words: tuple[str, ...], complaint: str):
    done = replay(stack, *words, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
