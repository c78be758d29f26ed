"""Events that stay where they are read are folded as if all had met, whatever the shares and however hashes collide."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch.fold import (
    day_of,
    filter_of,
    fold,
    hashes_by_day,
    in_order,
    merged,
    outputs_of,
    ranges_of,
    shared_hashes,
    split,
    with_rollup,
)
from contract.aggregate import aggregate, columns_aggregated, identity_hashes
from contract.views import VIEWS
from tests.fixtures.pageviews import events
from tests.fixtures.shares import in_shares

DISTINCT = events(seed=9, partition=0, first_offset=0, count=40)


def records(chosen: list[tuple[int, int]]) -> pl.DataFrame:
    """Of each (event, partition) a record; those of an event differ in nothing but partition and offset."""
    numbers, partitions = zip(*chosen, strict=True)
    return DISTINCT[list(numbers)].with_columns(
        pl.Series("partition", partitions, dtype=pl.Int32), pl.int_range(pl.len()).alias("offset")
    )


SOME = st.lists(st.tuples(st.integers(0, len(DISTINCT) - 1), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60)
NEVER_EQUAL, ALWAYS_EQUAL = 2**61, 1


@settings(max_examples=60, deadline=None)
@given(SOME, st.sampled_from([ALWAYS_EQUAL, 3, 50, NEVER_EQUAL]), st.integers(1, 5), st.integers(1, 4))
# An event with copies in all shares and partitions, one of which has nothing else.
@example([(0, 0, 0), (0, 1, 1), (0, 2, 2), (0, 1, 3), (1, 0, 0)], NEVER_EQUAL, 2, 2)
# Everything is repeated.
@example([(n, p, p) for n in range(len(DISTINCT)) for p in range(3)], NEVER_EQUAL, 3, 3)
# Nothing is, but all hashes collide.
@example([(n, n % 3, n % 4) for n in range(len(DISTINCT))], ALWAYS_EQUAL, 2, 2)
def test_shares_give_the_rows_of_all_events_at_once(
    chosen: list[tuple[int, int, int]], hash_count: int, ranges: int, groups: int
):
    everything = records([(number, partition) for number, partition, _ in chosen])
    share_of = pl.Series([share for *_, share in chosen])
    shares = [everything.filter(share_of == share) for share in range(4)]
    rows, truth = in_shares(shares, hash_count, ranges, groups), fold(everything)
    for output in outputs_of():
        assert rows[output].equals(merged(output, [truth[output]]))
        assert rows[output].select(day_of(output)).to_series().is_in(DISTINCT["event_time"].dt.date().implode()).all()
    ledger = rows["ledger"]
    assert ledger["counted"].sum() == len({number for number, *_ in chosen})
    assert ledger["counted"].sum() + ledger["duplicate"].sum() == len(chosen)


def test_rows_of_a_day_follow_from_those_of_its_hours():
    everything = events(seed=9, partition=0, first_offset=0, count=2_000)
    for view in VIEWS:
        rows = fold(everything)[view.name]
        assert view.rollup
        of_days = aggregate(everything, [view.rollup])[view.rollup.name]
        assert len(of_days) < len(rows)
        written = with_rollup(view.name, rows)
        assert list(written) == [view.name, view.rollup.name]
        assert written[view.name].equals(rows)
        assert written[view.rollup.name].equals(of_days)


def test_without_repeats_or_collisions_no_event_moves():
    hashes = identity_hashes(DISTINCT)
    answers = [shared_hashes([some], some) for some in ranges_of(hashes, 3)]
    assert not np.concatenate([answer for (answer,) in answers]).size
    alone, suspects = split(DISTINCT, hashes, np.array([], np.uint64), 3)
    assert alone.equals(DISTINCT.select("partition", *columns_aggregated()))
    assert [len(some) for some in suspects] == [0, 0, 0]


def test_hashes_are_dealt_out_by_day():
    shuffled = DISTINCT.sample(fraction=1, shuffle=True, seed=1)
    by_day = hashes_by_day(shuffled)
    days = shuffled["event_time"].dt.date()
    assert {day: sorted(some.tolist()) for day, some in by_day.items()} == {
        day: sorted(identity_hashes(shuffled.filter(days == day)).tolist()) for day in days.unique().to_list()
    }
    assert hashes_by_day(DISTINCT[:0]) == {}


def test_a_filter_counts_each_hash_once():
    hashes = in_order([identity_hashes(DISTINCT), identity_hashes(DISTINCT[:7])])
    count, bloom = filter_of(hashes, 1e-12)
    found = np.zeros(len(hashes), np.bool_)
    bloom.find(hashes, found)
    assert (count, found.all()) == (len(DISTINCT), True)
    assert bloom.words.tobytes() == filter_of(in_order([identity_hashes(DISTINCT)]), 1e-12)[1].words.tobytes()


def test_what_workers_are_forked_from_has_no_thread_that_a_fork_would_lack():
    counting = "import batch.daemon, os; print(len(os.listdir('/proc/self/task')))"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # as spark-defaults.conf sets it
    done = subprocess.run([sys.executable, "-c", counting], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
