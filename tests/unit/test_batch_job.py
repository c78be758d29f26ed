"""The batch job's own steps; the engines are in tests/layer/test_batch.py."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.__main__ import interrupt
from batch.share import shared_out
from contract.errors import JobFailed
from contract.master import OffsetRange, Slice


@given(st.lists(st.integers(1, 1_000), max_size=40), st.integers(1, 12))
def test_shares_hold_each_slice_once_in_order_and_none_holds_much_more_than_its_part(lengths: list[int], count: int):
    slices = [Slice(OffsetRange(0, 0, 9_999), 7, 7 + length) for length in lengths]
    shares = shared_out(slices, count)
    assert [piece for share in shares for piece in share] == slices
    assert len(shares) <= count
    largest = max((sum(piece.next_offset - 7 for piece in share) for share in shares), default=0)
    # A slice goes where its middle falls, so a share may exceed its part by half a slice at each end.
    assert largest <= sum(lengths) / count + max(lengths, default=0)


OURS = "run 2 is failed, not running; nothing was changed"
SPARKS = "the job failed on Spark at local[2]: ValueError: no; `make status` shows what is up, `make batch` starts again"


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (f"contract.errors.RunRefused: {OURS}", OURS),
        (f"contract.errors.ArchiveDamaged: {OURS}", OURS),
        ("ValueError: no", SPARKS),
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
