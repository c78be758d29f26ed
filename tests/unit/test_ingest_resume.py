"""The archive goes on in another log."""

from __future__ import annotations

import pytest

from contract.errors import InputError
from contract.event import decode
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.records import Records
from contract.replays import from_json, to_json
from contract.resumption import ResumedPartition, Resumption
from ingest.archive_files import ArchiveFiles
from ingest.resume import resume
from tests.fixtures.memory import MemoryStore

PLAN = Resumption((ResumedPartition(0, 10, 13, "second", None, 4, 10, 12, "it was made again"),))


def archive(next_offset: int) -> ArchiveFiles:
    files = ArchiveFiles(MemoryStore(), "/b")
    files.put(OffsetRange(0, 0, next_offset), Records(), decode(0, [], [], []), LogPosition(next_offset, "first", 3))
    return files


def test_a_file_without_records_says_from_where_on_offsets_are_of_the_other_log():
    files, said = archive(10), []
    resume(files, from_json(Resumption, to_json(PLAN), "serving resume-plan"), said.append)
    assert sorted(files.ranges(0)) == [OffsetRange(0, 0, 10), OffsetRange(0, 10, 13)]
    assert files.position(0) == LogPosition(13, "second", None, shift=9)
    assert files.position(0).log_offset == 4
    assert said == ["partition 0: Kafka's offset 4 is 13 from now on; offsets [10, 12) are lost"]


def test_an_archive_that_went_on_is_left_alone():
    files = archive(11)
    with pytest.raises(InputError, match="the archive of partition 0 ends at 11, but ended at 10 when this was planned"):
        resume(files, PLAN, lambda line: None)
    assert list(files.ranges(0)) == [OffsetRange(0, 0, 11)]
