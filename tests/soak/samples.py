"""What a stack holds at a moment, and how that grows: memory and handles of each container, bytes of each volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.bench.usage import Containers
from tests.drill.faults import SERVERS, Faults

KINDS = {"memory": "MB", "handles": "open", "disk": "MB"}
WARM_SHARE = 0.2
"""What grows in the first part of a soak is start: slopes are of the rest."""
# Handles are those of the container's own user, which all its processes have; a service without a volume has no bytes.
_LOOK = "find /proc/[0-9]*/fd -mindepth 1 2>/dev/null | wc -l; du -sk /var/lib/braid 2>/dev/null | cut -f 1"


@dataclass(frozen=True)
class Sample:
    """By kind and service what there was at a moment, in seconds since the beginning; a service that was down is missing.

    `delays_ms` are of events that came in view since the sample before.
    """

    at_s: float
    held: Mapping[str, Mapping[str, float]]
    delays_ms: Sequence[float] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """For build/soak.json; of the delays median, 99th percentile and the longest."""
        delays = {}
        if self.delays_ms:
            delays = {
                name: round(float(np.percentile(self.delays_ms, q)), 1)
                for name, q in (("p50", 50), ("p99", 99), ("max", 100))
            }
        return {"at_s": round(self.at_s, 1), **{kind: dict(held) for kind, held in self.held.items()}, "delays_ms": delays}


def look(
    containers: Containers, faults: Faults, at_s: float, delays_ms: Sequence[float], say: Callable[[str], None]
) -> Sample:
    """A sample of now."""
    memory = {service: memory_bytes / 1e6 for service, memory_bytes in containers.memory_bytes().items()}
    held: dict[str, dict[str, float]] = {"memory": memory, "handles": {}, "disk": {}}
    for service in SERVERS:
        try:
            handles, *kilobytes = faults.inside(service, "sh", "-c", _LOOK, check=False).split()
        except (AssertionError, ValueError):
            say(f"{service} is down")
            continue
        held["handles"][service] = float(handles)
        if kilobytes:
            held["disk"][service] = float(kilobytes[0]) / 1_000
    return Sample(at_s, held, delays_ms)


@dataclass(frozen=True)
class Slope:
    """How a service's holding of a kind grew: at the beginning and in the end, and by how much in an hour."""

    kind: str
    service: str
    first: float
    last: float
    an_hour: float


def slopes(samples: Sequence[Sample]) -> list[Slope]:
    """Of each kind and service, by the line that fits best; none of less than three samples."""
    after_start = samples[int(WARM_SHARE * len(samples)) :]
    found = []
    for kind in KINDS:
        for service in sorted({service for sample in after_start for service in sample.held[kind]}):
            points = [
                (sample.at_s / 3_600, sample.held[kind][service]) for sample in after_start if service in sample.held[kind]
            ]
            if len(points) >= 3:
                hours, values = zip(*points, strict=True)
                found.append(Slope(kind, service, values[0], values[-1], float(np.polyfit(hours, values, 1)[0])))
    return found
