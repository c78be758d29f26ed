"""Quarantined records over an archive and a producer in memory: what is an event by now goes, the rest says why not."""

from __future__ import annotations

import io
import json
import signal

import numpy as np
import polars as pl
import pytest

from contract.errors import DeliveryFailed
from contract.event import EVENT_SCHEMA, REJECT_SCHEMA, Decoded, decode
from contract.master import OffsetRange
from contract.records import Records
from contract.replays import Judged, Wanted
from contract.settings import Settings
from ingest.__main__ import main
from ingest.archive_files import ArchiveFiles
from ingest.quarantine import replay_quarantined
from ingest.stop import Stop
from tests.fixtures.corpus import event
from tests.fixtures.history import START
from tests.fixtures.memory import MemoryStore
from tests.fixtures.memory_producer import MemoryProducer

SETTINGS = Settings()
GOOD, OTHER = event(event_id="a", visitor_id="ann"), event(event_id="b", visitor_id="bob")


def put(store: MemoryStore, offsets: OffsetRange, values: dict[int, bytes | None]) -> None:
    """Store a file of the range in which these records were rejected, whatever they are now."""
    rows = [
        (offsets.partition, offset, START, "too_deep", "as it was", len(value or b""), value)
        for offset, value in values.items()
    ]
    rejects = pl.DataFrame(rows, schema=REJECT_SCHEMA, orient="row")
    decoded = Decoded(pl.DataFrame(schema=EVENT_SCHEMA), rejects, np.zeros(0, np.bool_))
    ArchiveFiles(store, SETTINGS.archive_root).put(offsets, Records(), decoded)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> MemoryProducer:
    """Of an archive with rejects at 1, 2, 12 and 15 of partition 0, and at 3 of partition 1."""
    store, producer = MemoryStore(), MemoryProducer(report_all=True)
    put(store, OffsetRange(0, 0, 10), {1: GOOD, 2: b"{"})
    put(store, OffsetRange(0, 10, 20), {12: None, 15: GOOD})
    put(store, OffsetRange(0, 20, 30), {})
    put(store, OffsetRange(1, 0, 5), {3: OTHER})
    monkeypatch.setattr("ingest.quarantine.Hdfs", lambda url: store)
    monkeypatch.setattr("ingest.quarantine.connect", lambda settings, report_all: producer)
    return producer


def judged(wanted: dict[int, list[int]]) -> Judged:
    (result,) = judged_parts([wanted])
    return result


def judged_parts(parts: list[dict[int, list[int]]]) -> list[Judged]:
    results: list[Judged] = []
    replay_quarantined(SETTINGS, map(Wanted, parts), Stop(), results.append)
    return results


def test_events_are_sent_as_they_were_received_and_others_say_why_not(producer: MemoryProducer):
    result = judged({0: [15, 2, 1, 12], 1: [3]})
    assert producer.records == [(-1, "ann", GOOD), (-1, "ann", GOOD), (-1, "bob", OTHER)]
    assert result.sent == [(0, 1, 0, 0), (0, 15, 0, 1), (1, 3, 0, 2)]
    assert [(*place, reason) for *place, reason, _ in result.kept] == [(0, 2, "not_json"), (0, 12, "empty_value")]
    assert all(detail for *_, detail in result.kept)
    assert result.unread == 0
    assert decode(0, [0], [0], [GOOD]).events.is_empty()  # judged by the time of now, not by an early one


def test_only_what_is_wanted_is_judged_and_what_is_not_there_is_counted(producer: MemoryProducer):
    result = judged({0: [1, 7, 25, 99], 1: [], 5: [0]})
    assert (result.sent, result.kept, result.unread) == ([(0, 1, 0, 0)], [], 4)
    assert judged({}) == Judged()


def test_each_part_is_told_when_kafka_has_it(producer: MemoryProducer):
    told = judged_parts([{0: [1, 2]}, {}, {0: [15], 1: [3, 4]}])
    assert [(one.sent, len(one.kept), one.unread) for one in told] == [
        ([(0, 1, 0, 0)], 1, 0),
        ([], 0, 0),
        ([(0, 15, 0, 1), (1, 3, 0, 2)], 0, 1),
    ]


def test_a_failed_delivery_is_said(producer: MemoryProducer):
    producer._refuse = True
    with pytest.raises(DeliveryFailed, match="did not take 1 records after 0 delivered ones"):
        judged({0: [1]})


def test_the_command_reads_places_and_prints_judgements(
    producer: MemoryProducer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"offsets":{"0":[1]}}'))
    assert main(["replay-quarantine"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sent": [[0, 1, 0, 0]], "kept": [], "unread": 0}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"offsets":{"0":[1]}}\n{"offsets":{"0":[7]}}\n'))
    assert main(["replay-quarantine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["unread"] for line in lines] == [0, 1]
    for nothing in ("", "\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(nothing))
        assert main(["replay-quarantine"]) == 1
        assert "is not what `python -m serving unresolved` prints" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("[]"))
    assert main(["replay-quarantine"]) == 1
    assert "is not what `python -m serving unresolved` prints" in capsys.readouterr().err


def test_what_was_sent_before_ctrl_c_is_printed(
    producer: MemoryProducer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def poll(timeout: float) -> int:
        MemoryProducer.poll(producer, timeout)
        signal.raise_signal(signal.SIGINT)
        return 0

    monkeypatch.setattr(producer, "poll", poll)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"offsets":{"0":[1,15]}}\n{"offsets":{"1":[3]}}'))
    assert main(["replay-quarantine"]) == 130
    out, said = capsys.readouterr()
    assert json.loads(out)["sent"] == [[0, 1, 0, 0]]
    assert said.startswith("ingest replay-quarantine: interrupted: 1 records are in Kafka once more; the same command again")
