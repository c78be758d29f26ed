"""What a reader of lines met that somebody should know who trusts the numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ingest.formats.logged import Rejected

_MOST_SAID = 3
_MUCH = 0.05


@dataclass
class Notes:
    """Counts since the reader began. `sizes_of_head` and `sizes_of_headers` are sizes that were not counted, since such
    answers have no body: what a HEAD would have got, and what a 304 or 204 had as headers."""

    lines: int = 0
    rejected: Counter[Rejected] = field(default_factory=Counter)
    sizes_of_head: int = 0
    sizes_of_headers: int = 0
    cut_texts: int = 0

    def texts(self) -> list[str]:
        """A sentence each."""
        texts = []
        unfit = Counter({why: count for why, count in self.rejected.items() if why.reason != "not_a_request"})
        if unfit.total() > _MUCH * self.lines:
            causes = [f"{count:,} x {why.reason}: {why.detail}" for why, count in unfit.most_common(_MOST_SAID)]
            texts.append(f"{unfit.total():,} of {self.lines:,} lines did not parse, most often: " + "; ".join(causes))
        if self.sizes_of_headers:
            texts.append(
                f"{self.sizes_of_headers:,} answers without a body (304, 204) have a size in this log, so its sizes include "
                "headers, and bytes_sent is too high by them; of these answers it is 0"
            )
        if self.sizes_of_head:
            texts.append(f"sizes of {self.sizes_of_head:,} answers to HEAD were dropped: no body is sent with them")
        if self.cut_texts:
            texts.append(f"{self.cut_texts:,} referrers and user agents were too long and are cut")
        return texts
