"""Equal rows get equal numbers, and numbered rows are added up or brought together."""

from __future__ import annotations

import secrets

import numpy as np
from numba import boolean, int64, uint8, uint64
from numpy.typing import NDArray

from contract.compiled import compiled, pair, read_only
from contract.loops.words import finalized, tail_at, word_at

_KEYS = 32
_LOW = np.uint64(0xFFFFFFFF)
_WORD, _ONE, _HALF = np.uint64(8), np.uint64(1), np.uint64(32)


def keys() -> NDArray[np.uint64]:
    """Random keys for `number`: nobody who writes texts can know which of them will meet in its table."""
    return np.frombuffer(secrets.token_bytes(_KEYS * 8), np.uint64)


@compiled(uint64(uint64, uint64))
def _product(word: np.uint64, key: np.uint64) -> np.uint64:
    return ((word + key) & _LOW) * (((word >> _HALF) + (key >> _HALF)) & _LOW)


@compiled(uint64(uint64, read_only(uint8), uint64, uint64, read_only(uint64)))
def _hashed(
    integer: np.uint64, content: NDArray[np.uint8], first: np.uint64, after: np.uint64, keys: NDArray[np.uint64]
) -> np.uint64:
    """NH of the text (Black, Halevi, Krawczyk, Krovetz, Rogaway 1999, "UMAC"): two texts meet with a chance of 2^-32,
    whoever wrote them, as long as the keys are secret."""
    total = finalized(integer ^ keys[0]) + (after - first)
    if after - first < _WORD:
        return finalized(total + _product(tail_at(content, first, after), keys[0]))
    place = 0
    # The last word may overlap the one before.
    while after - first > _WORD:
        total += _product(word_at(content, first), keys[place])
        first += _WORD
        place += 1
        if place == _KEYS:
            total, place = finalized(total), 0
    return finalized(total + _product(word_at(content, after - _WORD), keys[place]))


@compiled(boolean(read_only(uint8), uint64, uint64, uint64, uint64))
def _equal(content: NDArray[np.uint8], first: np.uint64, after: np.uint64, other: np.uint64, other_after: np.uint64) -> bool:
    if after - first != other_after - other:
        return False
    if after - first < _WORD:
        return bool(tail_at(content, first, after) == tail_at(content, other, other_after))
    while after - first > _WORD:
        if word_at(content, first) != word_at(content, other):
            return False
        first += _WORD
        other += _WORD
    return bool(word_at(content, after - _WORD) == word_at(content, other_after - _WORD))


