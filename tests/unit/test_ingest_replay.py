"""A whole replay over an archive and a producer in memory: what is sent, what is refused, and what is said."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.errors import BraidError, InputError, ReplayRefused, TopicUnusable
from contract.event import decode
from contract.master import OffsetRange
from contract.replays import Cover
from contract.settings import Settings
from ingest.__main__ import main
from ingest.replay import replay
from ingest.replay_request import ReplayRequest
from ingest.replay_result import Replayed
from ingest.stop import Stop
from tests.fixtures.history import START, put, put_seconds, row
from tests.fixtures.memory import MemoryStore
from tests.fixtures.memory_producer import MemoryProducer

NOTHING_COVERED = Cover()
SETTINGS = Settings()
ROOT = SETTINGS.archive_root
DAY = START.date()


class World:
    """An archive of two partitions: two days, one event late, one sent twice. Kafka ends at 4 of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.producer, self.ends = MemoryStore(), MemoryProducer(), {"0": 4, "1": 4}
        self.topics: list[str] = []
        put_seconds(self.store, ROOT, 0, 0, [0, 10, 10])
        put_seconds(self.store, ROOT, 1, 0, [86_400, 5])
        monkeypatch.setattr("ingest.replay.Hdfs", lambda url: self.store)
        monkeypatch.setattr("ingest.replay.connect", self._connect)
        monkeypatch.setattr("ingest.replay.next_offsets", lambda settings: self.ends)

    def _connect(self, settings: Settings) -> MemoryProducer:
        if settings.topic == "no-topic":
            raise TopicUnusable.missing(settings.topic, settings.kafka_bootstrap)
        self.topics.append(settings.topic)
        return self.producer

    def replay(self, cover: Cover = NOTHING_COVERED, settings: Settings = SETTINGS, **words: Any) -> Replayed:
        request = ReplayRequest.of(settings, **({"first": "2015-05-18"} | words))
        return replay(settings, request, cover, Stop(), lambda line: None)

    def sent(self) -> list[dict[str, Any]]:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        decoded = decode(0, range(len(self.producer.values)), [now_ms] * len(self.producer.values), self.producer.values)
        assert decoded.rejects.is_empty()
        return decoded.events.to_dicts()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_events_go_as_they_were_to_the_partitions_that_they_came_from(world: World):
    result = world.replay(last="2015-05-19")
    assert [(partition, key) for partition, key, _ in world.producer.records] == [
        (0, "v0"), (0, "v10"), (1, "v86400"), (1, "v5"),
    ]  # fmt: skip
    kept = ("event_id", "event_time", "site", "page", "visitor_id", "status", "bytes_sent", "duration_ms")
    assert [{name: event[name] for name in kept} for event in world.sent()] == [
        {name: row(0, 0, second, duration_ms=None)[name] for name in kept} for second in (0, 10, 86_400, 5)
    ]
    assert (result.events, result.copies, result.next_offsets) == (4, 1, {"0": 4, "1": 4})
    assert result.days == {DAY: 3, DAY + timedelta(days=1): 1}
    assert re.fullmatch(
        r"sent 4 events of 2015-05-18 00:00:00Z to 2015-05-19 00:00:00Z to topic pageviews in [0-9]+ s, [0-9,]+/s; "
        r"1 further copies in the archive left out",
        result.text(),
    )


def test_another_topic_gets_them_by_their_visitors(world: World):
    world.replay(topic="load-test", settings=replace(SETTINGS, dedupe_window_offsets=2))
    assert [(partition, key) for partition, key, _ in world.producer.records] == [(-1, "v0"), (-1, "v10"), (-1, "v5")]
    assert world.topics == ["load-test"]


def test_a_paced_replay_is_in_the_order_of_time(world: World):
    world.replay(last="2015-05-19", speed="999999999x")
    assert [event["event_id"] for event in world.sent()] == ["e:0", "e:5", "e:10", "e:86400"]
    assert [partition for partition, _, _ in world.producer.records] == [0, 1, 0, 1]


