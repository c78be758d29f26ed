"""What the servers have said so far, for all loops of the page: they run in one thread, so none waits for another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.page.freshness import Freshness
from serving.page.outages import Outages
from serving.page.servers import Server
from serving.page.source import Source
from serving.status import Status


@dataclass
class Heard:
    """`ends` are Kafka's, `positions` the speed layer's with their shift, `answers` those of all servers by name."""

    servers: tuple[Server, ...]
    database: Source = field(default_factory=Source)
    kafka: Source = field(default_factory=Source)
    freshness: Freshness = field(default_factory=Freshness)
    outages: Outages = field(default_factory=Outages)
    ends: Mapping[int, int] = field(default_factory=dict)
    positions: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    answers: Mapping[str, str | None] = field(default_factory=dict)
    status: Status | None = None
    _archive_since: dict[int, tuple[int, float]] = field(default_factory=dict)

    def take_status(self, status: Status, now_s: float) -> None:
        """What `make status` knows now."""
        self.status = status
        for position in status.positions:
            at, since_s = self._archive_since.get(position.partition, (None, now_s))
            if position.archive is None:
                continue
            moved = position.archive != at or not position.archive_lag
            self._archive_since[position.partition] = (position.archive, now_s if moved else since_s)

    def archive_stood_s(self, now_s: float) -> dict[int, float]:
        """By partition, for how long the archive has come no further although there is more."""
        return {partition: now_s - since_s for partition, (_, since_s) in self._archive_since.items()}
