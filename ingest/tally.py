"""What becomes of lines: how many are events, repeats or empty, and how many are quarantined for which reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from contract.event import judge
from ingest.line_records import LineRecords

_MOST_IDENTITIES = 4_000_000
"""Some 60 bytes each. Behind so many, a repeat of an earlier line's id is counted by this tally, and once by the views."""


class Tally(msgspec.Struct, frozen=True):
    """Lines by what became of them; they are the sum of the rest."""

    lines: int = 0
    events: int = 0
    repeats: int = 0
    empty: int = 0
    rejected: dict[str, int] = {}

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.lines + other.lines,
            self.events + other.events,
            self.repeats + other.repeats,
            self.empty + other.empty,
            dict(Counter(self.rejected) + Counter(other.rejected)),
        )

    def __sub__(self, other: Tally) -> Tally:
        return Tally(
            self.lines - other.lines,
            self.events - other.events,
            self.repeats - other.repeats,
            self.empty - other.empty,
            dict(Counter(self.rejected) - Counter(other.rejected)),
        )


class Judge:
    """Says what the decoder, which all layers use, makes of records if they come to Kafka now.

    `own_ids`: the lines have ids of their own, so that one may have an earlier one's.
    """

    def __init__(self, now_ms: Callable[[], int], own_ids: bool) -> None:
        self._now_ms = now_ms
        self._known: set[int] | None = set() if own_ids else None

    def tally(self, records: LineRecords) -> Tally:
        """Of the lines of these records."""
        values = records.values
        rejected: Counter[str] = Counter()
        repeats = 0
        for judgement in judge([values[at] for at in records.unsure], self._now_ms()):
            if isinstance(judgement, str):
                rejected[judgement] += 1
            elif self._known is not None:
                identity = hash(judgement)
                repeats += identity in self._known
                if len(self._known) < _MOST_IDENTITIES:
                    self._known.add(identity)
        empty = records.lines - len(values)
        events = len(values) - rejected.total() - repeats
        return Tally(records.lines, events, repeats, empty, dict(rejected))
