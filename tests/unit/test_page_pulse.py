"""What whoever looks at the page is told each second, from what was heard."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from contract.settings import Settings
from serving.page import pulse as pulse_module
from serving.page.board import Board
from serving.page.heard import Heard
from serving.page.pulse import Pulse
from serving.page.scope import Scope
from serving.page.servers import servers
from serving.status import Position
from tests.fixtures.status import WELL, down

NOW_S = 1_000.0
AT_REST = replace(WELL, open_transactions=[], positions=[], disk=None)


@pytest.fixture
def heard() -> Heard:
    """All are there."""
    every = Heard(servers(Settings()))
    every.database.answered(NOW_S)
    every.kafka.answered(NOW_S)
    every.answers = {server.name: None for server in every.servers}
    every.take_status(AT_REST, NOW_S)
    return every


def told(heard: Heard) -> dict[str, Any]:
    """Each part that somebody who looks is told."""
    board = Board(lambda: NOW_S)
    with board.viewer(Scope("", "1h")) as viewer:
        Pulse(board, heard, lambda: NOW_S).tell()
        parts = {}
        while not viewer.messages.empty():
            event, _, data = (viewer.messages.get_nowait() or b"").decode().partition("\ndata: ")
            content = json.loads(data)
            parts[content["name"] if event == "event: part" else "pulse"] = content.get("data", content)
        return parts


def wrong(heard: Heard) -> list[str]:
    return [problem["what"] for problem in told(heard)["problems"]["found"]]


def test_nothing_is_wrong_where_all_answer(heard: Heard):
    parts = told(heard)
    assert parts["problems"] == {"found": [], "asked": True}
    assert {row["up"] for row in parts["servers"]} == {True}
    assert parts["pulse"]["kafka"]["away"] is None


def test_kafka_and_the_database_are_away_before_anybody_has_asked_their_ports(heard: Heard):
    heard.kafka.error = "connection refused"
    parts = told(heard)
    assert [row["name"] for row in parts["servers"] if not row["up"]] == ["Kafka"]
    assert parts["pulse"]["kafka"]["away"] == "connection refused"
    # Why nobody is there says more.
    heard.answers = {**heard.answers, "Kafka": "its container does not run"}
    assert wrong(heard) == ["Kafka: its container does not run"]


def test_what_a_process_of_ours_says_of_itself_is_said(heard: Heard):
    heard.answers = {**heard.answers, "speed layer": "not ready: ranges of partition 3 cannot be counted"}
    assert wrong(heard) == ["speed layer: not ready: ranges of partition 3 cannot be counted"]


def test_what_status_and_the_exporter_call_down_is_down_here(heard: Heard):
    heard.take_status(replace(AT_REST, health=down("Spark master").health), NOW_S)
    assert wrong(heard) == ["Spark master: does not answer"]


def test_lag_is_known_where_both_ends_are(heard: Heard):
    heard.ends = {0: 90, 1: 50}
    heard.positions = {0: (100, 20)}
    rows = told(heard)["lag"]
    assert [(row["kafka"], row["speed"], row["speed_lag"]) for row in rows] == [(110, 100, 10), (50, None, None)]
    heard.kafka.error = "away"
    assert {row["kafka"] for row in told(heard)["lag"]} == {None}
    assert {row["speed_lag"] for row in told(heard)["lag"]} == {None}


def test_an_archive_stands_still_from_when_it_was_first_seen_so_and_only_while_there_is_more(heard: Heard):
    def seen(archive: int, kafka: int, now_s: float) -> float:
        position = Position(0, kafka=kafka, last_stable_offset=kafka, archive=archive, speed=None, batch=None)
        heard.take_status(replace(AT_REST, positions=[position]), now_s)
        return heard.archive_stood_s(now_s)[0]

    assert seen(10, 20, NOW_S) == 0
    assert seen(10, 20, NOW_S + 50) == 50
    assert seen(12, 20, NOW_S + 60) == 0
    assert seen(12, 12, NOW_S + 90) == 0
    assert seen(12, 14, NOW_S + 100) == 10


def test_the_page_is_ready_with_the_database_and_alive_as_long_as_its_loops_go_on(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
):
    pulse = Pulse(Board(lambda: NOW_S), heard, lambda: NOW_S)
    assert (pulse.database_away(), pulse.stands_still()) == (None, None)
    heard.database.error = "connection refused"
    assert pulse.database_away() == "TimescaleDB: connection refused"
    heard.database.error = "TimescaleDB at 127.0.0.1:5433 does not answer"
    assert pulse.database_away() == heard.database.error
    later_s = time.monotonic() + 31
    monkeypatch.setattr(pulse_module.time, "monotonic", lambda: later_s)
    assert "nobody was told anything for 31 s" in (pulse.stands_still() or "")
    pulse.tell()
    assert pulse.stands_still() is None
