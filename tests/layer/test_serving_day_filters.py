"""Day filters on a real database: written once with a run, live with its days, gone with its rows; commits keep to them."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from batch.fold import filter_of, hashes_by_day, ranges_of
from contract.errors import PublicationRefused, RunRefused
from contract.settings import Settings
from serving.database import Connection, connect
from serving.day_filters import FilteredDays, day_filter, filtered_days, write_filters
from serving.handoff import Counts, Run, begin_run, collect_garbage, commit_range, fail_run, positions, publish
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


def known(speed: Connection, frame: pl.DataFrame) -> list[bool]:
    """Which of the events the live filters have, sorted by day."""
    run_of_day = filtered_days(speed).run_of_day
    answers: list[bool] = []
    for day, hashes in sorted(hashes_by_day(frame).items()):
        found = np.zeros(len(hashes), np.bool_)
        day_filter(speed, run_of_day[day], day).find(hashes, found)
        answers += found.tolist()
    return answers


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
    assert filtered_days(speed) == FilteredDays(1, dict.fromkeys(days_of(frame), run.run_id))
    assert all(known(speed, frame))
    assert not any(known(speed, events(2, 1, 0, 300)))


def test_a_part_without_events_and_a_filter_that_is_gone_have_no_members(speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 1)
    run = begin_run(batch, "full")
    assert write(batch, run, frame, parts=7) == [True] * 7
    publish(batch, run.run_id, compute(batch, run, frame), dict.fromkeys(run.cut, 0), [], TOPIC)
    assert known(speed, frame) == [True]
    (hashes,) = hashes_by_day(frame).values()
    found = np.zeros(1, np.bool_)
    day_filter(speed, run.run_id + 1, days_of(frame)[0]).find(hashes, found)
    assert not found.any()


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
    assert filtered_days(speed) == FilteredDays(2, live)
    dead = begin_run(batch, "full")
    write(batch, dead, frame)
    fail_run(batch, dead.run_id, "killed")
    assert filtered_days(speed) == FilteredDays(2, live)
    collect_garbage(batch, keep_runs=1)
    # What a rollback to the first run needs is kept.
    assert filters_in(database) == {(run_id, day) for day, run_id in live.items()} | {(first.run_id, first_day)}
    with connect(database, "postgres") as owner, owner.transaction():
        owner.execute("INSERT INTO serving.publication SELECT 3, run_id FROM serving.publication WHERE generation = 1")
        owner.execute(
            "INSERT INTO serving.publication_day SELECT 3, day, run_id FROM serving.publication_day WHERE generation = 1"
        )
    assert filtered_days(speed) == FilteredDays(3, dict.fromkeys(days_of(frame), first.run_id))
    third = publish_run(batch, of_first_day)
    collect_garbage(batch, keep_runs=0)
    live = {first_day: third.run_id} | dict.fromkeys(others, first.run_id)
    assert filtered_days(speed) == FilteredDays(4, live)
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
