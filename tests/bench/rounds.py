"""Candidates measured in turn, A B B A A B …, so that a machine that gets slower or faster meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One measurement: how many events took how long, and by service what its containers used."""

    events: int
    seconds: float
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        """Throughput."""
        return self.events / self.seconds

    @property
    def cpu_us_per_event(self) -> float:
        """Microseconds of CPU for an event, broker and database included."""
        return sum(self.cpu_s.values()) / self.events * 1e6

    @property
    def cpu_us_by_service(self) -> dict[str, float]:
        """Of cpu_us_per_event each service's part."""
        return {service: cpu_s / self.events * 1e6 for service, cpu_s in self.cpu_s.items()}

    @property
    def cores(self) -> float:
        """How many cores were busy on average."""
        return sum(self.cpu_s.values()) / self.seconds


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some numbers."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, numbers: list[float]) -> Spread:
        """Of at least one number."""
        return cls(median(numbers), min(numbers), max(numbers))


Candidates = Mapping[str, Callable[[], Sample]]
"""What is measured, by name."""


def in_turn(candidates: Candidates, rounds: int) -> dict[str, list[Sample]]:
    """One sample of each candidate in each round; every other round goes backwards."""
    samples: dict[str, list[Sample]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name in list(candidates)[:: 1 if number % 2 == 0 else -1]:
            samples[name].append(candidates[name]())
    return samples


def ratio(of: list[Sample], to: list[Sample]) -> Spread:
    """How many times as fast, round by round: noise that lasts for a round cancels out."""
    return Spread.of([one.events_per_s / other.events_per_s for one, other in zip(of, to, strict=True)])
