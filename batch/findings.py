"""What an audit reports: for each check what it has looked at, and every place where something is not as it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

LISTED = 20
"""So many findings of a check are named; the others are counted."""


@dataclass(frozen=True)
class Finding:
    """One place, what is wrong there in numbers, and what to do about it."""

    place: str
    problem: str
    next: str


@dataclass
class Check:
    """One proof: it holds if there are no findings. Notes are worth knowing and prove nothing wrong."""

    name: str
    looked_at: str = ""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: int = 0

    def found(self, place: str, problem: str, then: str) -> None:
        """Something is wrong."""
        if len(self.findings) < LISTED:
            self.findings.append(Finding(place, problem, then))
        else:
            self.more += 1

    @property
    def count(self) -> int:
        """How many findings there are, those not named included."""
        return len(self.findings) + self.more


@dataclass(frozen=True)
class Report:
    """The result of an audit."""

    checks: Sequence[Check]

    @property
    def ok(self) -> bool:
        return not any(check.findings for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return {"ok": self.ok, "checks": [asdict(check) | {"ok": not check.findings} for check in self.checks]}

    def text(self) -> str:
        """For people: a line a check, then every finding in three lines."""
        lines = [f"{'WRONG' if check.findings else 'ok':5}  {check.name:9}  {check.looked_at}" for check in self.checks]
        lines += [f"note   {check.name}: {note}" for check in self.checks for note in check.notes]
        for check in self.checks:
            for finding in check.findings:
                lines += ["", f"{check.name}: {finding.place}", f"    {finding.problem}", f"    next: {finding.next}"]
            if check.more:
                lines += ["", f"{check.name}: {check.more:,} more of these"]
        count = sum(check.count for check in self.checks)
        lines += ["", "nothing is wrong" if self.ok else f"{count:,} finding{'' if count == 1 else 's'}"]
        return "\n".join(lines)
