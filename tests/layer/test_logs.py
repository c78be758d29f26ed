"""Logs into a real Kafka, HDFS and database: each line once, and the summary says what views and quarantine say."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from contract.settings import Settings
from contract.sources import CountedSource
from ingest.lines import InputFile
from ingest.produce import produce, register_of, wanted_log
from ingest.stop import Stop
from ingest.summary import Summary
from serving.database import connect
from serving.sources import record_sources
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import records_of
from tests.layer.test_positions import count_all

VIEWS = "SELECT coalesce(sum(views), 0)::int, coalesce(sum(bytes_sent), 0)::int FROM site_traffic WHERE site = %s"


@pytest.fixture
def whole(archived_topic: Settings, database: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "visitor_key").write_text("a key")
    for secret in Path(archived_topic.secrets_dir).glob("database*"):
        (tmp_path / secret.name).write_text(secret.read_text())
    return replace(archived_topic, database_name=database.database_name, secrets_dir=str(tmp_path))


def lines(first: int, count: int) -> bytes:
    line = b'198.51.100.%d - - [17/May/2015:12:05:03 +0000] "GET /%d HTTP/1.1" 200 %d "-" "agent"\n'
    return b"".join(line % (number % 50, number, number) for number in range(first, first + count))


def count(settings: Settings, path: Path, content: bytes | None = None, site: str | None = "demo") -> Summary:
    """Count the file, with this content if it is given, and let the speed layer count what came of it."""
    if content is not None:
        path.write_bytes(content)
    summary = produce(settings, InputFile(path), wanted_log(path.name, site), Stop(), lambda line: None)
    count_all(settings)
    return summary


def counted(settings: Settings, site: str = "demo") -> tuple[int, int]:
    with connect(settings, "reader") as connection:
        row = connection.execute(VIEWS, [site]).fetchone()
    assert row is not None
    return row[0], row[1]


def records(settings: Settings) -> int:
    return len(records_of(settings))


def test_a_log_counts_once_however_often_and_under_whatever_name_it_comes(whole: Settings, tmp_path: Path):
    log = tmp_path / "access.log"
    assert count(whole, log, lines(0, 300)).text() == (
        "300 lines: 300 counted, 0 repeats, 0 quarantined, 0 empty or remarks"
    )
    assert count(whole, log).repeats == 300
    assert (counted(whole), records(whole)) == ((300, sum(range(300))), 300)
    assert count(whole, log, lines(0, 400)).counted == 100
    log.rename(tmp_path / "access.log.1")
    assert count(whole, tmp_path / "access.log.1").counted == 0
    assert count(whole, log, lines(400, 50)).counted == 50
    packed = count(whole, tmp_path / "other.gz", gzip.compress(lines(0, 401)))
    assert (packed.counted, packed.repeats) == (1, 400)
    # Line 400 is in two logs, and is two requests.
    assert (counted(whole), records(whole)) == ((451, sum(range(450)) + 400), 451)
    sources = register_of(whole).rows()
    assert [(one.site, one.names[-1], one.lines, one.counted) for one in sources] == [
        ("demo", "access.log", 50, 50),
        ("demo", "other.gz", 401, 401),
    ]


def test_two_servers_logs_that_begin_alike_are_two(whole: Settings, tmp_path: Path):
    same = lines(0, 100)
    for name, more in (("one", lines(100, 20)), ("two", lines(200, 30))):
        (tmp_path / name).mkdir()
        count(whole, tmp_path / name / "access.log", same + more)
    assert counted(whole)[0] == 250
    for name in ("one", "two"):
        assert count(whole, tmp_path / name / "access.log").counted == 0
    assert counted(whole)[0] == 250


def test_a_killed_replay_is_gone_on_with_and_without_its_register_ids_repeat(whole: Settings, tmp_path: Path):
    log = tmp_path / "access.log"
    log.write_bytes(lines(0, 300_000))
    environment = {
        "BRAID_KAFKA_BOOTSTRAP": whole.kafka_bootstrap,
        "BRAID_TOPIC": whole.topic,
        "BRAID_SECRETS_DIR": whole.secrets_dir,
        "BRAID_WEBHDFS_URL": whole.webhdfs_url,
        "BRAID_ARCHIVE_ROOT": whole.archive_root,
    }
    command = [sys.executable, "-m", "ingest", "produce", str(log), "--site", "demo"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def has_begun() -> None:
        assert records(whole)

    eventually(has_begun, within_s=60)
    process.kill()
    process.wait()
    produce(whole, InputFile(log), wanted_log(log.name, "demo"), Stop(), lambda line: None)
    ids = Counter(json.loads(record.value() or b"")["event_id"] for record in records_of(whole))
    assert len(ids) == 300_000
    again = replace(whole, archive_root=f"{whole.archive_root}/lost")
    produce(again, InputFile(log), wanted_log(log.name, "demo"), Stop(), lambda line: None)
    assert {json.loads(record.value() or b"")["event_id"] for record in records_of(whole)} == ids.keys()


def test_the_summary_says_what_views_quarantine_and_the_view_sources_say(whole: Settings, tmp_path: Path):
    line = lines(0, 1)
    odd = [
        b"",
        b"garbage",
        line.strip().replace(b"/0", b"/" + b"a" * 3_000),
        line.strip().replace(b" 200 ", b" 000 "),
        line.strip().replace(b"2015", b"9999"),
        line.strip().replace(b"GET /0 HTTP/1.1", b"\\x16\\x03\\x01"),
        b"x" * 70_000,
        line.strip().replace(b'"-" "agent"', b'"%s" "%s"' % (b"r" * 3_000, b"a" * 3_000)),
    ]
    summary = count(whole, tmp_path / "access.log", lines(1, 200) + b"\n".join(odd) + b"\n")
    with connect(whole, "reader") as connection:
        quarantine = dict(connection.execute("SELECT reason, count(*) FROM quarantine GROUP BY reason").fetchall())
        ledger = connection.execute("SELECT sum(counted), sum(quarantined), sum(difference) FROM ledger").fetchone()
    assert summary.quarantined == quarantine == {
        "not_a_log_line": 1, "too_long": 1, "out_of_range": 1, "too_far_ahead": 1, "not_a_request": 1, "too_large": 1,
    }  # fmt: skip
    assert (summary.lines, summary.counted, summary.empty) == (208, 201, 1)
    assert counted(whole)[0] == summary.counted
    assert ledger == (201, 6, 0)
    assert summary.source is not None
    with connect(whole, "batch") as connection:
        record_sources(connection, [summary.source])
    with connect(whole, "reader") as connection:
        columns = "name, lines, counted, repeats, quarantined, empty, quarantined_by_reason"
        rows = connection.execute(f"SELECT {columns} FROM sources").fetchall()
    assert rows == [("access.log", 208, 201, 0, 6, 1, summary.quarantined)]


def test_a_log_is_followed_through_rotation_and_a_restart(whole: Settings, tmp_path: Path):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "access.log"
    log.write_bytes(lines(0, 10))
    environment = os.environ | {
        "BRAID_KAFKA_BOOTSTRAP": whole.kafka_bootstrap,
        "BRAID_TOPIC": whole.topic,
        "BRAID_SECRETS_DIR": whole.secrets_dir,
        "BRAID_WEBHDFS_URL": whole.webhdfs_url,
        "BRAID_ARCHIVE_ROOT": whole.archive_root,
    }
    command = [sys.executable, "-m", "ingest", "follow", str(log), "--site", "demo", "--sources"]

    def arrived(number: int) -> None:
        assert records(whole) == number

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(follower: subprocess.Popen[str]) -> CountedSource:
        follower.send_signal(signal.SIGTERM)
        said, _ = follower.communicate(timeout=60)
        assert follower.returncode == 0
        fields = json.loads(said.splitlines()[-1])
        return CountedSource(**fields | {"names": tuple(fields["names"])})

    follower = start()
    eventually(lambda: arrived(10), within_s=60)
    with log.open("ab") as file:
        file.write(lines(10, 5))
        file.flush()
        eventually(lambda: arrived(15), within_s=60)
        log.rename(folder / "access.log.1")
        file.write(lines(15, 5))  # a server writes on until it is told
    log.write_bytes(lines(20, 5))
    eventually(lambda: arrived(25), within_s=60)
    stop(follower)
    # While nobody follows it grows, is rotated and packed, and begins anew.
    with log.open("ab") as file:
        file.write(lines(25, 5))
    packed = folder / "access.log.2.gz"
    packed.write_bytes(gzip.compress((folder / "access.log.1").read_bytes()))
    shutil.copystat(folder / "access.log.1", packed)  # as gzip does
    log.rename(folder / "access.log.1")
    log.write_bytes(lines(30, 5))
    follower = start()
    eventually(lambda: arrived(35), within_s=60)
    stop(follower)
    count_all(whole)
    assert counted(whole) == (35, sum(range(35)))
