"""Up to which moment all is counted that Kafka had; what is not counted is not known, which is not the same as none.

Kafka is asked how far it is, the database how far the speed layer has counted. A moment is covered once the layer has
counted what Kafka had at that moment. Where Kafka does not answer, or the layer stands still, the moment stands still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from serving.page.series import NOT_KNOWN_AFTER_S

_SAMPLES = 4_096
SLOT_S = 10
_SLOTS = 360


@dataclass(frozen=True)
class _Sample:
    at_s: float
    ends: Mapping[int, int]


class Freshness:
    """What was told last, and how it was over the last hour. Times are Unix seconds, offsets Kafka's own next ones."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._slots: deque[tuple[int, float]] = deque(maxlen=_SLOTS)
        self.known_until_s: float | None = None

    def kafka_has(self, at_s: float, ends: Mapping[int, int]) -> None:
        """Of each partition, as it was not earlier than `at_s`."""
        self._samples.append(_Sample(at_s, ends))
        if len(self._samples) > _SAMPLES:
            # Nobody has counted for long. Every second one says nearly as much.
            kept = list(self._samples)
            self._samples = deque([*kept[:-1:2], kept[-1]])

    def is_counted(self, at_s: float, positions: Mapping[int, int]) -> float | None:
        """The moment up to which all was counted at `at_s`; None as long as that is not known."""
        if not self._samples:
            return self.known_until_s
        partitions = self._samples[-1].ends
        covered = [self._covered(partition, positions.get(partition, 0)) for partition in partitions]
        # guard: before the first moment that is covered nothing is known
        if None in covered:
            return self.known_until_s
        found = min((one for one in covered if one is not None), default=self._samples[-1].at_s)
        while len(self._samples) > 1 and self._samples[1].at_s <= found:
            self._samples.popleft()
        # It never goes back: what was counted stays counted.
        self.known_until_s = found if self.known_until_s is None else max(found, self.known_until_s)
        self._slots_see(at_s, at_s - self.known_until_s)
        return self.known_until_s

    def is_late(self, now_s: float) -> bool:
        """Whether it is not known what happens now."""
        return self.known_until_s is None or now_s - self.known_until_s > NOT_KNOWN_AFTER_S

    def behind_s(self, now_s: float) -> float | None:
        """For how long nothing has been covered, as far as that was seen."""
        since_s = self.known_until_s if self.known_until_s is not None else self._samples[0].at_s if self._samples else None
        return None if since_s is None else now_s - since_s

    def _covered(self, partition: int, counted: int) -> float | None:
        """Between two moments offsets are taken to have come evenly. None: not even the first one is counted."""
        later: _Sample | None = None
        for sample in reversed(self._samples):
            end = sample.ends.get(partition, 0)
            if end <= counted:
                if later is None:
                    return sample.at_s
                came = later.ends.get(partition, 0) - end
                return sample.at_s + (later.at_s - sample.at_s) * (counted - end) / came
            later = sample
        return None

    def _slots_see(self, at_s: float, age_s: float) -> None:
        slot = int(at_s) // SLOT_S * SLOT_S
        if self._slots and self._slots[-1][0] == slot:
            age_s = max(age_s, self._slots.pop()[1])
        self._slots.append((slot, age_s))

    def history(self, now_s: float) -> dict[str, list[float | None]]:
        """Of each ten seconds of the last hour the oldest age; None where nobody knew."""
        last = int(now_s) // SLOT_S * SLOT_S
        known = dict(self._slots)
        at: list[float | None] = [last - SLOT_S * number for number in reversed(range(_SLOTS))]
        return {"at": at, "age_s": [known.get(int(slot)) if slot is not None else None for slot in at]}
