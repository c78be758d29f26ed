"""The drills' judge: what a reader saw is held against the oracle at the reader's own position, and any lie is named."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.resumption import ResumedPartition, Resumption
from contract.sketches.hll import to_datasketch
from tests.drill.drills import DRILLS
from tests.drill.judge import Announced, Poll, judge
from tests.drill.loss import Loss
from tests.drill.report import HEADER, row_of
from tests.drill.run import Result
from tests.drill.truth import Totals, Truth
from tests.oracle import VIEWS, Record

TIME_MS = 1_779_000_000_000
STATUSES = {"a": 200, "b": 500, "c": 200, "d": 404}


def sums(views: int, errors: int) -> dict[str, tuple[int, ...]]:
    """Of each view, of events of ten bytes each."""
    return {
        view: (views, errors, 10 * views) if "errors" in measures else (views,) for view, (_, _, measures) in VIEWS.items()
    }


AT_REST = Poll(0.0, {0: 100, 1: 50}, sums(0, 0), 150, 140, 7, 3, 0)


def record(partition: int, offset: int, name: str) -> Record:
    if name == "bad":
        return partition, offset, TIME_MS, b"{"
    event = (
        f'{{"event_id":"{name}","event_time":"2026-05-17T06:40:00Z","site":"s","page":"/","visitor_id":"visitor {name}",'
        f'"status":{STATUSES[name]},"bytes_sent":10,"duration_ms":{len(name)}}}'
    )
    return partition, offset, TIME_MS, event.encode()


# Partition 0: a, b, a again, bad. Partition 1: c, d.
TRUTH = Truth(
    record(partition, offset, name)
    for partition, first, names in ((0, 100, ("a", "b", "a", "bad")), (1, 50, ("c", "d")))
    for offset, name in enumerate(names, first)
)


def seen(zero: int, one: int, views: int, errors: int, duplicate: int = 0, quarantined: int = 0, **changed: Any) -> Poll:
    """A poll that stands at these positions and shows these numbers, consistent in itself."""
    shown = Poll(
        1.0, {0: zero, 1: one}, sums(views, errors),
        150 + views + duplicate + quarantined, 140 + views, 7 + duplicate, 3 + quarantined, 0,
    )  # fmt: skip
    return replace(shown, **changed)


TRUE = [seen(100, 50, 0, 0), seen(101, 50, 1, 0), seen(103, 51, 3, 1, 1), seen(104, 52, 4, 1, 1, 1)]


def test_the_truth_is_the_oracles_at_every_position():
    assert TRUTH.totals({0: 100, 1: 50}) == Totals()
    assert TRUTH.totals({0: 103, 1: 50}) == Totals(2, 1, 20, 3, 1, 0)
    assert TRUTH.totals({0: 104, 1: 52}) == Totals(4, 1, 40, 6, 1, 1)
    outcome = TRUTH.outcome
    assert (outcome.received, outcome.counted, outcome.duplicate, outcome.rejects.total()) == (6, 4, 1, 1)
    visitors, latency = TRUTH.sketches({0: 102, 1: 51})
    assert round(to_datasketch(visitors).count()) == 3
    assert sum(entry & 0xFFFF_FFFF_FFFF for entry in latency) == 3


def test_a_reader_who_saw_the_truth_has_nothing_to_complain_of():
    polls = [*TRUE, replace(TRUE[-1], sketches=TRUTH.sketches(TRUE[-1].positions))]
    assert judge(polls, TRUTH, AT_REST) == judge([], TRUTH, AT_REST)


@pytest.mark.parametrize(
    ("poll", "kinds", "error"),
    [
        # One event too many, as when a range is committed twice.
        (seen(104, 52, 5, 1, 1, 1), {"exceeded"}, 10),
        # One event of a position that is passed is missing.
        (seen(104, 52, 3, 1, 1, 1), {"missing"}, 10),
        # A repeat that was counted: rows and ledger agree with each other, and not with the truth.
        (seen(104, 52, 5, 1, 0, 1), {"exceeded", "missing"}, 10),
        # One view only, one column only.
        (seen(104, 52, 4, 1, 1, 1, sums={**TRUE[-1].sums, "page_traffic": (4, 1, 41)}), {"exceeded"}, 1),
        (seen(104, 52, 4, 1, 1, 1, sums={**TRUE[-1].sums, "site_traffic": (4, 0, 40)}), {"missing", "shrank"}, 1),
        (seen(104, 52, 4, 1, 1, 1, sums={**TRUE[-1].sums, "referrers": (5,)}), {"exceeded"}, 1),
        (seen(104, 52, 4, 1, 1, 1, unbalanced=2), {"ledger"}, 0),
        # Right for where it stands, but an earlier poll stood further.
        (seen(101, 51, 2, 0), {"position", "shrank"}, 0),
        (seen(104, 52, 4, 1, 1, 1, sketches=TRUTH.sketches({0: 104, 1: 51})), {"sketches"}, 1),
    ],
)
def test_every_lie_is_named(poll: Poll, kinds: set[str], error: int):
    judgement = judge([*TRUE[:3], poll], TRUTH, AT_REST)
    assert set(judgement.complaints) == kinds
    assert judgement.largest_error == error


# Kafka had a, b, a again, bad as offsets 0 to 3, counted as 100 to 103; HDFS had a and b when it lost b and what came after.
# The new log has c and d as offsets 1 and 2, counted as 105 and 106.
PART = ResumedPartition(0, 102, 105, "other", None, 1, 102, 104, "lost")
OLD = [record(0, offset, name) for offset, name in enumerate(("a", "b", "a", "bad"))]
LOSS = Loss(Resumption((PART,)), (OLD, [record(0, 1, "c"), record(0, 2, "d")]), {0: 102}, {0: 100})


def test_what_follows_a_loss_is_numbered_above_it_and_what_is_announced_is_lost():
    assert [offset for _, offset, *_ in LOSS.counted()] == [100, 101, 102, 103, 105, 106]
    assert [offset for _, offset, *_ in LOSS.kept()] == [100, 101, 105, 106]
    assert [offset for _, offset, *_ in LOSS.lost()] == [102, 103]
    assert list(LOSS.complaints()) == []


def test_where_the_archiver_went_on_by_itself_numbers_of_lost_records_are_used_again():
    # Kafka kept b, which HDFS got afterwards, and c as offset 2; then it was resumed, and d is counted as 105.
    part = ResumedPartition(0, 102, 105, "", None, 3, 102, 104, "")
    loss = replace(LOSS, plan=Resumption((part,)), acknowledged=(OLD, [record(0, 2, "c"), record(0, 3, "d")]))
    assert [offset for _, offset, *_ in loss.counted()] == [100, 101, 102, 103, 105]
    assert loss.kept() == [record(0, 100, "a"), record(0, 101, "b"), record(0, 102, "c"), record(0, 105, "d")]
    assert [offset for _, offset, *_ in loss.lost()] == [102, 103]
    assert (list(loss.complaints()), loss.first_offsets()) == ([], {0: 2})


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (replace(LOSS, plan=Resumption()), "partition 0 lost its log, and the plan does not have it"),
        (replace(LOSS, archived={0: 101}), "ended at 101, the plan says 102"),
        (replace(LOSS, archived={0: 101}), r"\[\(0, 101\)\] are lost without a word, \[\] are not lost"),
        (replace(LOSS, archived={0: 103}), r"\[\] are lost without a word, \[\(0, 102\)\] are not lost"),
    ],
)
def test_a_loss_that_is_not_what_was_announced_is_named(loss: Loss, said: str):
    with pytest.raises(AssertionError, match=said):
        assert not list(loss.complaints()), list(loss.complaints())


def of_loss(position: int, views: int, errors: int, duplicate: int = 0, quarantined: int = 0, **changed: Any) -> Poll:
    return replace(seen(position, 50, views, errors, duplicate, quarantined), positions={0: position}, **changed)


BEFORE_LOSS = replace(AT_REST, positions={0: 100})
LOSS_POLLS = [
    of_loss(104, 2, 1, 1, 1),
    # A run has taken over [104, 106); d has been counted since.
    of_loss(107, 3, 1, 1, 1, in_flight={0: 2}, cut={0: 106}),
    # It is published: what is lost has left, and c is there.
    of_loss(107, 4, 1, gone=2),
]


def test_polls_across_a_loss_are_judged_by_what_is_in_flight_and_what_has_left():
    announced = Announced(Truth(LOSS.kept()), takes_over=True)
    truth = Truth(LOSS.counted())
    assert judge(LOSS_POLLS, truth, BEFORE_LOSS, announced).complaints == {}
    assert judge(LOSS_POLLS[:2], truth, BEFORE_LOSS).complaints.keys() == {"ledger"}
    wrong = replace(LOSS_POLLS[1], in_flight={})
    assert judge([wrong], truth, BEFORE_LOSS, announced).complaints.keys() == {"missing"}
    # Gone from the views, and not announced; announced, and still there.
    assert "missing" in judge([replace(LOSS_POLLS[2], gone=0)], truth, BEFORE_LOSS, announced).complaints
    assert "exceeded" in judge([of_loss(107, 4, 1, 1, 1, gone=2)], truth, BEFORE_LOSS, announced).complaints


def test_a_database_made_anew_is_judged_by_its_own_positions_and_nothing_else_may_go_back():
    anew = [replace(AT_REST, at_s=5.0, positions={}, received=0, counted=0, duplicate=0, quarantined=0)]
    anew += [seen(101, 20, 1, 0, at_s=6.0, received=7), seen(104, 52, 4, 1, 1, 1, at_s=7.0)]
    polls = [*TRUE, *anew]
    assert judge(polls, TRUTH, AT_REST, Announced(anew_s=4.0)).complaints == {}
    assert judge(polls, TRUTH, AT_REST).complaints.keys() >= {"position", "shrank"}
    again = [*polls, replace(anew[0], at_s=8.0)]
    assert judge(again, TRUTH, AT_REST, Announced(anew_s=4.0)).complaints.keys() >= {"position", "shrank"}


def test_a_log_is_cut_within_the_batch_that_has_the_offset(tmp_path: Path):
    def batch(base: int, records: int) -> bytes:
        return struct.pack(">qiibIhi", base, 15 + 40, 0, 2, 0, 0, records - 1) + bytes(40)

    folder = tmp_path / "views-0"
    folder.mkdir()
    (folder / f"{0:020d}.log").write_bytes(batch(0, 5) + batch(5, 5))
    (folder / f"{10:020d}.log").write_bytes(batch(10, 5) + batch(15, 5) + batch(20, 5))
    for name in (f"{10:020d}.index", f"{25:020d}.log", f"{25:020d}.index", "leader-epoch-checkpoint"):
        (folder / name).write_bytes(b"x")
    program = Path(__file__).parents[1] / "drill" / "inside" / "cut_log.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), "views", '{"0": 17}'], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"0": 15}
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    whole = len(batch(0, 1))
    assert sizes == {
        f"{0:020d}.log": 2 * whole, f"{10:020d}.log": whole + whole // 2, "leader-epoch-checkpoint": 1,
    }  # fmt: skip


def test_the_first_of_a_kind_is_told_and_the_largest_error_counts():
    judgement = judge([*TRUE[:2], seen(101, 50, 2, 0), seen(101, 50, 9, 0)], TRUTH, AT_REST)
    assert judgement.largest_error == 80
    assert "views=2" in judgement.complaints["exceeded"]


def test_a_result_without_complaint_passes_and_its_row_fits_the_header():
    result = Result("kill-all", "everything dies", 1.25, 6.5, 1_234, 5, 60_000, 0, 0)
    row = row_of(result)
    assert row.split("|")[-2].strip() == "passed"
    assert len(row) == len(HEADER.splitlines()[0])
    failed = replace(result, complaints=["a record is missing"], difference=None)
    assert not failed.passed
    assert "FAILED" in row_of(failed)
    assert " ? " in row_of(failed)
    assert not replace(result, too_slow=["the archive took 61.0 s to recover"]).passed


def test_drills_have_names_of_their_own_and_those_that_lose_records_come_last():
    assert len({drill.name for drill in DRILLS}) == len(DRILLS) >= 30
    # Each takes about a minute of `make test-all`.
    assert 8 <= sum(drill.fast for drill in DRILLS) <= 10
    assert sum(drill.fast and drill.loses for drill in DRILLS) == 1
    assert sorted(DRILLS, key=lambda drill: drill.loses) == list(DRILLS)
    assert all(len(row_of(Result(drill.name, drill.fault))) == len(HEADER.splitlines()[0]) for drill in DRILLS)
