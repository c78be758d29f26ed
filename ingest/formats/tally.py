"""What became of a log's lines, as far as its reader can say; the decoder may still reject an event."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ingest.formats.logged import Rejected

_MOST_SAID = 3
_MUCH = 0.05


@dataclass
class Tally:
    """Counts since the reader began. `sizes_of_head` and `sizes_of_headers` are sizes that were not counted, since such
    answers have no body: what a HEAD would have got, and what a 304 or 204 had as headers."""

    lines: int = 0
    events: int = 0
    rejected: Counter[Rejected] = field(default_factory=Counter)
    sizes_of_head: int = 0
    sizes_of_headers: int = 0
    cut_texts: int = 0

    @property
    def not_requests(self) -> int:
        """Lines of the log that ask for no page."""
        return sum(count for why, count in self.rejected.items() if why.reason == "not_a_request")

    @property
    def unfit(self) -> int:
        """Lines that are not of the format."""
        return self.rejected.total() - self.not_requests

    def notes(self) -> list[str]:
        """What somebody should know who trusts the numbers, a sentence each."""
        notes = []
        if self.unfit > _MUCH * self.lines:
            unfit = Counter({why: count for why, count in self.rejected.items() if why.reason != "not_a_request"})
            causes = [f"{count:,} x {why.reason}: {why.detail}" for why, count in unfit.most_common(_MOST_SAID)]
            notes.append(f"{self.unfit:,} of {self.lines:,} lines did not parse, most often: " + "; ".join(causes))
        if self.sizes_of_headers:
            notes.append(
                f"{self.sizes_of_headers:,} answers without a body (304, 204) have a size in this log, so its sizes include "
                "headers, and bytes_sent is too high by them; of these answers it is 0"
            )
        if self.sizes_of_head:
            notes.append(f"sizes of {self.sizes_of_head:,} answers to HEAD were dropped: no body is sent with them")
        if self.cut_texts:
            notes.append(f"{self.cut_texts:,} referrers and user agents were too long and are cut")
        return notes
