"""What became of the lines of a file, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import msgspec

from contract.sources import CountedSource
from ingest.counting import Counting
from ingest.lines import InputFile


@dataclass
class Summary:
    """What was done; a reader of each partition that stands at next_offsets has read all of it.

    Of `lines` whole lines that the file has, `repeats` were counted before and were not sent, unless they are `sent_again`,
    or have the id of an earlier line; `counted` are events; the others are `quarantined`, by reason, or `empty`, as remarks
    are. `left` ones are not among them: they wait for the next time. `sent` records went to Kafka. `notes` say what somebody
    should know who trusts the numbers. `source` is the file's, with all that was ever counted of it.
    """

    name: str
    lines: int = 0
    sent: int = 0
    counted: int = 0
    repeats: int = 0
    sent_again: int = 0
    empty: int = 0
    left: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    unfinished_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    source: CountedSource | None = None
    next_offsets: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, file: InputFile, counting: Counting) -> Summary:
        """After the last call of the counting."""
        counted, known, again = counting.counted, counting.known, counting.sent_again
        lines = counting.lines - counting.left_lines if counting.source is None else known.lines + counted.lines
        return cls(
            name=file.path.name,
            lines=lines,
            sent=counted.lines - counted.empty + again.lines - again.empty,
            counted=counted.events,
            repeats=lines - counted.lines + counted.repeats,
            sent_again=again.lines,
            empty=counted.empty,
            left=counting.left_lines + bool(file.unfinished_bytes),
            quarantined=counted.rejected,
            unfinished_bytes=file.unfinished_bytes,
            notes=counting.notes,
            source=counting.source,
        )

    def text(self) -> str:
        """The result for people."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.quarantined.items()))
        parts = [
            f"{self.lines:,} lines: {self.counted:,} counted",
            f"{self.repeats:,} repeats" + (f" ({self.sent_again:,} of them sent again)" if self.sent_again else ""),
            f"{sum(self.quarantined.values()):,} quarantined" + (f" ({reasons})" if reasons else ""),
            f"{self.empty:,} empty or remarks",
        ]
        return ", ".join(parts) + self._left_text()

    def json(self) -> str:
        """The result for programs."""
        return msgspec.json.encode(asdict(self)).decode()

    def _left_text(self) -> str:
        whole = self.left - bool(self.unfinished_bytes)
        texts = []
        if whole:
            why = "as far as it can be compared this is the beginning of a log that is known"
            texts.append(f"; {whole:,} lines are left for next time: {why}")
        if self.unfinished_bytes:
            texts.append("; the last line has no end yet and is left for next time, FINAL=1 takes it as it is")
        return "".join(texts)
