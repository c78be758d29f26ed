"""Sketches: canonical bytes, mergeable in any order, within their stated error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any

import mmh3
import numpy as np
import pytest
from datasketch import HyperLogLogPlusPlus
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.groups import Groups
from contract.sketches import histogram, hll, seen
from contract.sketches.hash import hash_text, hash_texts, hash_texts_128


def sketch(texts: list[str]) -> bytes:
    return hll.encode(hll.entries_of(hash_texts(texts)))


def in_groups(*ids: int) -> Groups:
    return Groups(np.array(ids, np.int64), max(ids, default=0) + 1)


def pieces(content: NDArray[Any], bounds: NDArray[np.int64]) -> list[Any]:
    """What is between the bounds, one by one."""
    return [content[first:after] for first, after in pairwise(bounds.tolist())]


def merged(*sketches: bytes) -> bytes:
    bounds = np.cumsum([0, *map(len, sketches)])
    return hll.merge(np.frombuffer(b"".join(sketches), np.uint8), bounds, in_groups(*[0] * len(sketches)))[0].tobytes()


def test_hash_is_murmur3_x64_128_with_seed_0():
    # What PostgreSQL prints for hll_hash_text('foobar') and hll_hash_text(''), as unsigned numbers.
    assert hash_text("") == 0
    assert hash_texts(["a", "ä"]).tolist() == [hash_text("a"), hash_text("ä")]
    assert hash_texts_128(["a", "b"])[:, 0].tolist() == [hash_text("a"), hash_text("b")]
    assert hash_texts_128([]).shape == (0, 2)


@given(st.lists(st.text(max_size=100)))
def test_hash_is_that_of_another_implementation(texts: list[str]):
    assert [tuple(halves) for halves in hash_texts_128(texts).tolist()] == [
        mmh3.hash64(t.encode(), 0, signed=False) for t in texts
    ]


@pytest.mark.parametrize(("count", "kind"), [(0, 0x11), (1, 0x13), (600, 0x13), (740, 0x13), (800, 0x14), (20_000, 0x14)])
def test_hll_form_follows_the_number_of_filled_registers(count: int, kind: int):
    encoded = sketch([f"v{i}" for i in range(count)])
    assert encoded[0] == kind
    assert len(hll.decode(encoded)) == min(count, len(hll.decode(encoded)))
    if kind == 0x13:
        assert len(encoded) == 3 + 2 * len(hll.decode(encoded))
        assert len(hll.decode(encoded)) < hll.sparse_limit()
    if kind == 0x14:
        assert len(encoded) == 3 + hll.REGISTERS * hll.REGWIDTH // 8


def test_hll_entry_of_known_hashes():
    hashes = np.array([0, 5, 5 | 1 << 11, 5 | 1 << 12, 5 | 1 << 63, 7 | 1 << 40], np.uint64)
    # No bit above the index: the extension's hll_add fills no register. Ranks are capped at 31.
    assert hll.entries_of(hashes).tolist() == [0, 0, 5 << 5 | 1, 5 << 5 | 2, 5 << 5 | 31, 7 << 5 | 30]


@given(st.lists(st.text(max_size=5)), st.lists(st.text(max_size=5)))
def test_hll_merge_is_the_sketch_of_all(left: list[str], right: list[str]):
    assert merged(sketch(left), sketch(right)) == sketch(right + left)


@pytest.mark.parametrize("sizes", [(0, 0), (639, 1), (600, 500), (5_000, 3), (0, 9_000), (4_000, 4_000, 4_000)])
def test_hll_merge_of_every_form(sizes: Sequence[int]):
    parts = [[f"{number}:{one}" for one in range(size)] for number, size in enumerate(sizes)]
    assert (
        merged(*map(sketch, parts))
        == merged(*map(sketch, reversed(parts)))
        == sketch([text for part in parts for text in part])
    )


def test_hll_groups_do_not_mix():
    texts = [f"v{i}" for i in range(3_000)]
    ids = [0 if i < 10 else 2 if i < 20 else 3 for i in range(3_000)]
    apart = [sketch(texts[:10]), sketch([]), sketch(texts[10:20]), sketch(texts[20:])]
    folded = pieces(*hll.fold(hll.entries_of(hash_texts(texts)), in_groups(*ids)))
    assert [one.tobytes() for one in folded] == apart
    stored = np.frombuffer(b"".join(apart), np.uint8), np.cumsum([0, *map(len, apart)])
    assert [one.tobytes() for one in pieces(*hll.merge(*stored, in_groups(1, 0, 0, 2)))] == [apart[2], apart[0], apart[3]]


@pytest.mark.parametrize("wrong", [b"", b"\x13", b"\x13\x8b\x40\x01", b"\x12\x8b\x40", b"\x14\x8b\x40\x00"])
def test_hll_refuses_other_bytes(wrong: bytes):
    with pytest.raises(ValueError, match="not an hll"):
        hll.decode(wrong)
    with pytest.raises(ValueError, match="not an hll"):
        merged(sketch(["a"]), wrong, sketch(["b"]))


@pytest.mark.parametrize("count", [0, 3, 500, 5_000])
def test_hll_is_datasketchs(count: int):
    texts = [f"visitor-{i}" for i in range(count)]
    theirs = HyperLogLogPlusPlus(p=hll.LOG2M, hashfunc=hll.datasketch_hash)
    for text in texts:
        theirs.update(text.encode())
    ours = hll.to_datasketch(sketch(texts))
    assert np.array_equal(np.minimum(theirs.reg, 31), ours.reg)
    assert ours.count() == pytest.approx(count, rel=4 * hll.STANDARD_ERROR, abs=1)


def exact_bin(value: float) -> int:
    """The bin by exact decimal arithmetic, bound by bound."""
    with localcontext() as context:
        context.prec = 60
        low = math.floor(math.log2(value) * 32) - 2
        return next(b for b in range(low, low + 6) if Decimal(value) <= Decimal(2) ** (Decimal(b + 1) / 32))


@given(st.floats(min_value=2**-9, max_value=1e12))
def test_bin_is_the_exact_one(value: float):
    assert bins_of(value) == [exact_bin(value)]


def test_a_bin_ends_at_its_rounded_bound():
    for k in range(1, 32):
        bound = float(Decimal(2) ** (Decimal(k) / 32))
        assert bins_of(np.nextafter(bound, 0), bound, np.nextafter(bound, 4)) == [k - 1, k - 1, k]
        assert bins_of(bound * 2**20) == [k - 1 + 20 * 32]


def bins_of(*values: float) -> list[int]:
    bins, counts = histogram.decode(histogram.entries_of(np.array(values, np.float64)))
    assert counts.tolist() == [1] * len(values)
    return bins.tolist()


def test_bin_bounds_are_upper_inclusive():
    powers = 2.0 ** np.arange(-9, 30)
    assert bins_of(*powers) == [32 * k - 1 for k in range(-9, 30)]
    assert bins_of(*np.nextafter(powers, np.inf)) == [32 * k for k in range(-9, 30)]
    assert bins_of(0.0, 5e-324, 2**-10) == [histogram.ZERO_BIN] * 3
    assert histogram.entries_of(np.array([np.nan, -np.nan])).tolist() == [0, 0]


@given(st.lists(st.floats(min_value=0.001, max_value=86_400_000), min_size=1), st.floats(0, 1))
def test_percentile_is_within_the_relative_error(values: list[float], fraction: float):
    packed = histogram.encode(histogram.entries_of(np.array(values)))
    exact = sorted(values)[max(1, math.ceil(fraction * len(values))) - 1]
    assert histogram.percentile(fraction, packed.tolist()) == pytest.approx(exact, rel=histogram.RELATIVE_ERROR * 1.001)


def test_histogram_of_nothing_and_of_many_groups():
    assert histogram.percentile(0.5, []) is None
    one, two, three = ((bin_ << histogram.COUNT_BITS) + count for bin_, count in ((5, 2), (-9, 1), (-3, (1 << 40) + 1)))
    entries, bounds = np.array([one, two, three, one, 0]), np.array([0, 2, 3, 5])
    assert [part.tolist() for part in pieces(*histogram.merge(entries, bounds, in_groups(2, 0, 2)))] == [
        [three], [], [two, one + 2],
    ]  # fmt: skip
    assert [part.tolist() for part in histogram.merge(entries[:0], bounds[:1], in_groups())] == [[], [0, 0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, exclude_min=False, allow_infinity=False)), max_size=200))
def test_histograms_of_groups_are_those_of_their_values(items: list[tuple[int, float]]):
    entries = histogram.entries_of(np.array([value for _, value in items], np.float64))
    groups = Groups(np.array([group for group, _ in items], np.int64), 4)
    bins = [Counter((entries[[one == group for one, _ in items]] >> histogram.COUNT_BITS).tolist()) for group in range(4)]
    expected = [[(number << histogram.COUNT_BITS) + count for number, count in sorted(one.items())] for one in bins]
    assert [one.tolist() for one in pieces(*histogram.fold(entries, groups))] == expected


def bloom(texts: Sequence[str], bits: int = 1_024) -> bytes:
    return seen.fold(hash_texts(texts), bits, in_groups(*[0] * len(texts)))[0].tobytes()


@given(st.lists(st.text()), st.lists(st.text()), st.lists(st.text()))
def test_filters_have_all_members_and_are_merged_in_any_order(a: list[str], b: list[str], c: list[str]):
    whole = bloom([*a, *b, *c])
    assert all(seen.has(text, whole) for text in [*a, *b, *c])
    for order in ((a, b, c), (c, a, b), (a, a, b, c, [])):
        filters = np.frombuffer(b"".join(map(bloom, order)), np.uint8)
        bounds = np.arange(len(order) + 1) * 128
        assert seen.merge(filters, bounds, 1_024, in_groups(*[0] * len(order)))[0].tobytes() == whole


def test_each_group_has_its_own_filter():
    texts = [f"v{i}" for i in range(40)]
    filters = pieces(*seen.fold(hash_texts(texts), 1_024, in_groups(*(i % 3 for i in range(40)))))
    assert [piece.tobytes() for piece in filters] == [bloom(texts[group::3]) for group in range(3)]
    assert bloom([]) == bytes(128)


def test_a_filter_finds_strangers_at_the_stated_rate():
    stored = bloom([f"visitor {i}" for i in range(6_800)], 65_536)
    found = sum(seen.has(f"stranger {i}", stored) for i in range(20_000))
    expected = 20_000 * seen.false_positive_rate(6_800, 65_536)
    assert 0.009 < expected / 20_000 < 0.011
    assert abs(found - expected) < 5 * math.sqrt(expected)


def test_a_filter_of_another_size_is_refused():
    with pytest.raises(ValueError, match="not a filter of 128 bytes: 64 bytes"):
        seen.merge(np.frombuffer(bloom(["a"], 512), np.uint8), np.array([0, 64]), 1_024, in_groups(0))


@pytest.mark.parametrize("log2m", range(hll.LEAST_LOG2M, hll.MOST_LOG2M + 1))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 300, 5_000, 60_000])
def test_a_sketch_of_another_precision_has_the_form_of_the_specification(log2m: int, count: int):
    texts = [f"v{i}" for i in range(count)]
    ranks: dict[int, int] = {}
    for hashed in hash_texts(texts).tolist():
        rest = hashed >> log2m
        if rest:
            rank = min((rest & -rest).bit_length(), 31)
            ranks[hashed & (1 << log2m) - 1] = max(rank, ranks.get(hashed & (1 << log2m) - 1, 0))
    is_sparse = len(ranks) * (log2m + 5) < 5 << log2m
    if is_sparse:
        bits = "".join(f"{register:0{log2m}b}{rank:05b}" for register, rank in sorted(ranks.items()))
    else:
        bits = "".join(f"{ranks.get(register, 0):05b}" for register in range(1 << log2m))
    kind = 1 if not ranks else 3 if is_sparse else 4
    body = int(bits.ljust(-(-len(bits) // 8) * 8, "0") or "0", 2).to_bytes(-(-len(bits) // 8), "big")
    sketch = hll.encode(hll.entries_of(hash_texts(texts), log2m), log2m)
    assert sketch == bytes([0x10 | kind, 4 << 5 | log2m, 0x40]) + body
    assert hll.decode(sketch, log2m).tolist() == [register << 5 | rank for register, rank in sorted(ranks.items())]
    halves = [hll.encode(hll.entries_of(hash_texts(part), log2m), log2m) for part in (texts[::2], texts[1::3], texts)]
    bounds = np.cumsum([0, *map(len, halves)])
    merged, _ = hll.merge(np.frombuffer(b"".join(halves), np.uint8), bounds, in_groups(0, 0, 0), log2m)
    assert merged.tobytes() == sketch


def test_a_sketch_of_another_size_is_refused():
    other = hll.encode(hll.entries_of(hash_texts(["a"]), 12), 12)
    with pytest.raises(ValueError, match=r"not an hll\(11, 5, 0, 1\) sketch"):
        merged(other)
