"""What must be true after every step: merged = oracle, the ledger exact, nothing lost but what is announced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import psycopg

from batch.audit_logs import check_changes
from batch.findings import Check
from contract.views import VIEWS, View, with_rollups
from tests.fixtures.views import as_the_oracle_has_them, stored_rows
from tests.oracle import Record, expected_rows, pipeline
from tests.simulate.archive_check import ArchiveChecker
from tests.simulate.forget_check import ForgetChecker
from tests.simulate.loss_check import LossChecker, Lost, Member, Progress
from tests.simulate.world import World

_PROGRESS = "SELECT partition, next_offset, epoch, topic_id, leader_epoch, shift FROM serving.speed_progress ORDER BY 1"
_LEDGER = (
    "SELECT partition, next_offset, in_flight, received, counted, duplicate, quarantined, forgotten, difference, lost "
    "FROM ledger ORDER BY 1"
)
_CUT = "SELECT partition, next_offset FROM serving.live_cut ORDER BY 1"
_LOST = "SELECT partition, first_offset, next_offset, is_gap, run_id FROM serving.lost_offsets ORDER BY 1, 2"
# Offsets that a run took over from a lagging speed layer, and that no live run covers.
_IN_FLIGHT = """
SELECT r.partition, r.speed_offset, r.next_offset FROM serving.run_cut AS r
LEFT JOIN serving.live_cut AS c USING (partition)
WHERE r.next_offset > coalesce(c.next_offset, 0) AND r.next_offset > r.speed_offset ORDER BY 1, 2
"""


class Checker:
    """Compares a world with the truth; `eye` is a connection of its own, as superuser."""

    def __init__(self, world: World, eye: psycopg.Connection[Any]) -> None:
        self._world, self._eye = world, eye
        self._archive = ArchiveChecker(world)
        self._commits = self._watched = -1
        self._progress: dict[int, Progress] = {}
        self._losses = LossChecker(world, self._archive)
        self._forgetting = ForgetChecker(world, eye)
        world.watch = self.watch

    def watch(self) -> None:
        """After each step: which records the speed layer has counted, if it has committed. AssertionError as `check`."""
        self._archive.look()
        if self._world.sessions.commits == self._watched:
            return
        self._watched = self._world.sessions.commits
        self._forgetting.watch()
        for partition, *row in self._eye.execute(_PROGRESS).fetchall():
            before, at = self._progress.get(partition, Progress()), Progress(*row)
            assert at.next_offset >= before.next_offset, f"partition {partition} went back to {at.next_offset}"
            # A run that begins may move a position too, but the records are the archive's then.
            if at.epoch == before.epoch and at.next_offset > before.next_offset:
                self._counted(partition, before, at)
            self._progress[partition] = at

    def check(self) -> None:
        """AssertionError that says what differs."""
        self._archive.check()
        if self._world.sessions.commits != self._commits:
            self._commits = self._world.sessions.commits
            self._check_database()

    def check_end(self) -> None:
        """All that Kafka has is archived and counted, by a batch run; and what is lost is what was announced."""
        self._commits = -1
        self.check()
        ledger = self._eye.execute("SELECT partition, next_offset, batch_next_offset, in_flight FROM ledger").fetchall()
        ends = {partition: end.next_offset for partition, end in self._world.ends().items()}
        assert {p: (a, b, c) for p, a, b, c in ledger} == {p: (end, end, 0) for p, end in ends.items()}
        self._losses.check_end(self._lost)
        self._forgetting.check_end(self._archive.records)
        audited = Check("archive")
        for partition in self._world.archived_partitions():
            check_changes(self._world.settings, partition, self._world.stored.ends(partition), audited)
        assert not audited.findings, f"the audit of a good archive finds {audited.findings}"

    def _counted(self, partition: int, before: Progress, at: Progress) -> None:
        """A commit says of which log its records were; whether they were, the views will show."""
        log = self._world.logs.log(partition, at.topic_id, at.leader_epoch)
        if before.next_offset > before.shift and before.topic_id is not None:
            had = self._world.logs.log(partition, before.topic_id, before.leader_epoch)
            assert log.agrees(had, before.next_offset - at.shift), (
                f"partition {partition}: the speed layer went on at {before.next_offset} in a log that lost what it had read"
            )
        read = {offset: log.time_at(offset - at.shift) for offset in range(before.next_offset, at.next_offset)}
        self._world.read.setdefault(partition, {}).update(read)
        self._forgetting.counted(partition, read)

    @property
    def _lost(self) -> list[Lost]:
        """What is announced."""
        return [Lost(*row) for row in self._eye.execute(_LOST).fetchall()]

    def _check_database(self) -> None:
        with self._eye.transaction():
            self._eye.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            ledger = self._eye.execute(_LEDGER).fetchall()
            cut: dict[int, int] = dict(self._eye.execute(_CUT).fetchall())
            in_flight = self._eye.execute(_IN_FLIGHT).fetchall()
            lost = self._lost
            merged = {view.name: self._rows(view) for view in with_rollups(VIEWS)}
            drift = self._eye.execute("SELECT * FROM drift_summary WHERE verdict <> 'equal'").fetchall()
            quarantine = self._eye.execute('SELECT partition, "offset" FROM quarantine ORDER BY 1, 2').fetchall()
        assert not drift, f"batch and speed rows of the same offsets differ: {drift}"
        holes: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for partition, first, after in in_flight:
            holes[partition].append((first, after))
        gone = {place for one in lost if one.is_gap and one.run_id is not None for place in one.places}
        members: list[Member] = []
        hidden: list[Member] = []
        for partition, next_offset, flying, *_ in ledger:
            assert flying == sum(b - a for a, b in holes[partition]), f"partition {partition}: {flying} offsets in flight"
            left_out = _Ranges(range(a, b) for a, b in holes[partition])
            members += self._batch_part(partition, cut.get(partition, 0), gone)
            members += self._speed_part(partition, cut.get(partition, 0), next_offset, left_out)
            archived = self._archive.records.get(partition, {})
            hidden += [Member(partition, at, time_ms) for at, time_ms in archived.items() if at in left_out]
        verdicts = self._judged(members, hidden, self._forgetting.left_out(cut))
        self._forgetting.check(verdicts)
        for partition, _, _, *sides, said_lost in ledger:
            of_partition = [verdict for one, verdict in verdicts.items() if one.partition == partition]
            truth = [of_partition.count(verdict) for verdict in ("counted", "duplicate", "quarantined", "forgotten")]
            assert sides == [len(of_partition), *truth, 0], (
                f"partition {partition}: ledger {sides}, truth {[len(of_partition), *truth]}"
            )
            announced = sum(len(one.places) for one in lost if one.partition == partition)
            assert said_lost == announced, f"partition {partition}: {said_lost} offsets are lost, {announced} are named"
        rejected = sorted((one.partition, one.offset) for one, verdict in verdicts.items() if verdict == "quarantined")
        assert quarantine == rejected, f"quarantine {quarantine}, truth {rejected}"
        counted = sorted(self._record(one) for one, verdict in verdicts.items() if verdict == "counted")
        for view, rows in _expected(tuple(counted)):
            has = merged[view.name]
            assert has == rows, f"{view.name}: merged {_sums(view, has)}, truth {_sums(view, rows)}"
        assert len({one.time_ms for one in members}) == len(members), "a record is there twice"
        self._losses.check(lost, {one.time_ms: one for one in members}, self._progress)

    def _batch_part(self, partition: int, cut: int, gone: set[tuple[int, int]]) -> Iterable[Member]:
        """Below the live cut the archive's records count, until a run is published that knows them to be lost."""
        archived = self._archive.records.get(partition, {})
        below = ((at, time_ms) for at, time_ms in archived.items() if at < cut and (partition, at) not in gone)
        return [Member(partition, at, time_ms) for at, time_ms in below]

    def _speed_part(self, partition: int, cut: int, next_offset: int, left_out: _Ranges) -> Iterable[Member]:
        """Above it those that the speed layer has read."""
        read = self._world.read.get(partition, {})
        offsets = (offset for offset in range(cut, next_offset) if offset not in left_out)
        return [Member(partition, at, time_ms) for at in offsets if (time_ms := read[at]) is not None]

    def _judged(
        self, members: Iterable[Member], hidden: Iterable[Member], left_out: set[tuple[int, int]]
    ) -> dict[Member, str]:
        """Of records that are the same event the first one that there is counts, also while a run in flight has it.

        What is left out as forgotten is not there.
        """
        verdicts = {one: "forgotten" for one in members if (one.partition, one.offset) in left_out}
        same: dict[int, list[Member]] = defaultdict(list)
        for one in (*members, *(one for one in hidden if one.offset not in self._world.marked.get(one.partition, {}))):
            if one in verdicts:
                continue
            if self._world.logs.sent[one.time_ms].day is None:
                verdicts[one] = "quarantined"
            else:
                same[self._world.logs.first_of(one.time_ms)].append(one)
        for first_ms, some in same.items():
            first = min(some, key=lambda one: (one.time_ms != first_ms, one.partition, one.offset))
            verdicts |= {one: "counted" if one is first else "duplicate" for one in some}
        return {one: verdicts[one] for one in members}

    def _record(self, one: Member) -> Record:
        return one.partition, one.offset, one.time_ms, self._world.logs.sent[one.time_ms].value

    def _rows(self, view: Any) -> list[tuple[Any, ...]]:
        columns = ", ".join((*view.group, *(measure.name for measure in view.measures)))
        rows = self._eye.execute(f"SELECT {columns} FROM {stored_rows(view)} ORDER BY {', '.join(view.group)}")  # type: ignore[arg-type]
        return as_the_oracle_has_them(view, rows)


class _Ranges:
    """Offsets that are in some of the ranges."""

    def __init__(self, ranges: Iterable[range]) -> None:
        self._ranges = list(ranges)

    def __contains__(self, offset: int) -> bool:
        return any(offset in one for one in self._ranges)


@lru_cache(maxsize=1_000)
def _expected(records: tuple[Record, ...]) -> list[tuple[View, list[tuple[Any, ...]]]]:
    outcome = pipeline(records)
    return [(view, expected_rows(outcome, view.name)) for view in with_rollups(VIEWS)]


def _sums(view: View, rows: list[tuple[Any, ...]]) -> str:
    return f"{len(rows)} rows, {sum(row[len(view.group)] for row in rows)} views"
