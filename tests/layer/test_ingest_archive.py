"""The archiver between a real broker and a real HDFS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from contract.master import MASTER, QUARANTINE, archived_next_offset, covering
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from tests.fixtures.eventually import eventually

VALUE = (
    '{"event_id":"%d","event_time":"2025-11-20T10:00:00Z","site":"s","page":"/",'
    '"visitor_id":"v","status":200,"bytes_sent":1}'
)


def send(settings: Settings, count: int, transaction: bool | None = None) -> None:
    """`count` records, each tenth a reject; in a transaction that is committed (True) or aborted (False)."""
    options = {} if transaction is None else {"transactional.id": uuid.uuid4().hex}
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, **options})
    if transaction is not None:
        producer.init_transactions()
        producer.begin_transaction()
    for number in range(count):
        producer.produce(settings.topic, b"bad" if number % 10 == 0 else VALUE % number, partition=number % 4)
    producer.flush()
    if transaction is not None:
        producer.commit_transaction() if transaction else producer.abort_transaction()


@contextmanager
def archiver(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """The archiver as it runs in production: a process of its own."""
    environment = {
        **os.environ,
        "BRAID_TOPIC": settings.topic,
        "BRAID_ARCHIVE_ROOT": settings.archive_root,
        "BRAID_ARCHIVE_FLUSH_MS": "200",
        "BRAID_ARCHIVE_MERGE_FILES": "3",
        # Another test may have one at the same time.
        "BRAID_METRICS_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "ingest", "archive"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def archived(settings: Settings) -> tuple[dict[int, int], int, int]:
    """Next offset of each partition, and how many events and rejects a reader gets."""
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    next_offsets, events, rejects = {}, 0, 0
    for partition in range(settings.topic_partitions):
        ranges, quarantined = (files.ranges(partition, dataset) for dataset in (MASTER, QUARANTINE))
        next_offsets[partition] = archived_next_offset(ranges)
        slices = covering(partition, ranges, next_offsets[partition])
        events += len(files.read(MASTER, slices))
        rejects += len(files.read(QUARANTINE, [part for part in slices if part.file in quarantined]))
    return next_offsets, events, rejects


def test_everything_is_archived_once_through_a_kill_a_stop_and_merges(archived_topic: Settings):
    def is_archived(count: int) -> None:
        expected = (dict.fromkeys(range(4), count // 4), count - count // 10, count // 10)
        assert archived(archived_topic) == expected

    send(archived_topic, 400)
    with archiver(archived_topic):
        eventually(lambda: is_archived(400), within_s=60)
    send(archived_topic, 400)
    with archiver(archived_topic) as process:
        for count in (800, 1_200, 1_600, 2_000):
            eventually(lambda count=count: is_archived(count), within_s=60)
            send(archived_topic, 400)
        eventually(lambda: is_archived(2_400), within_s=60)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 0
    assert "merged" in said
    assert said.splitlines()[-1] == "stopped with {0: 600, 1: 600, 2: 600, 3: 600} on HDFS; the next start goes on there"
    is_archived(2_400)


def test_offsets_that_transactions_leave_empty_are_covered(archived_topic: Settings):
    send(archived_topic, 40, transaction=True)
    send(archived_topic, 40, transaction=False)
    send(archived_topic, 40, transaction=True)

    def is_archived() -> None:
        assert archived(archived_topic) == (dict.fromkeys(range(4), 33), 72, 8)

    with archiver(archived_topic):
        eventually(is_archived, within_s=60)


def test_ctrl_c_says_how_far_it_came(archived_topic: Settings):
    def is_archived() -> None:
        assert archived(archived_topic)[1:] == (3, 1)

    send(archived_topic, 4)
    with archiver(archived_topic) as process:
        eventually(is_archived, within_s=60)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        "ingest archive: interrupted with {0: 1, 1: 1, 2: 1, 3: 1} on HDFS; the next start goes on there"
    )


def test_a_rename_never_overwrites_and_a_missing_folder_lists_nothing(archive_root: str):
    hdfs = Hdfs(Settings.from_env().webhdfs_url)
    assert hdfs.list(archive_root) == []
    hdfs.write(f"{archive_root}/.a.tmp", b"first")
    assert hdfs.rename(f"{archive_root}/.a.tmp", f"{archive_root}/a")
    hdfs.write(f"{archive_root}/.b.tmp", b"second")
    assert not hdfs.rename(f"{archive_root}/.b.tmp", f"{archive_root}/a")
    assert hdfs.read(f"{archive_root}/a") == b"first"
    hdfs.delete(f"{archive_root}/.b.tmp")
    hdfs.delete(f"{archive_root}/.b.tmp")
    assert [(file.name, file.size_bytes) for file in hdfs.list(archive_root)] == [("a", 5)]
