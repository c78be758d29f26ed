"""Whether what a reader saw was true: every poll against the oracle at that poll's own position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.drill.truth import Totals, Truth


@dataclass(frozen=True)
class Poll:
    """One statement's answer, and so one snapshot: positions and ledger of the topic, sums of the drill's sites by view.

    A view without errors and bytes has one sum. `unbalanced` adds up the ledger's differences. `in_flight` has how many
    offsets of a partition are in nobody's rows, and `cut` where the newest run cut. `gone` counts lost offsets, and
    statements of what is forgotten, that a published run has taken out of the views; what is forgotten is not in `received`.
    Sketches, of the first view, are asked now and then.
    """

    at_s: float
    positions: Mapping[int, int]
    sums: Mapping[str, tuple[int, ...]]
    received: int
    counted: int
    duplicate: int
    quarantined: int
    unbalanced: int
    sketches: tuple[bytes, list[int]] | None = None
    in_flight: Mapping[int, int] = field(default_factory=dict)
    cut: Mapping[int, int] = field(default_factory=dict)
    gone: int = 0

    @property
    def holes(self) -> dict[int, tuple[int, int]]:
        """Below the position, and in no rows: [first, next) by partition. A run took them over, so they end at its cut."""
        return {p: (self.cut.get(p, 0) - offsets, self.cut.get(p, 0)) for p, offsets in self.in_flight.items() if offsets}

    @property
    def reached(self) -> dict[int, int]:
        """Up to where nothing is in flight, by partition."""
        holes = self.holes
        return {p: holes[p][0] if p in holes else position for p, position in self.positions.items()}


@dataclass(frozen=True)
class Announced:
    """What a drill does that readers may see, and is told: records that are lost, or a database that begins anew.

    `kept` is the truth once a run has taken out of the views what was lost. Where a run `takes_over` offsets, they are in
    flight for a while. Polls after `anew_s` are of another database than those before.
    """

    kept: Truth | None = None
    anew_s: float = float("inf")
    takes_over: bool = False


@dataclass
class Judgement:
    """The largest difference between a poll and the truth, in any column, and what was wrong, each kind once.

    `first_s` says when each kind was seen first; kinds are in that order.
    """

    largest_error: int = 0
    complaints: dict[str, str] = field(default_factory=dict)
    first_s: dict[str, float] = field(default_factory=dict)

    def complain(self, poll: Poll, kind: str, text: str) -> None:
        """The first of a kind stays."""
        self.complaints.setdefault(kind, text)
        self.first_s.setdefault(kind, poll.at_s)


NOTHING = Announced()


def judge(polls: Sequence[Poll], truth: Truth, before: Poll, announced: Announced = NOTHING) -> Judgement:
    """`before` is a poll at rest from before the drill's first record."""
    judgement = Judgement()
    earlier = before
    for poll in polls:
        is_gone = announced.kept is not None and poll.gone > before.gone
        true = announced.kept if is_gone and announced.kept else truth
        _against_truth(judgement, poll, true, before)
        if poll.in_flight and any(poll.in_flight.values()) and not announced.takes_over:
            judgement.complain(poll, "ledger", f"offsets are in flight: {dict(poll.in_flight)}")
        # What is announced may shrink once: with the database, or by what was lost.
        if not (earlier.at_s <= announced.anew_s < poll.at_s):
            _against_earlier(judgement, poll, earlier, may_shrink=poll.gone > earlier.gone and is_gone)
        earlier = poll
    return judgement


def _against_truth(judgement: Judgement, poll: Poll, truth: Truth, before: Poll) -> None:
    expected = truth.totals(poll.positions, poll.holes)
    seen = {view: Totals(*sums) for view, sums in poll.sums.items()}
    wanted = {view: Totals(*expected.values()[: len(sums)]) for view, sums in poll.sums.items()}
    # Below that the ledger is of records from before the drill.
    if all(poll.reached.get(partition, 0) >= position for partition, position in before.positions.items()):
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
            judgement.complain(poll, "exceeded", f"{place} exceeded the truth: {totals} where {wanted[place]} is true")
        if min(difference.values()) < 0:
            judgement.complain(poll, "missing", f"{place} fell short of the truth: {totals} where {wanted[place]} is true")
        judgement.largest_error = max(judgement.largest_error, *map(abs, difference.values()))
    if poll.unbalanced:
        judgement.complain(poll, "ledger", f"the ledger is off by {poll.unbalanced}")
    if poll.sketches is not None and poll.sketches != truth.sketches(poll.positions, poll.holes):
        judgement.complain(
            poll, "sketches", f"a sketch is not that of the {expected.views} events below {dict(poll.positions)}"
        )
        judgement.largest_error = max(judgement.largest_error, 1)


def _against_earlier(judgement: Judgement, poll: Poll, earlier: Poll, may_shrink: bool) -> None:
    for partition, position in earlier.positions.items():
        if poll.positions.get(partition, 0) < position:
            judgement.complain(poll, "position", f"partition {partition} went back from {position} to {poll.positions}")
    for view, sums in earlier.sums.items():
        if not may_shrink and any(now < then for now, then in zip(poll.sums[view], sums, strict=True)):
            judgement.complain(poll, "shrank", f"{view} shrank from {sums} to {poll.sums[view]}")
