"""The beacon script: what it sends is an event, and how it tries again."""

from __future__ import annotations

import json
import re

import pytest

from contract.event import FIELDS
from tests.fixtures.beacon import SCRIPT, beacon
from tests.fixtures.collector import NOW_MS, PSEUDONYMS, served

TAKEN = (202, None)


def test_it_has_at_most_forty_lines_and_stores_nothing():
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert not re.search(r"cookie|localStorage|sessionStorage|indexedDB|visitor_id", text)


def test_a_view_is_an_event_that_the_collector_takes():
    sent = beacon([TAKEN], referrer="https://search.example/", time_origin_ms=NOW_MS - 1_000.4)
    (request,) = sent.requests
    assert (request["url"], request["method"]) == ("https://collector.example.com:8443/events", "POST")
    # It goes on when the page is left, and has no cookie with it.
    assert (request["keepalive"], request["credentials"]) == (True, "omit")
    assert sent.event == {
        "event_id": "beacon-1-2-3-4",
        "event_time": "2026-03-01T11:59:58.999Z",
        "site": "demo",
        "page": "/a?b=1",
        "status": 404,
        "bytes_sent": 1_234,
        "duration_ms": 43,
        "referrer": "https://search.example/",
        "user_agent": "a browser",
    }
    assert set(sent.event) < set(FIELDS)
    with served() as collector:
        assert collector.post(request["body"].encode(), X_Forwarded_For="203.0.113.7")[0] == 202
        assert collector.sent[0][0] == PSEUDONYMS.of("203.0.113.7")


def test_what_the_browser_does_not_know_is_left_out():
    event = beacon([TAKEN], load="", site=None).event
    assert (event["site"], event["status"], event["bytes_sent"]) == ("www.example.com", 200, 0)
    assert event.keys().isdisjoint({"duration_ms", "referrer"})


@pytest.mark.parametrize(
    ("answers", "waits_ms"),
    [
        ([TAKEN], [0]),
        ([(400, None)], [0]),
        ([(413, None)], [0]),
        ([(503, "7"), TAKEN], [0, 7_000]),
        ([(429, "2"), None, TAKEN], [0, 2_000, 1_000]),
        ([(503, None)] * 5, [0, 1_000, 1_000, 1_000, 1_000]),
    ],
)
def test_it_tries_again_what_may_be_taken_later_and_the_event_is_the_same(
    answers: list[tuple[int, str | None] | None], waits_ms: list[int]
):
    sent = beacon(answers)
    assert sent.waits_ms == waits_ms
    assert len(sent.requests) == len(answers)
    assert len({request["body"] for request in sent.requests}) == 1
    assert json.loads(sent.requests[-1]["body"])["event_id"]
