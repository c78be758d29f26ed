"""The audit of an archive that went on in a log which had lost what was read: without a gap, and standing where Kafka is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from batch.audit_logs import check_changes
from batch.findings import Check
from contract.log_position import LogPosition
from contract.settings import Settings
from tests.fixtures.memory import MemoryConsumer, MemoryTopic, cut_topic
from tests.simulate.engines import Admin

RECORD = (1_763_712_000_000, b"x")
Found = list[tuple[str, str]]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> MemoryTopic:
    topic = cut_topic(20)
    monkeypatch.setattr("batch.audit_logs.AdminClient", lambda config: Admin(topic))
    monkeypatch.setattr("serving.log_check.Consumer", lambda config: MemoryConsumer(topic, report_ends=True))
    return topic


@pytest.fixture
def found(topic: MemoryTopic) -> Callable[[Iterable[LogPosition]], Found]:
    def found(ends: Iterable[LogPosition]) -> Found:
        check = Check("archive")
        check_changes(Settings(), 0, ends, check)
        return [(finding.place, finding.problem) for finding in check.findings]

    return found


def test_records_that_were_passed_over_in_a_log_that_was_cut_are_named(found: Callable[[Iterable[LogPosition]], Found]):
    went_on = [
        LogPosition(5, "first", 0),
        LogPosition(9, "first", 0),
        LogPosition(14, "first", 2),
        LogPosition(20, "first", 2),
    ]
    ((place, problem),) = found(went_on)
    assert place == "partition 0, from offset 9 on"
    assert problem.startswith("the archive goes on at offset 9 of partition 0, but topic pageviews has lost records below")
    # Files of ranges that were merged say the same as one of them.
    assert len(found([*went_on, LogPosition(9, "first", 0), LogPosition(20, "first", 2)])) == 1


@pytest.mark.parametrize(("cut_offset", "findings"), [(12, 1), (6, 0), (3, 0)])
def test_a_log_that_was_cut_since_proves_only_what_it_still_has(
    topic: MemoryTopic, found: Callable[[Iterable[LogPosition]], Found], cut_offset: int, findings: int
):
    topic.cut(0, cut_offset)
    topic.partitions[0] += [RECORD] * 20
    assert len(found([LogPosition(9, "first", 0), LogPosition(14, "first", 2)])) == findings


def test_records_that_were_passed_over_in_another_topic_are_named(found: Callable[[Iterable[LogPosition]], Found]):
    expected = [("partition 0, from offset 9 on", "the archive went on there in the topic with the id first, after gone")]
    assert found([LogPosition(9, "gone", 0), LogPosition(14, "first", 2)]) == expected
    assert found([LogPosition(9, "gone"), LogPosition(14, "first", 2)]) == expected


@pytest.mark.parametrize(
    "ends",
    [
        [LogPosition(6, "first", 0), LogPosition(14, "first", 2)],
        # Numbered anew, so it was resumed.
        [LogPosition(9, "first", 0), LogPosition(12, "first", 0, 6), LogPosition(18, "first", 2, 6)],
        [LogPosition(9, "gone", 0), LogPosition(12, "first", None, 12), LogPosition(18, "first", 2, 12)],
        # Of older files nobody knows.
        [LogPosition(9), LogPosition(14, "first", 2)],
        [LogPosition(9, "first"), LogPosition(14, "first", 2)],
        # That topic is gone, so nobody can be asked.
        [LogPosition(9, "gone", 0), LogPosition(14, "gone", 2)],
        [],
    ],
)
def test_what_was_not_wrong_is_not_named(found: Callable[[Iterable[LogPosition]], Found], ends: list[LogPosition]):
    assert found(ends) == []
    # In whatever order they are listed.
    assert found(ends[::-1]) == []


def test_what_retention_has_deleted_since_proves_nothing(
    topic: MemoryTopic, found: Callable[[Iterable[LogPosition]], Found]
):
    topic.low_offsets[0] = 12
    assert found([LogPosition(5, "first", 0), LogPosition(14, "first", 2)]) == []
