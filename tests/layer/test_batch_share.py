"""What a task does with its share: each file from HDFS once, and what is in its slices described."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from batch.share import Describer, Files, events_on, rejects_of
from contract.errors import ArchiveDamaged
from contract.event import decode
from contract.master import MASTER, OffsetRange, Slice
from contract.settings import Settings
from ingest.hdfs import Hdfs
from tests.fixtures.archived import PARTITIONS, archive, archive_whole, traffic


@pytest.fixture
def settings(archive_root: str) -> Settings:
    """A fresh archive."""
    return replace(Settings.from_env(), archive_root=archive_root)


def test_a_share_counts_all_rejects_and_brings_them(settings: Settings):
    values = enumerate(traffic(400, seed=8))
    records = [(0, offset, time_ms, value if offset % 4 else b"no event") for offset, (*_, time_ms, value) in values]
    archive(settings, records, 0, (0, 400))
    file, odd = OffsetRange(0, 0, 400), {offset for _, offset, _, value in records if value == b"no event"}
    share = [Slice(file, 5, 200), Slice(file, 200, 350)]
    found = Describer(settings, {file}).describe(share)
    assert [(one.offsets, one.rejects) for one in found] == [
        (OffsetRange(0, first, after), len(odd & set(range(first, after)))) for first, after in ((5, 200), (200, 350))
    ]
    brought = [(offsets, rejects["offset"].to_list()) for offsets, rejects in rejects_of(Files(settings, None), found)]
    assert brought == [
        (OffsetRange(0, first, after), sorted(odd & set(range(first, after)))) for first, after in ((5, 200), (200, 350))
    ]
    days = {day for one in found for day in one.days}
    assert len(days) > 1
    for wanted in (days, sorted(days)[1:]):
        columns = ["offset", "event_time"]
        rows = [row for events in events_on(Files(settings, None), share, wanted, columns) for row in events.rows()]
        true = decode(
            0, *zip(*((offset, time_ms, value) for _, offset, time_ms, value in records[5:350]), strict=True)
        ).events
        assert rows == [row for row in true.select(columns).rows() if row[1].date() in wanted] != []


@pytest.fixture
def files(settings: Settings) -> list[OffsetRange]:
    """What is in the archive: one file a partition."""
    ends = archive_whole(settings, traffic(300, seed=4))
    return [OffsetRange(partition, 0, end) for partition, end in enumerate(ends)]


def test_a_worker_has_a_file_from_hdfs_once(settings: Settings, files: list[OffsetRange], tmp_path: Path):
    contents = list(Files(settings, tmp_path).read(MASTER, files))
    assert len(set(contents)) == PARTITIONS
    for file in files:
        Hdfs(settings.webhdfs_url).delete(file.path(settings.archive_root, MASTER))
    assert list(Files(settings, tmp_path).read(MASTER, files[::-1])) == contents[::-1]
    with pytest.raises(ArchiveDamaged):
        list(Files(settings, None).read(MASTER, files))


def test_a_copy_that_was_broken_off_is_none(settings: Settings, files: list[OffsetRange], tmp_path: Path):
    write = Path.write_bytes

    def broken_off(path: Path, content: bytes) -> int:
        write(path, content[:100])
        raise KeyboardInterrupt

    with patch.object(Path, "write_bytes", broken_off), pytest.raises(KeyboardInterrupt):
        list(Files(settings, tmp_path).read(MASTER, files))
    assert list(Files(settings, tmp_path).read(MASTER, files)) == list(Files(settings, None).read(MASTER, files))


def test_without_room_for_a_copy_hdfs_is_asked_again(settings: Settings, files: list[OffsetRange], tmp_path: Path):
    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    contents = list(Files(settings, None).read(MASTER, files))
    with patch.object(Path, "write_bytes", full):
        assert list(Files(settings, tmp_path).read(MASTER, files)) == contents
    assert list(tmp_path.iterdir()) == []
