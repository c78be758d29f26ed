"""The archive goes on in another log."""

from __future__ import annotations

import pytest

from contract.errors import InputError
from contract.event import decode
from contract.log_position import LogPosition
from contract.master import MASTER, QUARANTINE, OffsetRange
from contract.records import Records
from contract.replays import from_json, to_json
from contract.resumption import ResumedPartition, Resumption
from ingest.archive_files import ArchiveFiles
from ingest.resume import resume
from tests.fixtures.archived import judged
from tests.fixtures.memory import MemoryStore

TIME_MS = 1_763_712_000_000

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


def test_rejects_that_an_archiver_has_left_there_are_not_those_of_the_file_without_records():
    files, said = archive(10), []
    # It had written these, of the log that is gone, when it ended before it wrote the events.
    offsets = OffsetRange(0, 10, 13)
    files.put(offsets, *judged(0, [10, 11], [TIME_MS] * 2, [b"bad"] * 2), LogPosition(13, "first", 3))
    files._store.delete(files.path(MASTER, offsets))
    resume(files, PLAN, said.append)
    assert sorted(files.ranges(0)) == [OffsetRange(0, 0, 10), offsets]
    assert files.ranges(0, QUARANTINE) == {}
    assert said[0] == f"{files.path(QUARANTINE, offsets)}.without-master: set aside, because its master file is gone"


def test_an_archive_that_went_on_is_left_alone():
    files = archive(11)
    with pytest.raises(InputError, match="the archive of partition 0 ends at 11, but ended at 10 when this was planned"):
        resume(files, PLAN, lambda line: None)
    assert list(files.ranges(0)) == [OffsetRange(0, 0, 11)]