@compiled(uint64[::1](uint64[::1]))
def _doubled(slots: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A table of twice the size with the same content."""
    larger = np.zeros(2 * len(slots), np.uint64)
    mask = np.uint64(len(larger) - 1)
    for held in slots:
        if held:
            slot = held >> _HALF & mask
            while larger[slot]:
                slot = slot + _ONE & mask
            larger[slot] = held
    return larger


@compiled(pair(int64[::1], int64[::1])(read_only(int64), read_only(uint8), read_only(int64), read_only(uint64), int64))
def number(
    integers: NDArray[np.int64],
    content: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    keys: NDArray[np.uint64],
    slot_count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the different rows from 0 on as they come; a row is an integer and a text, compared in full.

    Returns the number of each row, and of each number the first row that has it. The text of row i is
    [bounds[i], bounds[i + 1]) of the content. There are fewer than 2^31 rows, and slots to begin with, a power of two.
    """
    numbers, firsts = np.empty(len(integers), np.int64), np.empty(len(integers), np.int64)
    # A slot holds the high half of a hash, and a number plus 1.
    slots = np.zeros(slot_count, np.uint64)
    count = 0
    for row in range(len(integers)):
        first, after = np.uint64(bounds[row]), np.uint64(bounds[row + 1])
        hashed = _hashed(np.uint64(integers[row]), content, first, after, keys)
        slot = hashed >> _HALF & np.uint64(len(slots) - 1)
        while True:
            held = slots[slot]
            if not held:
                firsts[count], numbers[row] = row, count
                count += 1
                slots[slot] = hashed & ~_LOW | np.uint64(count)
                if 2 * count > len(slots):
                    slots = _doubled(slots)
                break
            if (held ^ hashed) <= _LOW:
                known = np.int64(held & _LOW) - 1
                other = firsts[known]
                if integers[row] == integers[other] and _equal(
                    content, first, after, np.uint64(bounds[other]), np.uint64(bounds[other + 1])
                ):
                    numbers[row] = known
                    break
            slot = slot + _ONE & np.uint64(len(slots) - 1)
    return numbers, firsts[:count].copy()


@compiled(boolean(read_only(uint8), uint64, uint64, uint64, uint64))
def _is_less(
    content: NDArray[np.uint8], first: np.uint64, after: np.uint64, other: np.uint64, other_after: np.uint64
) -> bool:
    shorter = min(after - first, other_after - other)
    end = first + shorter
    while end - first >= _WORD and word_at(content, first) == word_at(content, other):
        first += _WORD
        other += _WORD
    while first < end:
        if content[first] != content[other]:
            return bool(content[first] < content[other])
        first += np.uint64(1)
        other += np.uint64(1)
    return bool(after - first < other_after - other)


@compiled(int64[::1](read_only(uint8), read_only(int64), read_only(int64)))
def sort(content: NDArray[np.uint8], bounds: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows, sorted by the bytes of their texts: a merge sort, so nobody can write texts for which it takes longer."""
    rows, merged = rows.copy(), np.empty_like(rows)
    width = 1
    while width < len(rows):
        for start in range(0, len(rows), 2 * width):
            left, middle = start, min(start + width, len(rows))
            right, after = middle, min(start + 2 * width, len(rows))
            for place in range(start, after):
                if left == middle:
                    takes_right = True
                elif right == after:
                    takes_right = False
                else:
                    row, other = rows[right], rows[left]
                    takes_right = _is_less(
                        content,
                        np.uint64(bounds[row]),
                        np.uint64(bounds[row + 1]),
                        np.uint64(bounds[other]),
                        np.uint64(bounds[other + 1]),
                    )
                merged[place] = rows[right if takes_right else left]
                if takes_right:
                    right += 1
                else:
                    left += 1
        rows, merged = merged, rows
        width *= 2
    return rows


@compiled(pair(uint8[::1], int64[::1])(read_only(uint8), read_only(int64), read_only(int64)))
def take(
    content: NDArray[np.uint8], bounds: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Content and bounds of these rows' texts."""
    taken_bounds = np.zeros(len(rows) + 1, np.int64)
    for place in range(len(rows)):
        taken_bounds[place + 1] = taken_bounds[place] + bounds[rows[place] + 1] - bounds[rows[place]]
    taken = np.empty(taken_bounds[-1], np.uint8)
    for place in range(len(rows)):
        further = bounds[rows[place]] - taken_bounds[place]
        for at in range(taken_bounds[place], taken_bounds[place + 1]):
            taken[at] = content[at + further]
    return taken, taken_bounds


@compiled(int64[::1](read_only(int64), int64, read_only(int64)))
def sums(ids: NDArray[np.int64], count: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each of `count` groups the sum of its rows' numbers; row i is in group ids[i]."""
    totals = np.zeros(count, np.int64)
    for row in range(len(ids)):
        totals[ids[row]] += numbers[row]
    return totals


@compiled(pair(int64[::1], int64[::1])(read_only(int64), int64))
def together(ids: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows, those of one group next to each other and in order, and the groups' count + 1 bounds in them."""
    rows, bounds = np.empty(len(ids), np.int64), np.zeros(count + 1, np.int64)
    for row in range(len(ids)):
        bounds[ids[row]] += 1
    # Each bound is the end of its group first, and where it starts when all its rows are written, the last one first.
    after = 0
    for group in range(count):
        after += bounds[group]
        bounds[group] = after
    bounds[count] = after
    for row in range(len(ids) - 1, -1, -1):
        bounds[ids[row]] -= 1
        rows[bounds[ids[row]]] = row
    return rows, bounds
