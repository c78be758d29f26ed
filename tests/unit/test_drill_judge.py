"""The drills' judge: what a reader saw is held against the oracle at the reader's own position, and any lie is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contract.sketches.hll import to_datasketch
from tests.drill.drills import DRILLS
from tests.drill.judge import Poll, judge
from tests.drill.report import HEADER, row_of
from tests.drill.run import Result
from tests.drill.truth import Totals, Truth
from tests.oracle import VIEWS, Record

TIME_MS = 1_779_000_000_000
AT_REST = Poll(0.0, {0: 100, 1: 50}, dict.fromkeys(VIEWS, (0, 0, 0)), 150, 140, 7, 3, 0)
STATUSES = {"a": 200, "b": 500, "c": 200, "d": 404}


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
        1.0, {0: zero, 1: one}, dict.fromkeys(VIEWS, (views, errors, 10 * views)),
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


def test_drills_have_names_of_their_own_and_half_of_them_are_fast():
    assert len({drill.name for drill in DRILLS}) == len(DRILLS) >= 20
    assert 0.4 <= sum(drill.fast for drill in DRILLS) / len(DRILLS) <= 0.6
    assert all(len(row_of(Result(drill.name, drill.fault))) == len(HEADER.splitlines()[0]) for drill in DRILLS)
