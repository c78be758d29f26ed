"""What must be true of what was taken back: each layer leaves out what it knew to be forgotten, and nothing comes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psycopg

from tests.simulate.loss_check import Member

if TYPE_CHECKING:
    from tests.simulate.world import World

_KNOWN = "SELECT coalesce(max(number), 0) FROM serving.forgotten"
_LIVE = "SELECT run_id FROM serving.publication ORDER BY generation DESC LIMIT 1"
_TAKEN_OUT = "SELECT number FROM serving.forgotten WHERE run_id IS NOT NULL"


class ForgetChecker:
    """Knows of a world what every commit and every run has left out. `eye` is a connection as superuser."""

    def __init__(self, world: World, eye: psycopg.Connection[Any]) -> None:
        self._world, self._eye = world, eye
        self._not_counted: dict[int, set[int]] = defaultdict(set)
        """By partition the offsets whose records the speed layer has left out."""
        self._not_in_run: dict[int | None, set[tuple[int, int]]] = {None: set()}
        """By run, or none, the places of the records that its files said were forgotten."""

    def watch(self) -> None:
        """After each commit: what a run that was published in it has left out."""
        if (run_id := self._one(_LIVE)) not in self._not_in_run:
            # While it ran no file has changed: runs are given up before files keep to more.
            self._not_in_run[run_id] = {(p, at) for p, marks in self._world.marked.items() for at in marks}

    def counted(self, partition: int, times_ms: Mapping[int, int | None]) -> None:
        """The speed layer has just committed the records of these offsets and times, and knew what the database knows."""
        known = self._one(_KNOWN)
        forgotten = (at for at, time_ms in times_ms.items() if time_ms and self._world.statements.forgets(time_ms, known))
        self._not_counted[partition].update(forgotten)

    def left_out(self, cut: Mapping[int, int]) -> set[tuple[int, int]]:
        """The places of the records that readers are told are forgotten: by the live run below its cut, by commits above."""
        below = {(p, at) for p, at in self._not_in_run[self._one(_LIVE)] if at < cut.get(p, 0)}
        return below | {(p, at) for p, offsets in self._not_counted.items() for at in offsets if at >= cut.get(p, 0)}

    def check(self, verdicts: Mapping[Member, str]) -> None:
        """What a run has taken out of the views is in none of them, and does not come back. AssertionError if it is."""
        taken_out = {number for (number,) in self._eye.execute(_TAKEN_OUT).fetchall()}
        standing = [one for one in self._world.statements.standing if one.number in taken_out]
        for member, verdict in verdicts.items():
            if standing and verdict != "forgotten":
                by = [one for one in self._world.statements.naming(member.time_ms) if one in standing]
                assert not by, f"{member} is {verdict}, though a run has taken out what {by} forgets"

    def check_end(self, records: Mapping[int, Mapping[int, int]]) -> None:
        """No reject is stored that is forgotten, shown or not; `records` are the times of what was archived, by place."""
        for partition, offset in self._eye.execute('SELECT partition, "offset" FROM serving.reject').fetchall():
            time_ms = records.get(partition, {}).get(offset)
            assert time_ms is None or not self._world.statements.forgets(time_ms), (
                f"partition {partition}, offset {offset}: the database has a reject that is forgotten"
            )

    def _one(self, query: str) -> Any:
        found = self._eye.execute(query).fetchone()  # type: ignore[call-overload]
        return found[0] if found else None
