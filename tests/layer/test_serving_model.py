"""The hand-off under random interleavings of everything that may happen: merged = truth, ledger balanced, after each step.

One count measure is enough here: rows of all measures move together, and other tests compare them.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import psycopg
import pytest

from batch.fold import Hashes, filter_of, ranges_of
from contract.errors import PublicationRefused, RollbackRefused, RunRefused
from contract.event import EVENT_SCHEMA
from contract.master import OffsetRange
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from serving.database import Connection, connect
from serving.day_filters import write_filters
from serving.handoff import Counts, Run, begin_run, collect_garbage, commit_range, fail_run, publish, write_task
from serving.rollback import rollback
from speed.day_filters import DayFilters
from speed.dedupe import Identities
from tests.fixtures.handoff import batch_rows
from tests.fixtures.pageviews import NO_REJECTS, TODAY, reject

INTERLEAVINGS = int(os.environ.get("INTERLEAVINGS", "120"))
KEEP_RUNS = 2
STEPS = (
    *("produce",) * 3, *("commit",) * 5, *("begin",) * 3, *("compute",) * 3, *("publish",) * 3,
    *("rollback",) * 2, *("collect",) * 3, "die", "rescue", "commit_again", *("replay",) * 2,
)  # fmt: skip
FILTER_PARTS = 2


@dataclass(frozen=True)
class Event:
    """An event of a day, by number; `again` if another record had it before. A layer may take it for none."""

    number: int
    day: date
    again: bool = False
    to_speed: bool = True
    to_batch: bool = True


class Pipeline:
    """The whole pipeline in one thread: a log a partition in memory, and the real functions."""

    def __init__(self, seed: int, speed: Connection, batch: Connection, owner: Connection) -> None:
        self.chance, self.layers = random.Random(seed), random.Random(f"layers of {seed}")
        self.speed, self.batch, self.owner = speed, batch, owner
        self.partitions = self.chance.randint(1, 3)
        # The event of each offset; None is a reject, to both layers for the same reason.
        self.log: list[list[Event | None]] = [[] for _ in range(self.partitions)]
        self.numbers = 0
        self.counted_days = DayFilters.of_database(lambda: speed, most_bytes=1)
        self.position = [0] * self.partitions
        self.committed: list[set[int]] = [set() for _ in range(self.partitions)]
        self.runs: dict[int, tuple[Run, str, list[date] | None]] = {}

    def produce(self) -> None:
        late = (0, 0, 0, 1, 2, 9)
        for _ in range(self.chance.randint(1, 4)):
            self.numbers += 1
            layers = self.layers.choice([(True, True)] * 7 + [(True, False), (False, True), (False, False)])
            event = Event(self.numbers, TODAY.date() - timedelta(days=self.chance.choice(late)), False, *layers)
            self.chance.choice(self.log).append(None if self.chance.random() < 0.1 else event)

    def replay(self) -> None:
        """Events that the live run has counted come again, in any partition; they count once, whatever the run becomes."""
        cut = dict(self.owner.execute("SELECT partition, next_offset FROM serving.live_cut").fetchall())
        records = [event for p in cut for event in self.log[p][: cut[p]] if event and not event.again]
        counted = [event for event in records if event.to_speed and event.to_batch]
        partition = self.chance.randrange(self.partitions)
        for event in self.chance.sample(counted, min(len(counted), 3)):
            self.log[partition].append(Event(event.number, event.day, again=True))
        self._advance(partition, len(self.log[partition]))

    def commit(self) -> None:
        partition = self.chance.randrange(self.partitions)
        self._advance(partition, self.chance.randint(self.position[partition], len(self.log[partition])))

    def _advance(self, partition: int, next_offset: int) -> None:
        first = self.position[partition]
        self.position[partition] = next_offset
        applied = self._commit(partition, first, self.position[partition])
        assert applied == (self.position[partition] > first)
        self.committed[partition].update(range(first, self.position[partition]))

    def commit_again(self) -> None:
        partition = self.chance.randrange(self.partitions)
        first = self.chance.randint(0, self.position[partition])
        assert not self._commit(partition, first, self.chance.randint(first, self.position[partition]))

    def _commit(self, partition: int, first: int, following: int) -> bool:
        records = self.log[partition][first:following]
        events = [event for event in records if event and event.to_speed]
        rejects = [
            rejected(partition, first + i, event, "speed")
            for i, event in enumerate(records)
            if event is None or not event.to_speed
        ]
        while True:
            fresh = [event for event, known in zip(events, self._known(events), strict=True) if not known]
            try:
                return commit_range(
                    self.speed,
                    OffsetRange(partition, first, following),
                    rows_of(Counter(event.day for event in fresh)),
                    Counts(len(records), len(fresh), len(events) - len(fresh)),
                    pl.concat([NO_REJECTS, *rejects]),
                    "pageviews",
                    self.counted_days.generation,
                )
            except PublicationRefused:
                self.counted_days.refresh()

    def _known(self, events: list[Event]) -> list[bool]:
        days = np.array([event.day for event in events], "datetime64[D]").astype(np.int64)
        known: list[bool] = self.counted_days.repeats(Identities(days, hashes_of(events), days)).tolist()
        return known

    def begin(self) -> None:
        self._begin(None)

    def rescue(self) -> None:
        self._begin({p: self.chance.randint(0, len(self.log[p])) for p in range(self.partitions)})

    def _begin(self, archive: dict[int, int] | None) -> None:
        run = begin_run(self.batch, self.chance.choice(("full", "incremental", "incremental")), archive)
        self.position = [run.cut[p].next_offset for p in range(self.partitions)]
        kind = self.owner.execute("SELECT kind FROM serving.run WHERE run_id = %s", [run.run_id]).fetchone()
        assert kind
        self.runs[run.run_id] = (run, kind[0], None)

    def _some_run(self, computed: bool) -> tuple[Run, str, list[date] | None] | None:
        fitting = [entry for entry in self.runs.values() if (entry[2] is not None) == computed]
        return self.chance.choice(fitting) if fitting else None

    def compute(self) -> None:
        entry = self._some_run(computed=False)
        if entry is None:
            return
        run, kind, _ = entry
        below = [
            (partition, offset, event)
            for partition in range(self.partitions)
            for offset, event in enumerate(self.log[partition][: run.cut[partition].next_offset])
            if event and event.to_batch
        ]
        dirty = {
            event.day for partition, offset, event in below
            if kind == "full" or partition not in run.base or offset >= run.base[partition].next_offset
        }  # fmt: skip
        try:
            self._write_filters(run, [event for *_, event in below if event.day in dirty])
            for day in sorted(dirty):
                received = Counter(partition for partition, _, event in below if event.day == day)
                # Of an event that came more than once the first by (partition, offset).
                firsts = {event.number: partition for partition, _, event in reversed(below) if event.day == day}
                counted = Counter(firsts.values())
                judged = [(day, p, counted[p], n - counted[p]) for p, n in received.items()]
                ledger = pl.DataFrame(judged, schema=LEDGER, orient="row")
                rows = rows_of(Counter({day: counted.total()}))
                assert write_task(self.batch, run.run_id, str(day), rows, ledger)
                if self.chance.random() < 0.2:
                    assert not write_task(self.batch, run.run_id, str(day), rows, ledger)
        except RunRefused:
            del self.runs[run.run_id]
        else:
            self.runs[run.run_id] = (run, kind, sorted(dirty))

    def _write_filters(self, run: Run, events: list[Event]) -> None:
        of_day = {event.day: hashes_of([e for e in events if e.day == event.day]) for event in events}
        for part in range(FILTER_PARTS):
            inside = {day: ranges_of(hashes, FILTER_PARTS)[part] for day, hashes in of_day.items()}
            filters = {day: filter_of(hashes, 1e-12) for day, hashes in inside.items() if len(hashes)}
            assert write_filters(self.batch, run.run_id, part, FILTER_PARTS, filters)

    def publish(self) -> None:
        entry = self._some_run(computed=True)
        if entry is None:
            return
        run, kind, days = entry
        del self.runs[run.run_id]
        cut = {p: run.cut[p].next_offset for p in run.cut}
        first = {p: run.base[p].next_offset if kind != "full" and p in run.base else 0 for p in run.cut}
        rejects = [
            (OffsetRange(p, first[p], cut[p]), pl.concat([NO_REJECTS, *self._archived_rejects(p, first[p], cut[p])]))
            for p in range(self.partitions)
        ]
        live = self._live()
        try:
            publish(self.batch, run.run_id, days or [], cut, rejects, "pageviews")
        except RunRefused:
            assert live != run.base_generation

    def _archived_rejects(self, partition: int, first: int, following: int) -> list[pl.DataFrame]:
        return [
            rejected(partition, offset, self.log[partition][offset], "batch")
            for offset in range(first, following)
            if not is_event(self.log[partition][offset], "batch")
        ]

    def die(self) -> None:
        if self.runs:
            run_id = self.chance.choice(list(self.runs))
            if self.chance.random() < 0.5:
                fail_run(self.batch, run_id, "killed")
            del self.runs[run_id]

    def rollback(self) -> None:
        """To any run; where that would leave a hole, or cannot be, it must be refused."""
        kept = [row[0] for row in self.owner.execute("SELECT run_id FROM serving.publication ORDER BY generation")]
        target = self.chance.choice([*kept, 4711])
        live_cut = self._cut(kept[-1]) if kept else {}
        cut = self._cut(target)
        leaves_a_hole = any(
            cut.get(partition, 0) < next_offset <= live_cut.get(partition, 0) and speed_offset < next_offset
            for partition, speed_offset, next_offset in self.owner.execute(
                "SELECT partition, speed_offset, next_offset FROM serving.run_cut"
            )
        )
        try:
            done = rollback(self.batch, target)
        except RollbackRefused:
            assert target not in kept[:-1] or target == kept[-1] or leaves_a_hole
        else:
            assert target in kept[:-1]
            assert not leaves_a_hole
            assert {part.partition: part.first_offset for part in done.filled} == dict.fromkeys(
                range(self.partitions), 0
            ) | cut

    def _cut(self, run_id: int) -> dict[int, int]:
        query = "SELECT partition, next_offset FROM serving.run_cut WHERE run_id = %s"
        return dict(self.owner.execute(query, [run_id]).fetchall())

    def collect(self) -> None:
        collect_garbage(self.batch, KEEP_RUNS)

    def _live(self) -> int:
        row = self.owner.execute("SELECT coalesce(max(generation), 0) FROM serving.publication").fetchone()
        assert row
        return int(row[0])

    def check(self) -> str | None:
        ledger = {
            row[0]: row
            for row in self.owner.execute(
                "SELECT partition, next_offset, in_flight, difference, batch_next_offset FROM ledger"
            )
        }
        assert [ledger[p][1] for p in range(self.partitions)] == self.position
        if unbalanced := [row for row in ledger.values() if row[3]]:
            return f"ledger {unbalanced}"
        # What a run took over from the speed layer is in no row until a run with it is live: the ledger calls it in flight.
        counted = [self.committed[p] | set(range(ledger[p][4])) for p in range(self.partitions)]
        in_flight = [self.position[p] - len(counted[p]) for p in range(self.partitions)]
        assert [ledger[p][2] for p in range(self.partitions)] == in_flight
        places = [
            (p, offset, "batch" if offset < ledger[p][4] else "speed") for p in ledger for offset in sorted(counted[p])
        ]
        judged = [(p, offset, self.log[p][offset], layer) for p, offset, layer in places]
        truth = Counter(event.day for _, _, event, layer in judged if event and is_event(event, layer) and not event.again)
        quarantine = [(p, offset, detail(event, layer)) for p, offset, event, layer in judged if not is_event(event, layer)]
        if self.owner.execute(QUARANTINE).fetchall() != sorted(quarantine):
            return f"quarantine is not {sorted(quarantine)}"
        merged = dict(
            self.owner.execute(
                "SELECT (bucket AT TIME ZONE 'UTC')::date, sum(views)::bigint FROM site_traffic GROUP BY 1"
            ).fetchall()
        )
        return None if merged == truth else f"merged {merged} truth {dict(truth)}"


QUARANTINE = 'SELECT partition, "offset", detail FROM quarantine ORDER BY 1, 2, 3'
LEDGER = {"day": pl.Date, "partition": pl.Int32, "counted": pl.Int64, "duplicate": pl.Int64}
_events: dict[date, pl.DataFrame] = {}


def is_event(event: Event | None, layer: str) -> bool:
    """Whether the layer takes the record for an event."""
    return event is not None and (event.to_speed if layer == "speed" else event.to_batch)


def detail(event: Event | None, layer: str) -> str:
    """What the layer says of a record that is none to it."""
    return "nothing" if event is None else f"to {layer}"


def rejected(partition: int, offset: int, event: Event | None, layer: str) -> pl.DataFrame:
    """The same as the decoder of the layer says it."""
    return reject(partition, offset).with_columns(detail=pl.lit(detail(event, layer)))


def hashes_of(events: list[Event]) -> Hashes:
    """A hash of each, as contract.aggregate.identity_hashes would give one."""
    return np.array([random.Random(event.number).getrandbits(64) for event in events], np.uint64)


def rows_of(days: Counter[date]) -> dict[str, pl.DataFrame]:
    """Rows of so many equal events on each day."""
    frames = []
    for day, count in days.items():
        if day not in _events:
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            event = (0, 0, noon, "id", noon, "demo", "/", "visitor", 200, 1, 5.0, None, None)
            _events[day] = pl.DataFrame([event], schema=EVENT_SCHEMA, orient="row")
        frames += [_events[day]] * count
    return batch_rows(pl.concat(frames)) if frames else {}


# Tables in an order that foreign keys allow. For so few rows DELETE is far faster than TRUNCATE.
CLEAR = "; ".join(
    f"DELETE FROM {table}"
    for table in (
        *("serving.reject", "serving.speed_progress", "serving.speed_ledger", "serving.run_cut", "serving.run_task"),
        *("serving.run_day", "serving.day_filter", "serving.batch_ledger", "serving.publication", "serving.run"),
        *(f"serving.speed_{view.name}" for view in VIEWS),
        *(f"serving.batch_{view.name}" for view in with_rollups(VIEWS)),
    )
)


def first_wrong(database: Settings, interleavings: int) -> str | None:
    """What is wrong after which step of which seed; None if nothing ever is."""
    with connect(database, "speed") as speed, connect(database, "batch") as batch, connect(database, "postgres") as owner:
        for seed in range(interleavings):
            owner.execute(CLEAR)
            pipeline = Pipeline(seed, speed, batch, owner)
            owner.execute("SELECT serving.positions(%s)", [pipeline.partitions])
            for step in range(pipeline.chance.randint(10, 60)):
                name = pipeline.chance.choice(STEPS)
                try:
                    getattr(pipeline, name)()
                    wrong = pipeline.check()
                except (AssertionError, psycopg.Error) as error:
                    wrong = repr(error)
                if wrong:
                    return f"seed {seed} step {step} {name}: {wrong}"
    return None


def test_merged_is_truth_after_every_step(database: Settings) -> None:
    assert first_wrong(database, INTERLEAVINGS) is None


@pytest.mark.parametrize(
    ("object_name", "guard", "without"),
    [
        ("commit_range", "position_before <> first_offset", "false"),
        ("commit_range", "judged_generation <> live_generation", "false"),
        ("begin_run", "epoch = p.epoch + 1", "epoch = p.epoch"),
        ("write_task", "IF NOT written", "IF false"),
        ("publish", "<> planned.base_generation", "< 0"),
        ("add_rejects", "FROM unnest(rejects) AS n", "FROM unnest(rejects) AS n WHERE layer <> 'batch'"),
        ("judge_rejects", "r.judged_by = 'both'", "false"),
        ("absorbed_epoch", "min(", "max("),
        ("collect_run_day", "serving.publication_day AS p", "serving.live_day AS p"),
        ("require_kept", "missing IS NOT NULL", "false"),
    ],
)
def test_each_guard_is_needed(database: Settings, object_name: str, guard: str, without: str) -> None:
    with connect(database, "postgres") as owner:
        kind = "view" if object_name == "absorbed_epoch" else "function"
        row = owner.execute(
            f"SELECT pg_get_{kind}def('serving.{object_name}'::{'regclass' if kind == 'view' else 'regproc'})"
        ).fetchone()
        assert row
        assert guard in row[0]
        prefix = f"CREATE OR REPLACE VIEW serving.{object_name} AS " if kind == "view" else ""
        owner.execute((prefix + row[0].replace(guard, without)).encode())
    # Some need an order of steps that is rare; the search ends at the first wrong answer.
    assert first_wrong(database, 20 * INTERLEAVINGS) is not None
