"""Sketches: canonical bytes, mergeable in any order, within their stated error."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from datasketch import HyperLogLogPlusPlus
from hypothesis import given
from hypothesis import strategies as st

from contract.sketches import histogram, hll
from contract.sketches.bloom import BloomFilter
from contract.sketches.hash import hash_text, hash_texts, hash_texts_128


def sketch(texts: list[str]) -> bytes:
    return hll.encode_groups(np.zeros(len(texts), np.int64), hll.entries_of(hash_texts(texts)), 1)[0]


def test_hash_is_murmur3_x64_128_with_seed_0():
    # What PostgreSQL prints for hll_hash_text('foobar') and hll_hash_text(''), as unsigned numbers.
    assert hash_text("") == 0
    assert hash_texts(["a", "ä"]).tolist() == [hash_text("a"), hash_text("ä")]
    assert hash_texts_128(["a", "b"])[:, 0].tolist() == [hash_text("a"), hash_text("b")]
    assert hash_texts_128([]).shape == (0, 2)


@pytest.mark.parametrize(("count", "kind"), [(0, 0x11), (1, 0x13), (600, 0x13), (740, 0x13), (800, 0x14), (20_000, 0x14)])
def test_hll_form_follows_the_number_of_filled_registers(count: int, kind: int):
    encoded = sketch([f"v{i}" for i in range(count)])
    assert encoded[0] == kind
    assert len(hll.decode(encoded)) == min(count, len(hll.decode(encoded)))
    if kind == 0x13:
        assert len(encoded) == 3 + 2 * len(hll.decode(encoded))
        assert len(hll.decode(encoded)) < hll.SPARSE_LIMIT
    if kind == 0x14:
        assert len(encoded) == 3 + hll.REGISTERS * hll.REGWIDTH // 8


def test_hll_entry_of_known_hashes():
    hashes = np.array([0, 5, 5 | 1 << 11, 5 | 1 << 12, 5 | 1 << 63, 7 | 1 << 40], np.uint64)
    # No bit above the index: the extension's hll_add fills no register. Ranks are capped at 31.
    assert hll.entries_of(hashes).tolist() == [0, 0, 5 << 5 | 1, 5 << 5 | 2, 5 << 5 | 31, 7 << 5 | 30]


@given(st.lists(st.text(max_size=5)), st.lists(st.text(max_size=5)))
def test_hll_merge_is_the_sketch_of_all(left: list[str], right: list[str]):
    entries, lengths = hll.decode_all([sketch(left), sketch(right)])
    merged = hll.encode_groups(np.zeros(lengths.sum(), np.int64), entries, 1)[0]
    assert merged == sketch(right + left)


def test_hll_groups_do_not_mix():
    texts = [f"v{i}" for i in range(3_000)]
    groups = np.array([0 if i < 10 else 2 if i < 20 else 3 for i in range(3_000)], np.int64)
    encoded = hll.encode_groups(groups, hll.entries_of(hash_texts(texts)), 4)
    assert encoded == [sketch(texts[:10]), sketch([]), sketch(texts[10:20]), sketch(texts[20:])]


@pytest.mark.parametrize("wrong", [b"", b"\x13", b"\x13\x8b\x40\x01", b"\x12\x8b\x40", b"\x14\x8b\x40\x00"])
def test_hll_refuses_other_bytes(wrong: bytes):
    with pytest.raises(ValueError, match="not an hll"):
        hll.decode(wrong)


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
    assert histogram.bins_of(np.array([value]))[0] == exact_bin(value)


def test_bin_bounds_are_upper_inclusive():
    powers = 2.0 ** np.arange(-9, 30)
    assert histogram.bins_of(powers).tolist() == [32 * k - 1 for k in range(-9, 30)]
    assert histogram.bins_of(np.nextafter(powers, np.inf)).tolist() == [32 * k for k in range(-9, 30)]
    assert histogram.bins_of(np.array([0.0, 5e-324, 2**-10])).tolist() == [histogram.ZERO_BIN] * 3


@given(st.lists(st.floats(min_value=0.001, max_value=86_400_000), min_size=1), st.floats(0, 1))
def test_percentile_is_within_the_relative_error(values: list[float], fraction: float):
    bins = histogram.bins_of(np.array(values))
    packed, lengths = histogram.encode_groups(np.zeros_like(bins), bins, np.ones_like(bins), 1)
    exact = sorted(values)[max(1, math.ceil(fraction * len(values))) - 1]
    assert lengths.tolist() == [len(packed)]
    assert histogram.percentile(fraction, packed.tolist()) == pytest.approx(exact, rel=histogram.RELATIVE_ERROR * 1.001)


def test_histogram_of_nothing_and_of_many_groups():
    assert histogram.percentile(0.5, []) is None
    groups, bins = np.array([2, 0, 2, 2]), np.array([5, -3, 5, -9])
    packed, lengths = histogram.encode_groups(groups, bins, np.array([1, 1, 2, 1]), 4)
    assert lengths.tolist() == [1, 0, 2, 0]
    assert [array.tolist() for array in histogram.decode(packed)] == [[-3, -9, 5], [1, 1, 3]]
    empty, lengths = histogram.encode_groups(groups[:0], bins[:0], bins[:0], 2)
    assert (empty.tolist(), lengths.tolist()) == ([], [0, 0])


def test_bloom_finds_members_and_few_others():
    members = hash_texts_128(f"m{i}" for i in range(20_000))
    strangers = hash_texts_128(f"s{i}" for i in range(200_000))
    bloom = BloomFilter(20_000, 1e-3)
    bloom.add(members)
    assert bloom.contains(members).all()
    assert not BloomFilter(20_000, 1e-3).contains(members).any()
    # 200 are expected at most; 300 would be seven standard deviations more.
    assert bloom.contains(strangers).sum() < 300
