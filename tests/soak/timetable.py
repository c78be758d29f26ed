"""What happens to a stack in a soak, and when: by seed, the same for the same arguments."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HOUR_S = 3_600
_MOST_FAULTS_EVERY_S = 20 * 60
_LEAST_RUNS, _LEAST_FAULTS = 3, 4
Kind = Literal["run", "audit", "fault"]


@dataclass(frozen=True, order=True)
class Due:
    """A batch run, an audit, or a fault of that name, so many seconds after the beginning."""

    at_s: float
    kind: Kind
    name: str = ""


def timetable(hours: float, seed: int, faults: Sequence[str]) -> list[Due]:
    """A run every hour, an audit every 24, a fault every 20 minutes or so, in order; in few hours more often, an audit once.

    Each fault is there before one comes again, if there is time for so many. ValueError if there is no time at all.
    """
    if not hours > 0:
        raise ValueError(f"HOURS={hours:g} is no time: 0.1 are six minutes")
    length_s, chance = hours * HOUR_S, random.Random(seed)
    due = [Due(at_s, "run") for at_s in _every(min(HOUR_S, length_s / (_LEAST_RUNS + 1)), length_s)]
    due += [Due(at_s, "audit") for at_s in _every(min(24 * HOUR_S, length_s / 2), length_s)]
    period_s = min(_MOST_FAULTS_EVERY_S, length_s / (_LEAST_FAULTS + 1))
    left: list[str] = []
    for at_s in _every(period_s, length_s):
        left = left or chance.sample(faults, len(faults))
        due.append(Due(at_s + chance.uniform(-0.4, 0.4) * period_s, "fault", left.pop()))
    return sorted(due)


def _every(period_s: float, length_s: float) -> list[float]:
    """The end is left to the last audit."""
    return [number * period_s for number in range(1, round(length_s / period_s))]
