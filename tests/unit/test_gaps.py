"""What the archive lacks: named with what to do, waited for only if Kafka has it, given up only if it has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console

from batch.audit import Offsets, check_positions
from batch.cut import require_reachable
from contract.errors import ArchiveGap, EngineUnavailable
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.losses import Kept, Loss, Losses
from contract.master import QUARANTINE, OffsetRange
from contract.settings import Settings
from serving.archive_ends import archive_extents
from serving.gaps import OpenGap, describe, open_gaps, plan_acceptance, require_no_loss, unjudged_gaps, with_empty
from serving.log_ends import log_ends
from serving.report import print_status
from serving.status import Status
from tests.fixtures.memory import MemoryStore, MemoryTopic
from tests.simulate.engines import Admin, HdfsClient

SETTINGS = Settings()
EXTENT = Extent(0, LogPosition(40, "first", 0), (OffsetRange(0, 10, 20), OffsetRange(0, 30, 35)))
WHOLE = Extent(1, LogPosition(40, "first", 0))


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> MemoryTopic:
    topic = MemoryTopic({0: [None] * 50, 1: [None] * 50})
    for module in ("serving.gaps", "serving.log_ends"):
        monkeypatch.setattr(f"{module}.AdminClient", lambda config: Admin(topic))
    return topic


def gaps(extents: Mapping[int, Extent]) -> list[tuple[int, int, bool | None]]:
    found = open_gaps(SETTINGS, extents, log_ends(SETTINGS))
    return [(gap.first_offset, gap.next_offset, gap.is_lost) for gap in found]


def test_a_gap_is_told_apart_by_what_kafka_has_of_it(topic: MemoryTopic):
    assert gaps({0: EXTENT, 1: WHOLE}) == [(10, 20, False), (30, 35, False)]
    topic.low_offsets[0] = 15
    assert gaps({0: EXTENT, 1: WHOLE}) == [(10, 15, True), (15, 20, False), (30, 35, False)]
    topic.low_offsets[0] = 45
    assert gaps({0: EXTENT, 1: WHOLE}) == [(10, 20, True), (30, 35, True), (40, 45, True)]


def test_offsets_are_held_against_kafkas_own_as_the_archive_counts(topic: MemoryTopic):
    topic.low_offsets[0] = 5
    shifted = replace(EXTENT, end=LogPosition(40, "first", 0, 10))
    assert gaps({0: shifted}) == [(10, 15, True), (15, 20, False), (30, 35, False)]
    # Up to 20 they are numbered as in the log before.
    assert gaps({0: replace(shifted, same_log_offset=20)}) == [(10, 20, True), (30, 35, False)]


def test_of_another_topic_nobody_knows_what_it_has_of_this_one(topic: MemoryTopic):
    topic.made_again("second")
    topic.low_offsets[0] = 45
    assert gaps({0: EXTENT}) == [(10, 20, None), (30, 35, None)] == [
        (gap.first_offset, gap.next_offset, gap.is_lost) for gap in unjudged_gaps({0: EXTENT})
    ]  # fmt: skip


def test_a_run_is_refused_at_once_if_its_cut_is_above_what_is_lost(topic: MemoryTopic):
    topic.low_offsets[0] = 18
    require_no_loss(SETTINGS, {0: EXTENT, 1: WHOLE}, {0: 10, 1: 40})
    text = r"the archive of partition 0 lacks offsets \[10, 18\), and Kafka has them no more: .+ `make accept-gap` "
    with pytest.raises(ArchiveGap, match=text):
        require_no_loss(SETTINGS, {0: EXTENT, 1: WHOLE}, {0: 11, 1: 40})
    topic.low_offsets[0] = 10
    require_no_loss(SETTINGS, {0: EXTENT, 1: WHOLE}, {0: 50, 1: 50})
    topic.low_offsets[1] = 45
    with pytest.raises(ArchiveGap, match=r"partition 1 lacks offsets \[40, 45\)"):
        require_reachable(SETTINGS, {0: EXTENT, 1: WHOLE}, {0: 50, 1: 50})


def test_what_expired_before_anything_was_archived_is_lost_in_any_partition_of_the_topic(
    topic: MemoryTopic, monkeypatch: pytest.MonkeyPatch
):
    topic.add_partition()
    topic.partitions[2] = [None] * 9
    extents = {0: Extent(0, LogPosition(0)), 1: WHOLE}
    assert gaps(with_empty(extents, log_ends(SETTINGS))) == []
    topic.low_offsets[2] = 7
    assert gaps(with_empty(extents, log_ends(SETTINGS))) == [(0, 7, True)]
    monkeypatch.setattr("serving.gaps.archive_extents", lambda settings, timeout_s: (1, extents))
    monkeypatch.setattr("serving.gaps.require_positions", lambda *arguments: None)
    assert [(lost.partition, lost.first_offset, lost.next_offset) for lost in plan_acceptance(SETTINGS).lost] == [(2, 0, 7)]
    # A run asks for the partitions of its cut.
    require_reachable(SETTINGS, extents, {0: 0, 1: 40, 2: 0})
    with pytest.raises(ArchiveGap, match=r"partition 2 lacks offsets \[0, 7\)"):
        require_reachable(SETTINGS, extents, {0: 0, 1: 40, 2: 9})


def test_of_a_partition_that_the_topic_does_not_have_nothing_is_left(topic: MemoryTopic):
    # It was one of the topic before, and nothing was read of it in this one.
    resumed = Extent(2, LogPosition(40, "first", None, 40), (OffsetRange(2, 10, 20),), 20, LogPosition(10, "before"))
    assert gaps({2: resumed}) == [(10, 20, True)]
    # What is of this log cannot be gone, so whose partition it is nobody knows.
    assert gaps({2: replace(resumed, end=LogPosition(40))}) == [(10, 20, None)]


def test_an_archive_of_which_only_rejects_are_there_yet_has_nothing(monkeypatch: pytest.MonkeyPatch):
    # Of a file the rejects come first, and with the very first one it may end there.
    root = SETTINGS.archive_root
    store = MemoryStore({OffsetRange(0, 0, 5).path(root, QUARANTINE): (b"", 0)})
    monkeypatch.setattr("contract.webhdfs.InsecureClient", lambda *arguments, **options: HdfsClient(store))
    assert archive_extents(SETTINGS, 1) == (0, {})


def test_a_run_waits_as_ever_where_kafka_does_not_say(monkeypatch: pytest.MonkeyPatch):
    def down(settings: Settings) -> None:
        raise EngineUnavailable.at("Kafka", "kafka:29092", "refused")

    monkeypatch.setattr("serving.gaps.log_ends", down)
    require_reachable(SETTINGS, {0: EXTENT, 1: WHOLE}, {0: 50, 1: 50})


def test_status_and_audit_name_a_gap_and_what_to_do():
    found = [OpenGap(0, 10, 15, True), OpenGap(0, 15, 20, False), OpenGap(1, 3, 4, None)]
    status = Status([], [], [], [], found, [], None, [], {})
    with (console := Console(width=200)).capture() as shown:
        print_status(status, console)
    lines = [line.split("  ") for line in shown.get().splitlines() if "[" in line]
    assert [[cell.strip() for cell in line if cell] for line in lines] == [
        ["0", "[10, 15)", "Kafka has them no more: put the file back, or `make accept-gap`"],
        ["0", "[15, 20)", "Kafka has them: `compose/engine compose restart archiver` archives them again"],
        ["1", "[3, 4)", "not known whether Kafka has them: `make status` again when it answers"],
    ]
    assert status.as_dict()["archive_gaps"][0] == {
        "partition": 0,
        "first_offset": 10,
        "next_offset": 15,
        "is_lost": True,
        "advice": found[0].advice,
    }
    check = check_positions({0: Offsets(0, 40, 40, 40, 40)}, missing=found[:1])
    (finding,) = check.findings
    assert (finding.place, finding.problem) == (
        "partition 0, offsets [10, 15)",
        "no file of the archive has them, so no run above them can be published",
    )
    assert "`make accept-gap`" in finding.next


def test_what_is_given_up_and_what_is_not_is_said_before():
    losses = Losses((Loss(0, 10, 1_510, "gone", True),), (Kept(0, 1_510, 1_520),))
    assert [line.partition(" archive, ")[2].partition("`")[0] for line in describe(losses)] == [
        "and Kafka has them no more: 1,500 offsets are lost",
        "but Kafka has them, so they are not given up: ",
    ]