@pytest.mark.parametrize("speed", ["max", "1000000x"])
def test_shifted_events_are_of_the_present_and_count(world: World, speed: str):
    before = datetime.now(UTC)
    world.replay(last="2015-05-19", shift="now", speed=speed, settings=replace(SETTINGS, dedupe_window_offsets=2))
    events = world.sent()
    assert {event["site"] for event in events} == {"replay.demo"}
    assert len({event["event_id"] for event in events}) == 4
    assert not {event["event_id"] for event in events} & {"e:0", "e:5", "e:10", "e:86400"}
    latest = max(event["event_time"] for event in events)
    earliest = min(event["event_time"] for event in events)
    assert latest <= datetime.now(UTC) + timedelta(seconds=1)
    assert latest - earliest == (timedelta(days=1) if speed == "max" else timedelta(days=1) / 1_000_000)
    assert abs(latest - before) < timedelta(minutes=10)


def test_a_dry_run_counts_and_sends_nothing(world: World):
    result = world.replay(last="2015-05-19", speed="60x", dry_run=True)
    assert world.producer.records == []
    assert result.text() == (
        "would send 4 events of 2015-05-18 00:00:00Z to 2015-05-19 00:00:00Z to topic pageviews in 24 min 0 s "
        "(2015-05-18: 3, 2015-05-19: 1); 1 further copies in the archive left out"
    )
    assert json.loads(result.json()) == {
        "topic": "pageviews", "dry_run": True, "events": 4, "copies": 1, "first_time": "2015-05-18T00:00:00Z",
        "last_time": "2015-05-19T00:00:00Z", "days": {"2015-05-18": 3, "2015-05-19": 1}, "seconds": 1440.0,
        "next_offsets": {"0": 4, "1": 4},
    }  # fmt: skip
    assert "as fast as possible" in world.replay(dry_run=True).text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"first": "2015-05-20"}, "has no event of 2015-05-20, so nothing was sent; its events are of 2015-05-18 "),
        ({"site": "shop"}, "the archive has no event of 2015-05-18 of site shop, so nothing was sent"),
        ({"topic": "no-topic"}, "has no topic no-topic, so nothing was sent; `BRAID_TOPIC=no-topic compose/engine"),
    ],
)
def test_what_has_nothing_in_it_or_nowhere_to_go_is_refused(world: World, words: dict[str, str], complaint: str):
    with pytest.raises(BraidError) as refused:
        world.replay(**words)
    assert complaint in str(refused.value)
    assert world.producer.records == []


def test_an_empty_archive_is_said(world: World):
    world.store.files.clear()
    with pytest.raises(InputError, match="the archive has no event yet, so nothing was sent"):
        world.replay()


def test_what_would_be_counted_again_is_refused(world: World):
    settings = replace(SETTINGS, dedupe_window_offsets=2)
    with pytest.raises(ReplayRefused) as refused:
        world.replay(settings=settings)
    assert str(refused.value) == (
        "events at offsets [0, 3) of partition 0 are too old for the speed layer, and no batch run covers them yet: until "
        "the next run it would count repeats in pageviews; nothing was sent. `make batch`, then the same command again"
    )
    next_offsets = {0: 3, 1: 2}
    both = Cover((DAY - timedelta(days=9), DAY, DAY + timedelta(days=1)), next_offsets)
    with pytest.raises(ReplayRefused) as refused:
        world.replay(last="2015-05-19", settings=settings, cover=both)
    assert str(refused.value) == (
        "events of 2015-05-18 at offsets [0, 3) of partition 0 are too old for the speed layer, and no batch run has "
        "written a filter of them: until the next run it would count repeats in pageviews; nothing was sent. TOPIC= sends "
        "them to another topic, SHIFT=now sends them as new events"
    )
    second = Cover((DAY + timedelta(days=1),), next_offsets)
    with pytest.raises(ReplayRefused, match=r"events of 2015-05-19 at offsets \[0, 2\) of partition 1 are too old"):
        world.replay(last="2015-05-19", settings=settings, cover=second)
    with pytest.raises(ReplayRefused, match=r"events at offsets \[1, 2\) of partition 1 are too old"):
        world.replay(settings=settings, cover=Cover((), {0: 3, 1: 1}))
    assert world.producer.records == []
    assert world.replay(settings=settings, cover=second).events == 3


