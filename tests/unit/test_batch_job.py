"""The batch job's own steps; the engines are in tests/layer/test_batch.py."""

from __future__ import annotations

import os
import signal
from datetime import date, timedelta
from itertools import pairwise
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.__main__ import interrupt
from batch.fold import fold_alone, merged, outputs_of, packed, unpacked
from batch.job import DayBlocks, send_folded, send_merged
from batch.share import shared_out
from contract.aggregate import identity_hashes
from contract.errors import JobFailed
from contract.master import OffsetRange, Slice
from contract.settings import Settings
from contract.streams.page_views import PAGE_VIEWS
from tests.fixtures.pageviews import events


@given(st.lists(st.integers(1, 1_000), max_size=40), st.integers(1, 12))
def test_shares_hold_each_slice_once_in_order_and_none_holds_much_more_than_its_part(lengths: list[int], count: int):
    slices = [Slice(OffsetRange(0, 0, 9_999), 7, 7 + length) for length in lengths]
    shares = shared_out(slices, count)
    assert [piece for share in shares for piece in share] == slices
    assert len(shares) <= count
    largest = max((sum(piece.next_offset - 7 for piece in share) for share in shares), default=0)
    # A slice goes where its middle falls, so a share may exceed its part by half a slice at each end.
    assert largest <= sum(lengths) / count + max(lengths, default=0)


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(1, 12), st.randoms())
def test_each_day_is_in_one_block_whatever_the_order_and_neighbours_are_apart(numbers: set[int], most: int, chance):
    days = sorted(date(2026, 1, 1) + timedelta(number) for number in numbers)
    shuffled = chance.sample(days, len(days))
    blocks = DayBlocks.of(shuffled, most)
    assert blocks == DayBlocks.of(days, most)
    places = dict(zip(days, pl.DataFrame({"day": days}).select(blocks.number(pl.col("day")))["day"], strict=True))
    sizes = [list(places.values()).count(number) for number in range(blocks.count)]
    assert sum(sizes) == len(days)
    assert blocks.count == min(most, len(days))
    assert max(sizes) - min(sizes) <= 1
    assert all(places[day] != places[after] for day, after in pairwise(days)) or blocks.count == 1
    # A task is claimed by the name.
    assert [blocks.name(number) for number in range(blocks.count)] == [
        f"day={max(day for day in days if places[day] == number)}" for number in range(blocks.count)
    ]


OURS = "run 2 is failed, not running; nothing was changed"
SPARKS = "the job failed on Spark at local[2]: ValueError: no; `make status` shows what is up, `make batch` starts again"
KILLED = (
    "Task 1 in stage 7.0 failed 4 times on Spark at local[2]: its Python process was killed, as it is where spark-worker "
    "has no memory left (SPARK_WORKER_LIMIT, `compose/.env.example`); `make batch` starts again"
)
SPARK_OF_KILLED = (
    "org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 7.0 failed 4 times, most recent "
    "failure: Lost task 1.3 in stage 7.0: org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)"
)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (f"contract.errors.RunRefused: {OURS}", OURS),
        (f"contract.errors.ArchiveDamaged: {OURS}", OURS),
        ("ValueError: no", SPARKS),
        (SPARK_OF_KILLED, KILLED),
    ],
)
def test_of_a_failed_job_the_reason_is_one_line(cause: str, said: str):
    report = f"Job aborted due to stage failure\n  File x.py, line 1, in write\n{cause}\n\tat org.apache.spark.Task.run"
    assert str(JobFailed.of("local[2]", report)) == said


def test_an_interrupt_ends_this_process_and_not_a_copy_that_is_to_become_another():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # What a copy of this process sees.
        interrupt(os.getppid(), signal.SIGINT, None)
        assert handlers == {number: signal.getsignal(number) for number in handlers}
        with pytest.raises(KeyboardInterrupt):
            interrupt(os.getpid(), signal.SIGINT, None)
        assert {signal.getsignal(number) for number in handlers} == {signal.SIG_IGN}
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_task_folds_its_events_in_portions(monkeypatch: pytest.MonkeyPatch):
    frames = [events(1, 0, first, 100) for first in (0, 100, 200)]
    share, days = [Slice(OffsetRange(0, 0, 300), 0, 300)], {day for frame in frames for day in frame["event_time"].dt.date()}
    suspected = identity_hashes(frames[1])[:5].tobytes()

    def folded(most_bytes: int) -> tuple[int, dict[str, pl.DataFrame]]:
        monkeypatch.setattr("batch.job._TASK_BYTES", most_bytes)
        monkeypatch.setattr("batch.job.files_at_hand", lambda *of: None)
        monkeypatch.setattr("batch.job.events_on", lambda *arguments: iter(frames))
        sent = list(send_folded(Settings(), PAGE_VIEWS, SimpleNamespace(value=[share]), days, 2, 0, [(0, suspected)]))  # type: ignore[arg-type]
        outputs: dict[str, list[pl.DataFrame]] = {}
        for _, (output, content) in sent:
            outputs.setdefault(output, []).append(unpacked(content))
        suspects = pl.concat(outputs.pop("suspects"))
        assert suspects["offset"].sort().to_list() == list(range(100, 105))
        return len(sent), {output: merged(output, some) for output, some in outputs.items()}

    one, rows = folded(1 << 30)
    several, same = folded(1)
    assert several > 2 * one
    assert {output: some.to_dicts() for output, some in same.items()} == {
        output: some.to_dicts() for output, some in rows.items()
    }


def test_a_task_merges_rows_in_portions_unless_merging_makes_them_few(monkeypatch: pytest.MonkeyPatch):
    shares = [fold_alone(events(1, 0, first, 100), PAGE_VIEWS) for first in range(0, 1_000, 100)]
    names = outputs_of(PAGE_VIEWS)
    days = {day for rows in shares for day in rows["ledger"]["day"]}

    def sent_to_writers(most_bytes: int, folded: list[dict[str, pl.DataFrame]]) -> dict[str, list[pl.DataFrame]]:
        monkeypatch.setattr("batch.job._MERGE_BYTES", most_bytes)
        sent = ((0, (output, packed(rows))) for share in folded for output, rows in share.items())
        outputs: dict[str, list[pl.DataFrame]] = {}
        for place, (block, output, content) in send_merged(PAGE_VIEWS, DayBlocks.of(days, 1), sent):
            assert place == block * len(names) + names.index(output)
            outputs.setdefault(output, []).append(unpacked(content))
        return outputs

    whole, portions = sent_to_writers(1 << 30, shares), sent_to_writers(1, shares)
    assert all(len(some) == 1 for some in whole.values())
    assert all(len(some) == len(shares) for some in portions.values())
    assert {output: merged(output, some, PAGE_VIEWS).to_dicts() for output, some in portions.items()} == {
        output: some[0].to_dicts() for output, some in whole.items()
    }
    # Twice as much as one share's rows, of which ten are no more when they are merged.
    share_bytes = sum(rows.estimated_size() for rows in shares[0].values())
    assert all(len(some) == 1 for some in sent_to_writers(int(2.5 * share_bytes), [shares[0]] * 10).values())
