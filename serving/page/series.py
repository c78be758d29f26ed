"""Rows of the views as columns for a chart: each step of the range has a row, and says whether it is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from contract.sketches.hll import STANDARD_ERROR

NOT_KNOWN_AFTER_S = 10.0
"""What is counted comes a moment later than it happens. After so long without, it is not known what happens."""


class Row(NamedTuple):
    """One step of time, as the database answers; `at_s` is where it begins."""

    at_s: int
    batch: int
    speed: int
    errors: int
    visitors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Outage:
    """No event could come, or none was counted, from then until then, or until now."""

    what: str
    from_s: float
    until_s: float | None

    def covers(self, from_s: float, until_s: float) -> bool:
        return self.from_s <= from_s and (self.until_s is None or until_s <= self.until_s)


def columns(
    rows: Iterable[Row], begin_s: int, now_s: float, step_s: int, known_until_s: float | None, outages: Sequence[Outage] = ()
) -> dict[str, list[Any]]:
    """The steps from `begin_s` on, the one that `now_s` is in included, each by name of its column.

    A step without a row has no views. But where it is not known, or where no event could come, it is None and not 0.
    """
    is_late = known_until_s is None or now_s - known_until_s > NOT_KNOWN_AFTER_S
    found = {row.at_s: row for row in rows}
    table: dict[str, list[Any]] = {name: [] for name in (*Row._fields, "visitors_low", "visitors_high")}
    for at_s in range(begin_s, int(now_s) + 1, step_s):
        # guard: what nobody knows is not zero
        known = not is_late or (known_until_s is not None and at_s < known_until_s)
        known = known and not any(outage.covers(at_s, min(at_s + step_s, now_s)) for outage in outages)
        row: Any = found.get(at_s) or ((at_s, 0, 0, 0, 0, None, None, None) if known else (at_s, *[None] * 7))
        for name, value in zip(Row._fields, row, strict=True):
            table[name].append(value)
        low, high = error_band(row[Row._fields.index("visitors")])
        table["visitors_low"].append(low)
        table["visitors_high"].append(high)
    return table


def error_band(visitors: int | None) -> tuple[float | None, float | None]:
    """One standard error of the sketch to both sides: two of three answers are within it."""
    if visitors is None:
        return None, None
    return round(visitors * (1 - STANDARD_ERROR), 2), round(visitors * (1 + STANDARD_ERROR), 2)
