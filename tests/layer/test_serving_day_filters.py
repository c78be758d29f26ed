"""Day filters on a real database: written once with a run, live with its days, gone with its rows; commits keep to them."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from psycopg import sql

from batch.fold import filter_of, hashes_by_day, ranges_of
from contract.errors import PublicationRefused, RunRefused
from contract.settings import Settings
from contract.sketches.bloom import BLOCK_WORDS, block_choices
from serving.database import Connection, connect, one_row
from serving.day_filters import DayFilter, FilteredDays, PartQuestion, ask_filters, filtered_days, write_filters
from serving.handoff import Counts, Run, begin_run, collect_garbage, commit_range, fail_run, positions, publish
from speed.day_filters import DayFilters
from speed.dedupe import Identities
from tests.fixtures.handoff import TOPIC, assert_merged, commit, compute
from tests.fixtures.pageviews import NO_REJECTS, Range, events

RATE = 1e-12


def write(batch: Connection, run: Run, frame: pl.DataFrame, parts: int = 2) -> list[bool]:
    """The filters of these events as the tasks of a run write them, a range of hashes each."""
    of_days = {day: ranges_of(hashes, parts) for day, hashes in hashes_by_day(frame).items()}
    return [
        write_filters(
            batch,
            run.run_id,
            part,
            parts,
            {day: filter_of(ranges[part], RATE) for day, ranges in of_days.items() if len(ranges[part])},
        )
        for part in range(parts)
    ]


def publish_run(batch: Connection, frame: pl.DataFrame, with_filters: bool = True) -> Run:
    """A published incremental run that has computed the days of these events."""
    run = begin_run(batch, "incremental")
    if with_filters:
        write(batch, run, frame)
    publish(batch, run.run_id, compute(batch, run, frame), dict.fromkeys(run.cut, 0), [], TOPIC)
    return run


def known(speed: Connection, frame: pl.DataFrame, most_bytes: int = 1 << 30) -> list[bool]:
    """Which of the events the live filters have; nothing is kept of them if most_bytes is 1."""
    days = DayFilters.of_database(lambda: speed, most_bytes, print)
    days.refresh()
    answers: list[bool] = days.repeats(Identities.of(frame)).tolist()
    assert days.repeats(Identities.of(frame)).tolist() == answers
    assert days.size_bytes <= most_bytes - 1
    return answers


def live_runs(speed: Connection) -> tuple[int, dict[date, int]]:
    """The live generation, and the run that wrote the filter of each day."""
    live = filtered_days(speed)
    return live.generation, {day: written.run_id for day, written in live.filters.items()}


def days_of(frame: pl.DataFrame) -> list[date]:
    return sorted(frame["event_time"].dt.date().unique().to_list())


def filters_in(database: Settings) -> set[tuple[int, date]]:
    with connect(database, "postgres") as owner:
        return set(owner.execute("SELECT run_id, day FROM serving.day_filter").fetchall())


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_filter_of_any_number_of_parts_has_the_runs_events_and_no_others(
    speed: Connection, batch: Connection, parts: int
) -> None:
    frame = events(1, 0, 0, 300)
    run = begin_run(batch, "full")
    assert write(batch, run, frame, parts) == [True] * parts
    assert write(batch, run, frame, parts) == [False] * parts
    assert filtered_days(speed) == FilteredDays(0, {})
    publish(batch, run.run_id, compute(batch, run, frame), dict.fromkeys(run.cut, 0), [], TOPIC)
    probes = filter_of(np.zeros(0, np.uint64), RATE)[1].probes
    assert filtered_days(speed) == FilteredDays(1, dict.fromkeys(days_of(frame), DayFilter(run.run_id, parts, probes)))
    for most_bytes in (1, 1 << 30):
        assert all(known(speed, frame, most_bytes))
        assert not any(known(speed, events(2, 1, 0, 300), most_bytes))
        mixed = pl.concat([frame[::7], events(2, 1, 0, 100)]).sample(fraction=1, shuffle=True, seed=1).rechunk()
        assert known(speed, mixed, most_bytes) == (mixed["partition"] == 0).to_list()


def test_a_part_without_events_and_a_filter_that_is_gone_have_no_members(speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 1)
    run = begin_run(batch, "full")
    assert write(batch, run, frame, parts=7) == [True] * 7
    publish(batch, run.run_id, compute(batch, run, frame), dict.fromkeys(run.cut, 0), [], TOPIC)
    assert known(speed, frame) == [True]
    assert known(speed, events(2, 1, 0, 300)) == [False] * 300
    (hashes,) = hashes_by_day(frame).values()
    (day,) = days_of(frame)
    gone = [
        PartQuestion(run.run_id + 1, day, part, hashes, whole_bytes) for part in range(7) for whole_bytes in (0, 1 << 20)
    ]
    assert ask_filters(speed, gone) == [None] * 14


@pytest.mark.parametrize("storage", ["EXTERNAL", "EXTENDED"])
def test_a_block_is_the_one_that_the_whole_part_has_however_it_is_stored(
    speed: Connection, batch: Connection, database: Settings, storage: str
) -> None:
    """Many blocks, so that they are beside the row; what somebody's restore has compressed is answered all the same."""
    day = date(2026, 1, 1)
    members = np.sort(np.random.default_rng(1).integers(0, 2**64, 20_000, np.uint64))
    _, bloom = filter_of(members, 1e-3)
    # Its beginning is empty, or PostgreSQL would find nothing to compress.
    bloom.words[: len(bloom.words) // 2] = 0
    with connect(database, "postgres") as owner:
        owner.execute(sql.SQL("ALTER TABLE serving.day_filter ALTER COLUMN words SET STORAGE {}").format(sql.SQL(storage)))
        run = begin_run(batch, "full")
        assert write_filters(batch, run.run_id, 0, 1, {day: (len(members), bloom)})
        (compression,) = one_row(owner, "SELECT pg_column_compression(words) FROM serving.day_filter", [])
    assert (compression is not None) == (storage == "EXTENDED")
    asked = np.concatenate([np.random.default_rng(2).integers(0, 2**64, 3_000, np.uint64), members[:500]])
    blocks = bloom.words.reshape(-1, BLOCK_WORDS)
    wanted = [choice * len(blocks) >> 32 for choice in block_choices(asked).tolist()]
    one, whole, all_but_whole = ask_filters(
        speed,
        [
            PartQuestion(run.run_id, day, 0, asked[:1], 0),
            PartQuestion(run.run_id, day, 0, asked[:2], bloom.size_bytes),
            PartQuestion(run.run_id, day, 0, asked, bloom.size_bytes - 1),
        ],
    )
    assert one is not None
    assert whole is not None
    assert all_but_whole is not None
    assert (one.is_whole, whole.is_whole, all_but_whole.is_whole) == (False, True, False)
    assert one.words.tolist() == blocks[wanted[0]].tolist()
    assert whole.words.tolist() == bloom.words.tolist()
    assert all_but_whole.words.tolist() == blocks[wanted].ravel().tolist()


def test_a_run_that_ended_writes_no_filters(batch: Connection, database: Settings) -> None:
    run = begin_run(batch, "full")
    fail_run(batch, run.run_id, "killed")
    with pytest.raises(RunRefused, match=rf"run {run.run_id} is failed, not running \(killed\)"):
        write(batch, run, events(1, 0, 0, 10))
    assert filters_in(database) == set()


def test_filters_are_live_kept_and_deleted_with_the_rows_of_their_run(
    speed: Connection, batch: Connection, database: Settings
) -> None:
    frame = events(1, 0, 0, 300)
    first_day, *others = days_of(frame)
    of_first_day = frame.filter(pl.col("event_time").dt.date() == first_day)
    first, second = publish_run(batch, frame), publish_run(batch, of_first_day)
    live = {first_day: second.run_id} | dict.fromkeys(others, first.run_id)
    assert live_runs(speed) == (2, live)
    dead = begin_run(batch, "full")
    write(batch, dead, frame)
    fail_run(batch, dead.run_id, "killed")
    assert live_runs(speed) == (2, live)
    collect_garbage(batch, keep_runs=1)
    # What a rollback to the first run needs is kept.
    assert filters_in(database) == {(run_id, day) for day, run_id in live.items()} | {(first.run_id, first_day)}
    with connect(database, "postgres") as owner, owner.transaction():
        owner.execute("INSERT INTO serving.publication SELECT 3, run_id FROM serving.publication WHERE generation = 1")
        owner.execute(
            "INSERT INTO serving.publication_day SELECT 3, day, run_id FROM serving.publication_day WHERE generation = 1"
        )
    assert live_runs(speed) == (3, dict.fromkeys(days_of(frame), first.run_id))
    third = publish_run(batch, of_first_day)
    collect_garbage(batch, keep_runs=0)
    live = {first_day: third.run_id} | dict.fromkeys(others, first.run_id)
    assert live_runs(speed) == (4, live)
    assert filters_in(database) == {(run_id, day) for day, run_id in live.items()}


def test_a_commit_that_was_held_against_other_filters_than_the_live_ones_changes_nothing(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 200)
    commit(speed, frame[:100])
    part = Range.of(frame[100:])

    def commit_as_of(generation: int) -> bool:
        counts = Counts(part.count, part.count, 0)
        return commit_range(speed, part.offsets, part.rows, counts, NO_REJECTS, TOPIC, generation)

    publish_run(batch, frame[:100])
    for generation in (0, 2):
        with pytest.raises(PublicationRefused, match=rf"day filters of generation {generation}, but generation 1 is live"):
            commit_as_of(generation)
    assert positions(speed)[0].next_offset == 100
    assert_merged(reader, frame[:100])
    assert commit_as_of(1)
    # Who has committed before is told so, whatever was published since.
    publish_run(batch, frame)
    assert not commit_as_of(1)
    assert_merged(reader, frame)


def test_replay_cover_says_which_days_and_offsets_are_covered(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    assert reader.execute("SELECT * FROM replay_cover").fetchall() == []
    frame = events(1, 0, 0, 300)
    first_day, *others = days_of(frame)
    commit(speed, frame)
    run = publish_run(batch, frame.filter(pl.col("event_time").dt.date() == first_day), with_filters=False)
    last = publish_run(batch, frame.filter(pl.col("event_time").dt.date() != first_day))
    commit(speed, events(1, 0, 300, 10))
    rows = reader.execute("SELECT day, run_id, events, bytes > 0, cut FROM replay_cover ORDER BY day").fetchall()
    on_day = frame.group_by(pl.col("event_time").dt.date()).len().sort("event_time")["len"].to_list()
    cut = {"0": 300, "1": 0, "2": 0, "3": 0}
    assert rows == [
        (first_day, run.run_id, 0, False, cut),
        *((day, last.run_id, count, True, cut) for day, count in zip(others, on_day[1:], strict=True)),
    ]
