"""Topic, produce and simulate against a real broker."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contract.errors import EngineUnavailable, TopicUnusable
from contract.event import MAX_VALUE_BYTES, decode
from contract.rejected_line import rejected_line
from contract.settings import Settings
from ingest.lines import InputFile
from ingest.produce import produce, wanted_log
from ingest.stop import Stop
from ingest.summary import Summary
from ingest.topics import ensure_topic
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import next_offsets_of, records_of

LINE = b'198.51.100.%d - - [17/May/2015:12:05:03 +0000] "GET /%d HTTP/1.1" 200 %d "-" "agent"\n'
LOG_APPEND_TIME = 2


@pytest.fixture
def keyed(archived_topic: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "visitor_key").write_text("a key")
    return replace(archived_topic, secrets_dir=str(tmp_path))


def count(
    settings: Settings, file: Path, site: str | None = None, file_format: str = "auto", final: bool = False
) -> Summary:
    wanted = wanted_log(file.name, site, file_format)
    return produce(settings, InputFile(file), wanted, Stop(), lambda line: None, final)


def test_the_topic_is_created_once_and_checked_afterwards(no_topic: Settings):
    assert ensure_topic(no_topic)
    assert not ensure_topic(no_topic)
    # How many partitions there are is the topic's own business.
    for partitions in (3, 5):
        assert not ensure_topic(replace(no_topic, topic_partitions=partitions))


def test_a_log_arrives_with_its_visitors_together_and_its_bad_lines_with_the_reason(keyed: Settings, tmp_path: Path):
    bad = b"not a line of a log\n"
    text = b"".join(LINE % (number % 50, number % 7, number) for number in range(2_000)) + bad + b"\n" + b"x" * 10_000_000
    file = tmp_path / "site.log.gz"
    file.write_bytes(gzip.compress(text, 1))
    result = count(keyed, file, "demo")
    assert (result.lines, result.sent, result.counted, result.empty) == (2_003, 2_002, 2_000, 1)
    assert result.quarantined == {"not_a_log_line": 1, "too_large": 1}
    records = records_of(keyed)
    assert len(records) == 2_002
    assert {record.timestamp()[0] for record in records} == {LOG_APPEND_TIME}
    ends = {str(record.partition()): record.offset() + 1 for record in records}
    assert result.next_offsets == ends
    partitions_of = {}
    for record in records:
        if record.key():
            partitions_of.setdefault(record.key(), set()).add(record.partition())
    assert len(partitions_of) == 50
    assert {len(partitions) for partitions in partitions_of.values()} == {1}
    rejected, long = sorted((record.value() or b"" for record in records if record.key() is None), key=len)
    line = rejected_line(rejected)
    assert line is not None
    assert (line.line, len(long)) == (bad.decode().strip(), MAX_VALUE_BYTES + 1)
    times_ms, values = [record.timestamp()[1] for record in records], [record.value() for record in records]
    events = decode(0, range(len(records)), times_ms, values).events
    assert (len(events), events["bytes_sent"].sum()) == (2_000, sum(range(2_000)))


def test_json_lines_go_as_they_are(keyed: Settings, tmp_path: Path):
    lines = [b'{"visitor_id":"v","x":1}', b'{"visitor_id":1}', b"{", b'\xff{"visitor_id":"v"}']
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(lines))
    result = count(keyed, file, file_format="jsonl", final=True)
    assert (result.lines, result.sent, result.counted) == (4, 4, 0)
    assert result.quarantined == {"missing_field": 1, "wrong_type": 1, "not_json": 1, "not_utf8": 1}
    assert {(record.key(), record.value()) for record in records_of(keyed)} == {
        (b"v", lines[0]),
        *((None, line) for line in lines[1:]),
    }


def test_a_missing_topic_and_a_missing_broker_are_said_at_once(no_topic: Settings, tmp_path: Path):
    (tmp_path / "visitor_key").write_text("a key")
    file = tmp_path / "log"
    file.write_bytes(LINE % (1, 1, 1))
    settings = replace(no_topic, secrets_dir=str(tmp_path))
    with pytest.raises(TopicUnusable, match=rf"has no topic {no_topic.topic}; `make up` creates it"):
        count(settings, file)
    with pytest.raises(EngineUnavailable, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        count(replace(settings, kafka_bootstrap="127.0.0.1:1"), file)


def test_the_simulator_stops_after_its_events_and_says_where_they_end(topic: Settings):
    environment = {"BRAID_KAFKA_BOOTSTRAP": topic.kafka_bootstrap, "BRAID_TOPIC": topic.topic}
    command = [sys.executable, "-m", "ingest", "simulate", "--rate", "5000", "--events", "3000", "--seed", "7", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    result = json.loads(done.stdout)
    assert result["sent"] == 3_000
    records = records_of(topic)
    assert sum(result["next_offsets"].values()) == len(records) == 3_000
    by_id = [json.loads(record.value())["event_id"] for record in records if (record.value() or b"").endswith(b'"}')]
    assert 2_900 < len(set(by_id)) < len(by_id)


def test_ctrl_c_says_what_arrived_and_the_same_command_sends_the_rest(keyed: Settings, tmp_path: Path):
    file = tmp_path / "site.log"
    file.write_bytes(b"".join(LINE % (number % 50, number % 7, number) for number in range(300_000)))
    environment = {
        "BRAID_KAFKA_BOOTSTRAP": keyed.kafka_bootstrap,
        "BRAID_TOPIC": keyed.topic,
        "BRAID_SECRETS_DIR": keyed.secrets_dir,
        "BRAID_WEBHDFS_URL": keyed.webhdfs_url,
        "BRAID_ARCHIVE_ROOT": keyed.archive_root,
    }
    command = [sys.executable, "-m", "ingest", "produce", str(file), "--json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stands_in_the_middle() -> None:
        # While we look it must not come to its end.
        process.send_signal(signal.SIGSTOP)
        if not any(next_offsets_of(keyed).values()):
            process.send_signal(signal.SIGCONT)
            raise AssertionError("nothing is there")

    eventually(stands_in_the_middle, within_s=60)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    result, said = process.communicate(timeout=30)
    assert (process.returncode, result) == (130, "")
    interrupted = re.fullmatch(
        r"ingest produce: interrupted: of ([0-9,]+) lines of site.log ([0-9,]+) are in Kafka as records; "
        r"the same command again sends the rest, what is there counts once",
        said.splitlines()[-1],  # before it are reports of progress, if it took that long
    )
    assert interrupted, said
    arrived = int(interrupted[2].replace(",", ""))
    assert 0 < arrived <= len(records_of(keyed))
    count(keyed, file, "site")
    assert len({json.loads(record.value() or b"")["event_id"] for record in records_of(keyed)}) == 300_000
