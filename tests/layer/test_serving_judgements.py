"""Layers whose decoders differ: below the cut quarantine and ledger follow the archive, above it the speed layer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl
import pytest

from contract.aggregate import aggregate
from contract.errors import RollbackRefused, RunRefused
from contract.event import REJECT_SCHEMA
from contract.losses import Loss
from contract.master import OffsetRange
from contract.replays import Judged
from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, connect, one_value
from serving.handoff import Counts, Kind, Run, begin_run, collect_garbage, commit_range, publish, record_lost
from serving.migrate import migrate
from serving.replays import resolve
from serving.rollback import rollback
from serving.row_arrays import row_array
from tests.fixtures.eventually import eventually
from tests.fixtures.handoff import TOPIC, assert_merged, commit, compute, ledger
from tests.fixtures.pageviews import NO_REJECTS, TODAY, events

Bad = dict[int, str]
"""The records of partition 0 that a layer rejects: offset and reason."""


@dataclass(frozen=True)
class Layers:
    """What each layer rejects of a hundred records."""

    speed: Bad
    archive: Bad

    def of_speed(self, first_offset: int = 0) -> Bad:
        """The same of the hundred from there on."""
        return {first_offset + offset: reason for offset, reason in self.speed.items()}

    def of_archive(self, first_offset: int = 0) -> Bad:
        """The same of the hundred from there on."""
        return {first_offset + offset: reason for offset, reason in self.archive.items()}


CASES = {
    "speed is stricter": Layers({40: "not_json"}, {}),
    "speed is laxer": Layers({}, {40: "not_json"}),
    "the reason differs": Layers({40: "not_json"}, {40: "bad_time"}),
    "all at once": Layers(
        {0: "not_json", 7: "not_json", 40: "not_json", 99: "bad_time"},
        {7: "not_json", 40: "bad_time", 41: "not_json", 98: "bad_time"},
    ),
}


def rejects(bad: Bad, first_offset: int = 0, next_offset: int = 1_000) -> pl.DataFrame:
    """Those inside the range, as the decoder gives them."""
    rows = [
        (0, offset, TODAY, reason, f"{reason} at {offset}", 1, b"{")
        for offset, reason in sorted(bad.items())
        if first_offset <= offset < next_offset
    ]
    return pl.DataFrame(rows, schema=REJECT_SCHEMA, orient="row")


def good(frame: pl.DataFrame, bad: Bad, first_offset: int, next_offset: int) -> pl.DataFrame:
    """The others inside the range."""
    inside = frame.filter(pl.col("offset").is_between(first_offset, next_offset, closed="left"))
    return inside.filter(~pl.col("offset").is_in(list(bad)))


def count(speed: Connection, frame: pl.DataFrame, bad: Bad, first_offset: int, next_offset: int, topic: str = TOPIC) -> None:
    """A speed commit of the range, judged so."""
    events_inside = good(frame, bad, first_offset, next_offset)
    counts = Counts(next_offset - first_offset, len(events_inside), 0)
    offsets = OffsetRange(0, first_offset, next_offset)
    rejected = rejects(bad, first_offset, next_offset)
    assert commit_range(speed, offsets, aggregate(events_inside, VIEWS), counts, rejected, topic)


def run_of(batch: Connection, kind: Kind, frame: pl.DataFrame, bad: Bad) -> Run:
    """A run that is published, with what the archive says so below its cut."""
    run = begin_run(batch, kind)
    first, after = run.base[0].next_offset if kind == "incremental" and run.base else 0, run.cut[0].next_offset
    days = compute(batch, run, good(frame, bad, 0, after))
    judged = [(OffsetRange(0, first, after), rejects(bad, first, after))]
    publish(batch, run.run_id, days, {0: after, 1: 0, 2: 0, 3: 0}, judged, TOPIC)
    return run


def assert_judged(reader: Connection, frame: pl.DataFrame, *judged: tuple[int, int, Bad]) -> None:
    """Views, ledger and quarantine hold these ranges, from offset 0 on, each judged so."""
    assert_merged(reader, pl.concat([good(frame, bad, first, after) for first, after, bad in judged]))
    state = ledger(reader)[0]
    wrong = pl.concat([rejects(bad, first, after) for first, after, bad in judged])
    end = judged[-1][1]
    sides = ("received", "counted", "duplicate", "quarantined", "difference")
    assert tuple(state[side] for side in sides) == (end, end - len(wrong), 0, len(wrong), 0)
    rows = reader.execute('SELECT "offset", reason, detail FROM quarantine ORDER BY 1').fetchall()
    assert rows == wrong.select("offset", "reason", "detail").rows()


@pytest.fixture
def rows_of_rejects(database: Settings) -> Callable[[], list[tuple[object, ...]]]:
    """All that is stored, and which transaction stored it."""

    def ask() -> list[tuple[object, ...]]:
        with connect(database, "postgres") as owner:
            query = 'SELECT "offset", topic, judged_by, reason, xmin::text, ctid::text FROM serving.reject ORDER BY 1, 3'
            return owner.execute(query).fetchall()

    return ask


@pytest.mark.parametrize("kind", ["incremental", "full"])
@pytest.mark.parametrize("case", CASES)
def test_a_publication_makes_the_archives_judgement_true_and_a_rollback_the_speed_layers_again(
    speed: Connection, batch: Connection, reader: Connection, case: str, kind: Kind
) -> None:
    layers = CASES[case]
    frame = events(1, 0, 0, 200)
    by_speed = layers.of_speed() | layers.of_speed(100)
    by_archive = layers.of_archive() | layers.of_archive(100)
    count(speed, frame, by_speed, 0, 100)
    assert_judged(reader, frame, (0, 100, by_speed))
    first = run_of(batch, kind, frame, by_archive)
    assert_judged(reader, frame, (0, 100, by_archive))
    count(speed, frame, by_speed, 100, 200)
    assert_judged(reader, frame, (0, 100, by_archive), (100, 200, by_speed))
    second = run_of(batch, kind, frame, by_archive)
    assert_judged(reader, frame, (0, 200, by_archive))
    for _ in range(2):
        rollback(batch, first.run_id)
        assert_judged(reader, frame, (0, 100, by_archive), (100, 200, by_speed))
        rollback(batch, second.run_id)
        assert_judged(reader, frame, (0, 200, by_archive))
    rollback(batch, first.run_id)
    run_of(batch, kind, frame, by_archive)
    assert_judged(reader, frame, (0, 200, by_archive))
    run_of(batch, kind, frame, by_archive)
    assert_judged(reader, frame, (0, 200, by_archive))


def test_what_both_layers_say_is_left_as_it_is(
    speed: Connection, batch: Connection, rows_of_rejects: Callable[[], list[tuple[object, ...]]]
) -> None:
    frame, bad = events(1, 0, 0, 100), {7: "not_json", 40: "bad_time"}
    count(speed, frame, bad, 0, 100)
    before = rows_of_rejects()
    assert [row[:3] for row in before] == [(7, TOPIC, "both"), (40, TOPIC, "both")]
    run_of(batch, "incremental", frame, bad)
    run_of(batch, "full", frame, bad)
    assert rows_of_rejects() == before


def test_a_full_run_judges_all_offsets_anew_and_an_incremental_one_what_is_new(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, early, late = events(1, 0, 0, 100), {7: "not_json", 40: "not_json"}, {40: "bad_time", 41: "not_json"}
    count(speed, frame, {}, 0, 100)
    run_of(batch, "full", frame, early)
    assert_judged(reader, frame, (0, 100, early))
    # Another archiver's file has taken the place of the one that was read; nothing is new, so nobody has looked.
    run = begin_run(batch, "incremental")
    publish(batch, run.run_id, [], {0: 100, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    assert_judged(reader, frame, (0, 100, early))
    run_of(batch, "full", frame, late)
    assert_judged(reader, frame, (0, 100, late))


def test_a_range_of_many_arguments_is_judged_whole(
    speed: Connection, batch: Connection, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.handoff._ARGUMENT_ROWS", 3)
    frame = events(1, 0, 0, 100)
    by_speed = dict.fromkeys(range(0, 100, 3), "not_json")
    by_archive = dict.fromkeys(range(2, 100, 4), "not_json")
    count(speed, frame, by_speed, 0, 100)
    run_of(batch, "full", frame, by_archive)
    assert_judged(reader, frame, (0, 100, by_archive))


def test_a_run_that_ended_without_publishing_has_judged_nothing(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, by_speed = events(1, 0, 0, 100), {40: "not_json"}
    count(speed, frame, by_speed, 0, 100)
    run = begin_run(batch, "full")
    judged = [(OffsetRange(0, 0, 100), rejects({41: "not_json"}))]
    with pytest.raises(RunRefused, match="does not say how many records it received of partition 0"):
        publish(batch, run.run_id, [], {1: 0, 2: 0, 3: 0}, judged, TOPIC)
    assert_judged(reader, frame, (0, 100, by_speed))


def test_two_runs_may_bring_the_same_reject_at_once(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, bad = events(1, 0, 0, 100), {40: "not_json"}
    count(speed, frame, {}, 0, 100)

    def run() -> None:
        with connect(database, "batch") as connection:
            run_of(connection, "full", frame, bad)

    def it_waits() -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        assert one_value(owner, query, []) == 1

    with connect(database, "postgres") as owner, ThreadPoolExecutor(1) as pool:
        with batch.transaction():
            argument = row_array(batch, "serving.quarantined", rejects(bad).with_columns(pl.lit(TOPIC).alias("topic")))
            batch.execute("SELECT serving.add_rejects('batch', %s)", [argument])
            other = pool.submit(run)
            eventually(it_waits, within_s=30)
        other.result()
    assert_judged(reader, frame, (0, 100, bad))


def test_a_record_keeps_the_topic_that_it_was_read_in(
    speed: Connection, batch: Connection, rows_of_rejects: Callable[[], list[tuple[object, ...]]], reader: Connection
) -> None:
    frame = events(1, 0, 0, 100)
    count(speed, frame, {7: "not_json", 40: "not_json"}, 0, 100, topic="before")
    bad = {7: "not_json", 40: "bad_time", 60: "bad_time"}
    for _ in range(2):
        run_of(batch, "full", frame, bad)
        assert_judged(reader, frame, (0, 100, bad))
    assert [row[:3] for row in rows_of_rejects()] == [
        (7, "before", "both"), (40, "before", "batch"), (40, "before", "speed"), (60, TOPIC, "batch"),
    ]  # fmt: skip


def test_a_resolved_record_stays_resolved_whatever_the_archive_says_of_it(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    def states() -> list[tuple[object, ...]]:
        return reader.execute('SELECT "offset", state, first_reason, reason FROM quarantine_state ORDER BY 1').fetchall()

    frame = events(1, 0, 0, 101)
    count(speed, frame, {40: "not_json"}, 0, 100)
    resolve(batch, TOPIC, Judged(sent=[(0, 40, 0, 100)]))
    assert states() == [(40, "sent", "not_json", "not_json")]
    count(speed, frame, {}, 100, 101)
    assert states() == [(40, "resolved", "not_json", "not_json")]
    run_of(batch, "full", frame, {40: "bad_time"})
    assert states() == [(40, "resolved", "bad_time", "bad_time")]
    # To the archive it was an event from the first; and once more it is none.
    run_of(batch, "full", frame, {})
    assert states() == []
    run_of(batch, "full", frame, {40: "bad_time"})
    assert states() == [(40, "resolved", "bad_time", "bad_time")]
    # The archive has the copy as no event: it is not counted, so the record is open.
    bad = {40: "bad_time", 100: "not_json"}
    run_of(batch, "full", frame, bad)
    assert states() == [(40, "open", "bad_time", "not_json"), (100, "open", "not_json", "not_json")]
    assert_judged(reader, frame, (0, 101, bad))


def test_rejects_among_lost_offsets_are_gone_with_the_run_that_takes_over(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 100)
    count(speed, frame, {20: "not_json"}, 0, 50)
    first = run_of(batch, "incremental", frame, {20: "not_json"})
    count(speed, frame, {55: "not_json", 80: "not_json"}, 50, 100)
    record_lost(batch, [Loss(0, 60, 100, "the log was cut")])
    # The archive has a file without records from 60 up to 101, from where the log that follows is numbered.
    run = begin_run(batch, "incremental", {0: 101})
    days = compute(batch, run, frame[:60].filter(pl.col("offset") != 20))
    publish(batch, run.run_id, days, {0: 60, 1: 0, 2: 0, 3: 0}, [(OffsetRange(0, 50, 101), NO_REJECTS)], TOPIC)
    assert_merged(reader, frame[:60].filter(pl.col("offset") != 20))
    state = ledger(reader)[0]
    sides = ("received", "counted", "quarantined", "in_flight", "difference", "lost")
    assert tuple(state[side] for side in sides) == (60, 59, 1, 0, 0, 40)
    assert reader.execute('SELECT "offset" FROM quarantine').fetchall() == [(20,)]
    assert reader.execute("SELECT run_id FROM lost_offsets").fetchall() == [(run.run_id,)]
    with pytest.raises(RollbackRefused, match=r"no speed rows of offsets \[100, 101\) of partition 0"):
        rollback(batch, first.run_id)
    commit(speed, events(1, 0, 101, 10), NO_REJECTS)
    assert ledger(reader)[0]["difference"] == 0


def test_what_the_speed_layer_alone_rejected_is_kept_as_long_as_a_rollback_may_show_it(
    speed: Connection,
    batch: Connection,
    reader: Connection,
    rows_of_rejects: Callable[[], list[tuple[object, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.handoff._GARBAGE_ROWS", 1)
    frame = events(1, 0, 0, 300)
    by_speed = {offset: "not_json" for first in (0, 100, 200) for offset in (first + 40, first + 41)}
    by_archive = {offset: "bad_time" for offset in by_speed if offset % 100 == 41}

    def kept() -> list[object]:
        return [offset for offset, _, judged_by, *_ in rows_of_rejects() if judged_by == "speed"]

    count(speed, frame, by_speed, 0, 100)
    first = run_of(batch, "incremental", frame, by_archive)
    count(speed, frame, by_speed, 100, 200)
    second = run_of(batch, "incremental", frame, by_archive)
    count(speed, frame, by_speed, 200, 300)
    assert kept() == [40, 41, 140, 141]
    collect_garbage(batch, keep_runs=1)
    assert kept() == [140, 141]
    rollback(batch, first.run_id)
    assert_judged(reader, frame, (0, 100, by_archive), (100, 300, by_speed))
    rollback(batch, second.run_id)
    run_of(batch, "incremental", frame, by_archive)
    collect_garbage(batch, keep_runs=1)
    assert kept() == [240, 241]
    assert_judged(reader, frame, (0, 300, by_archive))


def test_a_quarantine_that_was_one_table_is_taken_over(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, by_speed, by_archive = events(1, 0, 0, 200), {40: "not_json", 41: "not_json"}, {41: "bad_time", 42: "bad_time"}
    count(speed, frame, by_speed, 0, 100)
    with connect(database, "postgres") as owner:
        # As an older schema made it. What uses it comes again with the migration.
        owner.execute("SET ROLE braid_owner")
        owner.execute("DROP VIEW serving.quarantined CASCADE")
        owner.execute("ALTER TABLE serving.reject DROP CONSTRAINT reject_pkey, DROP COLUMN judged_by")
        owner.execute("ALTER TABLE serving.reject RENAME TO quarantine")
        owner.execute("ALTER TABLE serving.quarantine SET SCHEMA public")
        owner.execute('ALTER TABLE quarantine ADD CONSTRAINT quarantine_pkey PRIMARY KEY (topic, partition, "offset")')
        owner.execute("GRANT SELECT (topic, reason) ON quarantine TO reader")
        owner.execute("CREATE FUNCTION serving.add_rejects(rejects public.quarantine[]) RETURNS void LANGUAGE sql AS ''")
        owner.execute("COMMENT ON SCHEMA serving IS 'older'")
    for changed in (True, False):
        assert migrate(database) is changed
        assert_judged(reader, frame, (0, 100, by_speed))
    run_of(batch, "full", frame, by_archive)
    # A layer that was started with the older schema has another type of rejects in mind.
    with connect(database, "speed") as new_speed:
        count(new_speed, frame, {140: "not_json"}, 100, 200)
    assert_judged(reader, frame, (0, 100, by_archive), (100, 200, {140: "not_json"}))
    with connect(database, "postgres") as owner:
        rows = owner.execute("SELECT count(*) FROM pg_proc WHERE proname = 'add_rejects'").fetchall()
        assert rows == [(1,)]
        granted = "SELECT has_any_column_privilege('reader', 'serving.reject', 'SELECT')"
        assert owner.execute(granted).fetchone() == (False,)
