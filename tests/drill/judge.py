"""Whether what a reader saw was true: every poll against the oracle at that poll's own position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.drill.truth import Totals, Truth


@dataclass(frozen=True)
class Poll:
    """One statement's answer, and so one snapshot: positions and ledger of the topic, sums of the drill's sites by view.

    `unbalanced` adds up the ledger's differences and offsets in flight. Sketches, of the first view, are asked now and then.
    """

    at_s: float
    positions: Mapping[int, int]
    sums: Mapping[str, tuple[int, int, int]]
    received: int
    counted: int
    duplicate: int
    quarantined: int
    unbalanced: int
    sketches: tuple[bytes, list[int]] | None = None


@dataclass
class Judgement:
    """The largest difference between a poll and the truth, in any column, and what was wrong, each kind once."""

    largest_error: int = 0
    complaints: dict[str, str] = field(default_factory=dict)

    def complain(self, kind: str, text: str) -> None:
        """The first of a kind stays."""
        self.complaints.setdefault(kind, text)


def judge(polls: Sequence[Poll], truth: Truth, before: Poll) -> Judgement:
    """`before` is a poll at rest from before the drill's first record."""
    judgement = Judgement()
    earlier = before
    for poll in polls:
        _against_truth(judgement, poll, truth, before)
        _against_earlier(judgement, poll, earlier)
        earlier = poll
    return judgement


def _against_truth(judgement: Judgement, poll: Poll, truth: Truth, before: Poll) -> None:
    expected = truth.totals(poll.positions)
    seen = {view: Totals(*sums) for view, sums in poll.sums.items()}
    wanted = {view: Totals(expected.views, expected.errors, expected.bytes_sent) for view in seen}
    seen["ledger"] = Totals(
        views=poll.counted - before.counted,
        received=poll.received - before.received,
        duplicate=poll.duplicate - before.duplicate,
        quarantined=poll.quarantined - before.quarantined,
    )
    wanted["ledger"] = Totals(expected.views, 0, 0, expected.received, expected.duplicate, expected.quarantined)
    for place, totals in seen.items():
        difference = totals - wanted[place]
        if max(difference.values()) > 0:
            judgement.complain("exceeded", f"{place} exceeded the truth: {totals} where {wanted[place]} is true")
        if min(difference.values()) < 0:
            judgement.complain("missing", f"{place} fell short of the truth: {totals} where {wanted[place]} is true")
        judgement.largest_error = max(judgement.largest_error, *map(abs, difference.values()))
    if poll.unbalanced:
        judgement.complain("ledger", f"the ledger is off by {poll.unbalanced}")
    if poll.sketches is not None and poll.sketches != truth.sketches(poll.positions):
        judgement.complain("sketches", f"a sketch is not that of the {expected.views} events below {dict(poll.positions)}")
        judgement.largest_error = max(judgement.largest_error, 1)


def _against_earlier(judgement: Judgement, poll: Poll, earlier: Poll) -> None:
    for partition, position in earlier.positions.items():
        if poll.positions.get(partition, 0) < position:
            judgement.complain("position", f"partition {partition} went back from {position} to {poll.positions}")
    for view, sums in earlier.sums.items():
        if any(now < then for now, then in zip(poll.sums[view], sums, strict=True)):
            judgement.complain("shrank", f"{view} shrank from {sums} to {poll.sums[view]}")