def test_recent_events_need_no_cover(world: World):
    # At most 4 + 3 offsets from the first event on, and half of the window is for what comes meanwhile.
    assert world.replay(settings=replace(SETTINGS, dedupe_window_offsets=14)).events == 3
    with pytest.raises(ReplayRefused):
        world.replay(settings=replace(SETTINGS, dedupe_window_offsets=12))


def interrupt(world: World, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, after: int) -> None:
    def poll(timeout: float, polls: list[float] = []) -> int:  # noqa: B006 - one list for all calls
        polls.append(timeout)
        if len(polls) == after:
            signal.raise_signal(number)
        return 0

    monkeypatch.setattr(world.producer, "poll", poll)
    monkeypatch.setattr(world.producer, "flush", lambda timeout: world.producer.purge() or 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_how_far_it_came(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
):
    interrupt(world, monkeypatch, number, after=1)
    assert main(["replay", "--from", "2015-05-18", "--to", "2015-05-19"]) == 130
    out, said = capsys.readouterr()
    assert out == ""
    assert said == (
        "ingest replay: interrupted at 2015-05-18 00:00:10Z: 2 events of 2015-05-18 to 2015-05-19 are in topic pageviews; "
        "the same command again sends the others, and these once more with the same ids\n"
    )


def test_an_interruption_of_shifted_events_says_that_they_count(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    interrupt(world, monkeypatch, signal.SIGINT, after=1)
    assert main(["replay", "--from", "2015-05-18", "--shift", "now"]) == 130
    assert capsys.readouterr().err.endswith("the same command again sends all of them, as further new events\n")


def test_a_long_wait_is_interrupted(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    waited = Stop.wait

    def wait(stop: Stop, seconds: float) -> bool:
        signal.raise_signal(signal.SIGINT)
        return waited(stop, seconds)

    monkeypatch.setattr(Stop, "wait", wait)
    assert main(["replay", "--from", "2015-05-18", "--speed", "0.001x"]) == 130
    assert "interrupted at 2015-05-18 00:00:00Z: 1 events" in capsys.readouterr().err


def test_the_command_prints_its_result_and_what_to_wait_for(world: World, capsys: pytest.CaptureFixture[str]):
    assert main(["replay", "--from", "2015-05-18", "--json", "--next-offsets"]) == 0
    result, offsets = capsys.readouterr().out.splitlines()
    assert (json.loads(result)["events"], json.loads(offsets)) == (3, {"0": 4, "1": 4})
    for words in (["--topic", "load-test"], ["--dry-run"]):
        assert main(["replay", "--from", "2015-05-18", "--next-offsets", *words]) == 0
        assert capsys.readouterr().out.splitlines()[1] == "{}"
    assert main(["replay", "--from", "2015-05-18", "--speed", "fast"]) == 1
    assert capsys.readouterr() == (
        "", "ingest replay: SPEED='fast' is neither max nor a multiple of the original pace such as 60x\n"
    )  # fmt: skip


def test_two_at_once_do_not_meet(world: World):
    """The second one begins and ends while the first one waits for an event to be due."""
    inner: list[int] = []
    original: Callable[..., None] = world.producer.produce

    def produce(*arguments: Any) -> None:
        original(*arguments)
        if not inner:
            inner.append(0)
            inner[0] = world.replay(last="2015-05-19", speed="999999999x").events

    world.producer.produce = produce  # type: ignore[method-assign]
    assert world.replay(last="2015-05-19", speed="999999999x").events == 4
    assert inner == [4]
    assert len(world.producer.records) == 8


def test_offsets_that_no_file_has_yet_are_not_waited_for(world: World):
    put(world.store, ROOT, OffsetRange(0, 9, 10), [row(0, 9, 20)])
    assert world.replay().events == 3
