"""What an audit concludes from numbers: every contradiction is a finding with its place, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from batch.audit import Offsets, check_ledger, check_positions, check_recompute
from batch.audit_archive import wrong_rows
from batch.findings import LISTED, Check, Report
from contract.archive_file import Contents
from contract.errors import PositionLost
from contract.master import MASTER, QUARANTINE, OffsetRange, gaps
from contract.offset_set import pack
from contract.settings import Settings
from serving.drift import DifferingRow, Drift
from serving.log_ends import LogEnds
from serving.unread import Unread, unread_partitions

GOOD = Offsets(low=10, speed=100, cut=50, archive=90, high=120)
BALANCED = {
    "partition": 0, "received": 9, "counted": 4, "duplicate": 3, "quarantined": 1, "forgotten": 1, "difference": 0,
    "in_flight": 0,
}  # fmt: skip
EQUAL = Drift("site_traffic", 7, 0, 0, 0, 0, 0, 3, "equal")


@pytest.mark.parametrize(
    ("offsets", "problem"),
    [
        (replace(GOOD, low=None, high=None), "the topic has no such partition"),
        (replace(GOOD, low=91), "the archive is at offset 90, but Kafka's first is 91"),
        (replace(GOOD, low=101, archive=110), "the speed layer is at offset 100, but Kafka's first is 101"),
        (replace(GOOD, archive=121), "the archive is at offset 121, but the topic ends at 120"),
        (replace(GOOD, speed=121), "the speed layer is at offset 121, but the topic ends at 120"),
        (replace(GOOD, cut=91), "the batch views cover offsets below 91, but the archive ends at 90"),
        (replace(GOOD, speed=49), "the batch views cover offsets below 50, but the speed layer is at 49"),
    ],
)
def test_a_contradiction_of_positions_is_found(offsets: Offsets, problem: str):
    (finding,) = check_positions({3: offsets, 4: GOOD}).findings
    assert finding.place == "partition 3"
    assert finding.problem.startswith(problem)


@pytest.mark.parametrize(
    "offsets",
    [
        GOOD,
        Offsets(0, 0, 0, 0, 0),
        Offsets(5, 5, 5, 5, 5),
        replace(GOOD, speed=None, cut=None),
        replace(GOOD, archive=None, cut=None),
        replace(GOOD, speed=80),
    ],
)
def test_parts_may_lag(offsets: Offsets):
    assert check_positions({0: offsets}).findings == []


def test_a_reader_whose_log_is_another_one_is_found():
    lost = {"the archiver": [], "the speed layer": [PositionLost.topic("the speed layer", "pageviews", "x", "y")]}
    (finding,) = check_positions({0: GOOD}, lost).findings
    assert (finding.place, "topic pageviews has the id y" in finding.problem) == ("the speed layer", True)


@pytest.mark.parametrize(
    ("readers", "who", "then"),
    [
        (("the archiver", "the speed layer"), "nobody reads", "`make logs S=archiver` and `make logs S=supervisor` if"),
        (("the archiver",), "the archiver does not read", "`make logs S=archiver` if"),
        (("the speed layer",), "the speed layer does not read", "`make logs S=supervisor` if"),
    ],
)
def test_a_partition_that_a_reader_has_not_begun_with_is_found_after_a_minute(readers: tuple[str, ...], who: str, then: str):
    now = datetime.now(UTC)
    unread = Unread(5, readers, 3, 120, now - timedelta(seconds=61))
    (finding,) = check_positions({0: GOOD}, {}, [unread]).findings
    assert finding.place == "partition 5"
    assert finding.problem.startswith(
        f"{who} partition 5 yet, and the topic has its offsets [3, 120), the first of which came"
    )
    assert finding.next.startswith(then)
    check = check_positions({0: GOOD}, {}, [replace(unread, since=now - timedelta(seconds=30))])
    assert (check.findings, len(check.notes)) == ([], 1)
    assert check_positions({0: GOOD}, {}, [replace(unread, since=None)]).findings


def test_a_partition_without_records_need_not_be_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving.unread.came_at", lambda *arguments: None)
    ends = {0: LogEnds(0, 9, 9), 1: LogEnds(0, 0, 0), 2: LogEnds(7, 7, 7), 3: LogEnds(5, 7, 8), 4: LogEnds(0, 4, 4)}
    known = {"the archiver": {0, 4}, "the speed layer": {0, 1}}
    assert unread_partitions(Settings(), ends, known) == [
        Unread(3, ("the archiver", "the speed layer"), 5, 8, None),
        Unread(4, ("the speed layer",), 0, 4, None),
    ]


def test_the_ledger_names_difference_and_flight():
    assert check_ledger([BALANCED]).findings == []
    found = check_ledger([BALANCED, BALANCED | {"partition": 1, "received": 11, "difference": 2, "in_flight": 4}]).findings
    assert [finding.place for finding in found] == ["partition 1", "partition 1"]
    assert "difference is 2 (received 11, counted 4, duplicate 3, quarantined 1, forgotten 1)" in found[0].problem
    assert "4 offsets are in flight" in found[1].problem


def test_records_that_the_ledger_does_not_know_are_found():
    check = check_recompute({0: 5, 1: 6}, {0: 5, 1: 5}, {0: 5, 1: 6}, [EQUAL], {"site_traffic": []})
    (finding,) = check.findings
    assert finding.place == "partition 1, offsets below 6"
    assert finding.problem == "the archive has 5 records, the ledger 6"


def test_explained_differences_are_a_note_and_wrong_ones_are_named():
    explained = replace(EQUAL, rows_differ=1, dropped=1, ledger_difference=-1, verdict="explained")
    check = check_recompute({}, {}, {}, [explained], {"site_traffic": []})
    assert (check.findings, len(check.notes)) == ([], 1)
    wrong = replace(EQUAL, rows_differ=30, unexplained=30, verdict="wrong")
    bucket = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    rows = [DifferingRow(bucket, {"site": f"s{n}"}, "unexplained", {"views": (3, 2), "visitors": (1, 1)}) for n in range(3)]
    check = check_recompute({}, {}, {}, [wrong], {"site_traffic": rows})
    assert check.findings[1].place == "site_traffic bucket='2026-11-21 09:30Z' site='s0'"
    assert check.findings[1].problem == "unexplained: views was 3, recomputed 2; visitors was 1, recomputed 1"
    assert check.findings[0].problem.startswith("30 of 7 rows differ: 30 unexplained")
    assert check.count == 31


def test_a_report_lists_so_many_and_counts_the_rest():
    check = Check("archive", "1 file", notes=["a DataNode is down"])
    assert Report([check]).ok
    assert Report([check]).text().splitlines()[-1] == "nothing is wrong"
    for number in range(LISTED + 5):
        check.found(f"file {number}", "is damaged", "see there")
    report = Report([check])
    assert not report.ok
    assert "archive: 5 more of these" in report.text()
    assert report.text().splitlines()[-1] == f"{LISTED + 5} findings"
    (stored,) = report.as_dict()["checks"]
    assert (stored["ok"], len(stored["findings"]), stored["more"]) == (False, LISTED, 5)
    assert stored["findings"][0] == {"place": "file 0", "problem": "is damaged", "next": "see there"}


def test_every_gap_is_named():
    files = [OffsetRange(0, first, after) for first, after in ((10, 20), (0, 5), (12, 18), (30, 40), (40, 41))]
    assert gaps(files) == [OffsetRange(0, 5, 10), OffsetRange(0, 20, 30)]
    assert gaps([]) == []


@pytest.mark.parametrize(
    ("offsets", "contents", "problem"),
    [
        ([5, 6, 8], Contents(OffsetRange(1, 5, 8), 3, 0), "it was written as offsets [5, 8) of partition 1"),
        ([5, 6], Contents(OffsetRange(0, 5, 9), 3, 1), "it has 2 rows but says that it has 3"),
        (
            [5, 6, 7],
            Contents(OffsetRange(0, 5, 9), 3, 2),
            "3 events, 2 rejects and 0 forgotten records are more than its offsets",
        ),
        (
            [5, 6],
            Contents(OffsetRange(0, 5, 9), 2, 1, forgotten=pack(5, 9, [7, 8])),
            "2 events, 1 rejects and 2 forgotten records are more than its offsets",
        ),
        (
            [5, 6, 8],
            Contents(OffsetRange(0, 5, 9), 3, 0, forgotten=pack(5, 9, [6])),
            "it says that 1 of its 3 rows are forgotten",
        ),
        ([5, 6, 8], Contents(OffsetRange(0, 5, 9), 3, 0, forgotten=pack(5, 9, [7])), None),
        ([4, 6, 9], Contents(OffsetRange(0, 5, 9), 3, 0), "2 of its 3 rows are not of its offsets"),
        ([5, 7, 7], Contents(OffsetRange(0, 5, 9), 3, 0), "its rows are not in the order of their offsets, each once"),
        ([5, 6, 8], Contents(OffsetRange(0, 5, 9), 3, 1), None),
    ],
)
def test_rows_must_be_what_name_and_contents_say(offsets: list[int], contents: Contents, problem: str | None):
    table = pa.table({"partition": [0] * len(offsets), "offset": offsets})
    assert wrong_rows(OffsetRange(0, 5, 9), MASTER, table, contents) == problem


def test_a_quarantine_file_has_the_rejects():
    file = OffsetRange(0, 5, 9)
    table = pa.table({"partition": [0], "offset": [7]})
    assert wrong_rows(file, QUARANTINE, table, Contents(file, 3, 1)) is None
    assert wrong_rows(file, QUARANTINE, table, Contents(file, 1, 3)) == "it has 1 rows but says that it has 3"
