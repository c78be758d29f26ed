"""The Bloom filter: every member is found, strangers as often as stated and hardly less, in as much memory as is said."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.sketches.bloom import (
    BLOCK_BITS,
    BLOCK_WORDS,
    BloomFilter,
    block_choices,
    find_in_blocks,
    range_of,
    range_width,
)

EXTREMES = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1]


def hashes(seed: int, count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def holding(members: NDArray[np.uint64], rate: float) -> BloomFilter:
    bloom = BloomFilter.for_members(len(members), rate)
    bloom.add(members)
    return bloom


def found(bloom: BloomFilter | Parted, asked: NDArray[np.uint64], before: bool = False) -> NDArray[np.bool_]:
    answers = np.full(len(asked), before)
    bloom.find(asked, answers)
    return answers


class Parted:
    """The filter as the tasks of a run make it: each that of one range of hashes."""

    def __init__(self, members: NDArray[np.uint64], count: int, rate: float) -> None:
        bounds = [number * int(range_width(count)) for number in range(count)] + [2**64]
        parts = [[one for one in members.tolist() if low <= one < high] for low, high in itertools.pairwise(bounds)]
        self.filters = [holding(np.array(part, np.uint64), rate) for part in parts]

    def find(self, asked: NDArray[np.uint64], answers: NDArray[np.bool_]) -> None:
        parts = range_of(asked, np.full(len(asked), len(self.filters)))
        for number, part in enumerate(self.filters):
            known = answers[parts == number]
            part.find(asked[parts == number], known)
            answers[parts == number] = known


def found_in_blocks(bloom: BloomFilter, asked: NDArray[np.uint64], before: bool = False) -> NDArray[np.bool_]:
    """The answers of who is given for each hash its block alone."""
    blocks = bloom.words.reshape(-1, BLOCK_WORDS)
    wanted = [choice * len(blocks) >> 32 for choice in block_choices(asked).tolist()]
    answers = np.full(len(asked), before)
    find_in_blocks(np.frombuffer(blocks[wanted].tobytes(), np.uint64), bloom.probes, asked, answers)
    return answers


@given(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from(EXTREMES))), st.integers(1, 9))
def test_every_member_is_found_whatever_the_parts(members: list[int], count: int):
    asked = np.array(members, np.uint64)
    assert found(holding(asked, 1e-6), asked).all()
    assert found(Parted(asked, count, 1e-6), asked).all()
    assert not found(BloomFilter.for_members(len(asked), 1e-6), asked).any()
    assert found(BloomFilter.for_members(len(asked), 1e-6), asked, before=True).all()


def test_a_block_alone_answers_as_the_whole_filter_does():
    members = hashes(1, 20_000)
    # A rate that is so high finds many strangers, and those must be the same.
    bloom, asked = holding(members, 0.1), np.concatenate([hashes(2, 20_000), np.array(EXTREMES, np.uint64), members[:9]])
    answers = found(bloom, asked)
    assert 1_000 < int(answers.sum()) < 3_000
    assert found_in_blocks(bloom, asked).tolist() == answers.tolist()
    assert found_in_blocks(bloom, asked, before=True).all()


def test_many_hashes_at_once_make_the_filter_that_they_make_one_after_the_other():
    members = hashes(1, 300_000)
    at_once, in_turn = holding(members, 1e-6 / 3), BloomFilter.for_members(len(members), 1e-6 / 3)
    assert at_once.size_bytes > 1 << 20
    for some in np.array_split(members, 1_000):
        in_turn.add(some)
    assert at_once.words.tolist() == in_turn.words.tolist()
    assert found(at_once, members).all()


@pytest.mark.parametrize(
    ("rate", "members", "strangers"),
    [(1e-2, 20_000, 1_000_000), (1e-4, 50_000, 10_000_000), (1e-6 / 3, 100_000, 30_000_000)],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_strangers_are_found_as_often_as_stated(rate: float, members: int, strangers: int, parts: int):
    bloom = holding(hashes(1, members), rate) if parts == 1 else Parted(hashes(1, members), parts, rate)
    wrong = sum(int(found(bloom, hashes(seed, 1_000_000)).sum()) for seed in range(2, 2 + strangers // 1_000_000))
    expected = strangers * rate
    # Four standard deviations on either side: the rate is neither more than was stated nor bought with memory to spare.
    assert expected - 4 * math.sqrt(expected) - 1 <= wrong <= expected + 4 * math.sqrt(expected) + 1


@pytest.mark.parametrize(("rate", "bytes_each"), [(1e-2, 1.24), (1e-4, 2.75), (1e-6 / 3, 5.48), (1e-12 / 3, 22.24)])
def test_size_follows_exactly_from_the_number_of_members(rate: float, bytes_each: float):
    sizes = [BloomFilter.for_members(count, rate).size_bytes for count in (0, 1, 1_000_000, 3_000_000)]
    assert sizes[:2] == [BLOCK_BITS // 8] * 2
    assert sizes[2] / 1_000_000 == pytest.approx(bytes_each, abs=0.01)
    assert sizes[3] == pytest.approx(3 * sizes[2], abs=BLOCK_BITS)


def test_a_filter_of_few_members_is_no_worse():
    """A block is never fuller than what the rate allows on average, though there is no other block that is emptier."""
    wrong = sum(int(found(holding(hashes(seed, 8), 1e-3), hashes(seed + 100, 10_000)).sum()) for seed in range(100))
    assert wrong <= 1_000 + 4 * math.sqrt(1_000)
