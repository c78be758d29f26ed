"""Replays between a real HDFS and a real broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from confluent_kafka import Message, Producer

from contract.errors import TopicUnusable
from contract.event import FIELDS, Event, decode, encode
from contract.master import QUARANTINE
from contract.replays import Cover, Judged, Wanted
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles
from ingest.archive_plan import current
from ingest.hdfs import Hdfs
from ingest.quarantine import replay_quarantined
from ingest.replay import replay
from ingest.replay_request import ReplayRequest
from ingest.replay_result import Replayed
from ingest.stop import Stop
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import records_of
from tests.layer.test_ingest_archive import archived, archiver

DAY = datetime(2025, 11, 20, tzinfo=UTC)


def event(number: int, time: datetime, **fields: object) -> Event:
    known: dict[str, object] = {
        "event_id": f"e:{number}", "event_time": time.isoformat().replace("+00:00", "Z"), "site": "demo",
        "page": f"/\"ü\\{number}", "visitor_id": f"v{number % 50}", "status": 200, "bytes_sent": number,
        "duration_ms": number / 7 if number % 3 else None,
    }  # fmt: skip
    return Event(**(known | fields))  # type: ignore[arg-type]


def send(settings: Settings, records: Iterable[tuple[str | None, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "partitioner": "murmur2_random"})
    for key, value in records:
        producer.produce(settings.topic, value, key)
    producer.flush()


def archive(settings: Settings, count: int) -> None:
    """Return once so many records are on HDFS."""

    def is_archived() -> None:
        assert sum(archived(settings)[0].values()) == count

    with archiver(settings):
        eventually(is_archived, within_s=60)


def events_of(messages: list[Message]) -> pl.DataFrame:
    decoded = decode(
        0, range(len(messages)), [message.timestamp()[1] for message in messages], [m.value() for m in messages]
    )
    assert decoded.rejects.is_empty()
    return decoded.events.select(FIELDS)


def places(messages: list[Message]) -> dict[str, int | None]:
    """The partition of each event, by its id."""
    return {json.loads(message.value() or b"")["event_id"]: message.partition() for message in messages}


def replayed(settings: Settings, **words: object) -> Replayed:
    request = ReplayRequest.of(settings, "2025-11-20", **words)  # type: ignore[arg-type]
    return replay(settings, request, Cover(), Stop(), lambda line: None)


@pytest.fixture
def history(archived_topic: Settings) -> Settings:
    """Two days of events, every tenth sent twice and every seventh without a key; then the archive of them."""
    records = []
    for number in range(2_000):
        one = event(number, DAY + timedelta(minutes=number))
        record = (None if number % 7 == 0 else one.visitor_id, encode(one))
        records += [record, record] if number % 10 == 0 else [record]
    send(archived_topic, records)
    archive(archived_topic, 2_200)
    return archived_topic


def test_a_day_goes_to_another_topic_each_event_once(history: Settings, other_topic: Settings):
    result = replayed(history, topic=other_topic.topic)
    assert (result.events, result.copies) == (1_440, 144)
    messages = records_of(other_topic)
    assert result.next_offsets == {str(p): sum(m.partition() == p for m in messages) for p in range(4)}
    sent, originals = events_of(messages), events_of(records_of(history))
    of_day = originals.filter(pl.col("event_time") < DAY + timedelta(days=1)).unique("event_id")
    assert sent.sort("event_id").equals(of_day.sort("event_id"))
    by_key: dict[bytes, set[int | None]] = {}
    for message in messages:
        by_key.setdefault(message.key() or b"", set()).add(message.partition())
    assert len(by_key) == 50
    assert {len(partitions) for partitions in by_key.values()} == {1}


def test_in_its_own_topic_each_event_meets_its_first_copy(history: Settings):
    before = records_of(history)
    partitions: dict[str, set[int | None]] = {}
    for message in before:
        partitions.setdefault(json.loads(message.value() or b"")["event_id"], set()).add(message.partition())
    ends = {p: max(m.offset() for m in before if m.partition() == p) + 1 for p in range(4)}  # type: ignore[type-var]
    replayed(history, last="2025-11-21", speed="1000000x")
    after = records_of(history, ends)
    assert len(after) == 2_000
    assert all(partition in partitions[name] for name, partition in places(after).items())


def test_what_a_replay_sent_is_not_sent_twice_by_the_next_one(history: Settings, other_topic: Settings):
    assert replayed(history).events == 1_440
    archive(history, 2_200 + 1_440)
    assert replayed(history, topic=other_topic.topic).events == 1_440
    assert len(records_of(other_topic)) == 1_440


def test_a_topic_that_does_not_exist_is_not_made(history: Settings, no_topic: Settings):
    missing = f"{history.topic}-missing"
    with pytest.raises(TopicUnusable, match=f"has no topic {missing}, so nothing was sent; `BRAID_TOPIC={missing} compose/"):
        replayed(history, topic=missing)


def test_ctrl_c_says_how_far_it_came_and_the_same_command_sends_the_rest(history: Settings, other_topic: Settings):
    environment = {**os.environ, "BRAID_TOPIC": history.topic, "BRAID_ARCHIVE_ROOT": history.archive_root}
    command = [sys.executable, "-m", "ingest", "replay", "--from", "2025-11-20", "--topic", other_topic.topic]
    process = subprocess.Popen(
        [*command, "--speed", "600x"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def has_begun() -> None:
        assert len(records_of(other_topic)) > 10

    eventually(has_begun, within_s=60)
    process.send_signal(signal.SIGINT)
    result, said = process.communicate(timeout=30)
    assert (process.returncode, result) == (130, "")
    interrupted = re.search(
        r"ingest replay: interrupted at 2025-11-20 [0-9:]{8}Z: ([0-9,]+) events of 2025-11-20 are in topic "
        + re.escape(other_topic.topic)
        + r"; the same command again sends the others, and these once more with the same ids\n",
        said,
    )
    assert interrupted, said
    arrived = len(records_of(other_topic))
    assert int(interrupted[1].replace(",", "")) == arrived < 1_440
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["events"] == 1_440
    assert set(places(records_of(other_topic))) == {f"e:{number}" for number in range(1_440)}


def judge_again(settings: Settings, wanted: dict[int, list[int]]) -> Judged:
    told: list[Judged] = []
    replay_quarantined(settings, [Wanted(wanted)], Stop(), told.append)
    (judged,) = told
    return judged


def test_quarantined_records_that_are_events_by_now_are_sent(archived_topic: Settings):
    ahead_s = 4
    cured = event(1, datetime.now(UTC) + timedelta(days=1, seconds=ahead_s))
    send(archived_topic, [("v", b"garbage"), (cured.visitor_id, encode(cured)), ("v", encode(event(2, DAY, status=200)))])
    archive(archived_topic, 3)
    files = ArchiveFiles(Hdfs(archived_topic.webhdfs_url), archived_topic.archive_root)
    wanted: dict[int, list[int]] = {}
    reasons = {}
    for partition in range(archived_topic.topic_partitions):
        held = files.ranges(partition, QUARANTINE)
        slices = [part for part in current(partition, files.ranges(partition)) if part.file in held]
        table = files.read(QUARANTINE, slices)
        wanted[partition] = table["offset"].to_list()
        reasons |= {(partition, offset): reason for offset, reason in table.select("offset", "reason").iter_rows()}
    assert sorted(reasons.values()) == ["not_json", "too_far_ahead"]
    judged = Judged()

    def is_cured() -> None:
        nonlocal judged
        judged = judge_again(archived_topic, wanted)
        assert judged.sent, judged

    eventually(is_cured, within_s=60)
    ((partition, offset, sent_partition, sent_offset),) = judged.sent
    assert reasons[partition, offset] == "too_far_ahead"
    assert [(place[0], place[1], reason) for *place, reason, _ in judged.kept] == [
        (*place, "not_json") for place, reason in reasons.items() if reason == "not_json"
    ]
    (copy,) = records_of(archived_topic, {p: sent_offset if p == sent_partition else 10**9 for p in range(4)})
    assert (copy.key(), copy.value(), copy.offset()) == (cured.visitor_id.encode(), encode(cured), sent_offset)
    judged = judge_again(archived_topic, {0: [10**6]})
    assert (judged.sent, judged.kept, judged.unread) == ([], [], 1)
