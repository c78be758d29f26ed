"""The numbers of the architecture's example of the hand-off are what readers have, on a real database, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from batch.fold import LEDGER, filter_of, fold, hashes_by_day, in_order, outputs_of, with_rollup
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.records import Records
from contract.settings import Settings
from serving.database import Connection, connect
from serving.day_filters import write_filters
from serving.handoff import Counts, Run, begin_run, commit_range, positions, publish, write_task
from serving.rollback import rollback
from speed.day_filters import DayFilters
from speed.dedupe import RecentEvents
from speed.range_counter import Counted, RangeCounter
from tests.fixtures.handoff import TOPIC, ledger
from tests.fixtures.pageviews import NO_REJECTS
from tests.fixtures.worked_examples import CAME_MS, events_of, section, table, value

TITLE = "The hand-off, with numbers"
RATE = 1e-12
# Offset 5 is the event of offset 1 again, offset 10 that of offset 2; the event of offset 9 is of the day before.
LOG = [*(value(name, 21) for name in "abcdebfgh"), value("i", 20), value("c", 21)]


class MemoryReader:
    """The partition in memory."""

    def __init__(self) -> None:
        self._at = 0

    def read(self, wanted: OffsetRange) -> tuple[OffsetRange, Records]:
        self._at = wanted.next_offset
        offsets = list(range(wanted.first_offset, wanted.next_offset))
        return wanted, Records.of(offsets, [CAME_MS] * len(offsets), [LOG[offset] for offset in offsets])

    def low_offset(self) -> int:
        return 0

    def stands_at(self, offset: int) -> bool:
        return self._at == offset

    def go_on(self, position: LogPosition) -> None:
        self._at = position.next_offset

    def position(self) -> LogPosition:
        return LogPosition(self._at)


class HandOff:
    """The example's partition, as both strands and a reader have it."""

    def __init__(self, speed: Connection, batch: Connection, reader: Connection, owner: Connection) -> None:
        self._speed, self._batch, self._reader, self._owner = speed, batch, reader, owner
        self._commits: list[tuple[OffsetRange, Counted]] = []
        self._runs: list[Run] = []
        # So narrow a window that offset 2 is known by the day filter alone when it comes again.
        self._counter = RangeCounter(
            MemoryReader(),
            RecentEvents(2, RATE),
            DayFilters.of_database(lambda: speed, 1 << 20, print),
            self._commit,
            lambda partition: positions(speed)[partition],
            print,
            1_000,
        )

    def _commit(self, offsets: OffsetRange, counted: Counted) -> bool:
        counts = Counts(counted.received, counted.counted, counted.duplicate, counted.forgotten)
        is_new = commit_range(
            self._speed, offsets, counted.rows, counts, counted.rejects, TOPIC, counted.generation, position=counted.position
        )
        self._commits.append((offsets, counted))
        return is_new

    def commit(self, first: int, after: int) -> None:
        self._counter.count(OffsetRange(0, first, after))

    def commit_again(self) -> None:
        assert not self._commit(*self._commits[-1])

    def begin(self) -> None:
        self._runs.append(begin_run(self._batch, "incremental"))

    def compute_and_publish(self) -> None:
        run = self._runs[-1]
        events = events_of(0, 0, LOG[: run.cut[0].next_offset])
        rows = fold(events)
        views = {
            name: frame
            for output in outputs_of()
            if output != LEDGER
            for name, frame in with_rollup(output, rows[output]).items()
        }
        write_task(self._batch, run.run_id, "all", views, rows[LEDGER])
        filters = {day: filter_of(in_order([hashes]), RATE) for day, hashes in hashes_by_day(events).items()}
        write_filters(self._batch, run.run_id, 0, 1, filters)
        received = {partition: cut.next_offset for partition, cut in run.cut.items()}
        judged = [(OffsetRange(partition, 0, offset), NO_REJECTS) for partition, offset in received.items() if offset]
        publish(self._batch, run.run_id, rows[LEDGER]["day"].unique().to_list(), received, judged, TOPIC)

    def roll_back(self) -> None:
        rollback(self._batch, self._runs[0].run_id)

    def row(self) -> list[str]:
        """Position, epoch, live cut, and what the query sums."""
        asked = "SELECT next_offset, epoch FROM serving.{} WHERE partition = 0"
        ((position, epoch),) = self._owner.execute(asked.format("speed_progress")).fetchall()
        cut = self._owner.execute(asked.format("live_cut")).fetchone()
        sums = self._reader.execute(
            "SELECT coalesce(sum(batch_views), 0), coalesce(sum(speed_views), 0), coalesce(sum(views), 0) FROM page_traffic"
        ).fetchone()
        assert sums
        live = f"{cut[0]}, epoch {cut[1]}" if cut else "none"
        return [str(position), str(epoch), live, *(str(int(one)) for one in sums)]


@pytest.fixture
def hand_off(database: Settings, speed: Connection, batch: Connection, reader: Connection) -> Iterator[HandOff]:
    with connect(database, "postgres") as owner:
        yield HandOff(speed, batch, reader, owner)


def test_the_numbers_of_the_hand_off_are_what_readers_have(hand_off: HandOff, reader: Connection) -> None:
    steps: list[tuple[str, Callable[[], None]]] = [
        ("speed commits [0, 6):", lambda: hand_off.commit(0, 6)),
        ("speed commits [0, 6) again", hand_off.commit_again),
        ("run 1 begins", hand_off.begin),
        ("speed commits [6, 9),", lambda: hand_off.commit(6, 9)),
        ("run 1 is published", hand_off.compute_and_publish),
        ("speed commits [9, 11):", lambda: hand_off.commit(9, 11)),
        ("run 2 begins", hand_off.begin),
        ("run 2 is published", hand_off.compute_and_publish),
        ("`make rollback` to run 1", hand_off.roll_back),
    ]
    told = table(TITLE)
    assert len(told) == len(steps)
    for (name, step), (what, *numbers) in zip(steps, told, strict=True):
        assert what.startswith(name)
        step()
        assert hand_off.row() == numbers, what
    # What a reader adds up changes by commits alone, and only ever grows.
    assert all(int(before[-1]) <= int(after[-1]) for before, after in pairwise(told))
    ((_, sums),) = [item for item in ledger(reader).items() if item[0] == 0]
    said = ", ".join(f"{name} {sums[name]}" for name in ("received", "counted", "duplicate", "difference"))
    assert f"the ledger of the partition says: {said}." in " ".join(section(TITLE).split())
