"""Sketches in SQL and in Python: the same bytes, the same answers."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

from contract.groups import Groups
from contract.settings import Settings
from contract.sketches import histogram, hll, seen
from contract.sketches.hash import hash_texts
from serving.database import Connection, connect


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with connect(database, "postgres") as connection:
        yield connection


def value(connection: Connection, query: str, *parameters: object) -> object:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row
    return row[0]


def python_sketch(texts: list[str]) -> str:
    return "\\x" + hll.encode(hll.entries_of(hash_texts(texts))).hex()


def python_histogram(values: list[float]) -> list[int]:
    return histogram.encode(histogram.entries_of(np.array(values, np.float64))).tolist()


def merged(histograms: list[list[int]]) -> list[int]:
    return histogram.encode(np.array([entry for packed in histograms for entry in packed], np.int64)).tolist()


def random_histograms(seed: int, number: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [
        python_histogram(
            [0.0 if chance.random() < 0.05 else chance.lognormvariate(4, 2) for _ in range(chance.randint(0, 120))]
        )
        for _ in range(number)
    ]


@pytest.mark.parametrize("count", [1, 2, 100, 639, 640, 700, 2_000, 50_000])
def test_a_sketch_built_in_sql_from_raw_values_has_our_bytes(owner: Connection, count: int) -> None:
    texts = [f"visitor ü {i}" for i in range(count)]
    ours = python_sketch(texts)
    raw = "hll_add_agg(hll_hash_text(t), 11, 5, 0, 1)"
    assert value(owner, f"SELECT {raw}::text FROM unnest(%s::text[]) AS t", texts) == ours
    halves = f"SELECT {raw} AS half FROM unnest(%s::text[]) WITH ORDINALITY AS u (t, n) GROUP BY n %% 3"
    for union in ("rollup", "hll_union_agg", "hll_merge"):
        assert value(owner, f"SELECT {union}(half)::text FROM ({halves}) AS h", texts) == ours
    error = abs(int(str(value(owner, "SELECT distinct_count(%s::hll)", ours))) - count) / count
    assert error < 4 * hll.STANDARD_ERROR


@pytest.mark.parametrize("number", [1, 2, 30, 400])
def test_histograms_add_up_to_our_integers(owner: Connection, number: int) -> None:
    histograms = random_histograms(number, number)
    owner.execute("CREATE TEMP TABLE part (n int, latency bigint[])")
    with owner.cursor().copy("COPY part FROM STDIN") as copy:
        for n, packed in enumerate(histograms):
            copy.write_row((n, packed))
    assert value(owner, "SELECT rollup(latency ORDER BY random()) FROM part") == merged(histograms)
    nested = "SELECT rollup(latency) AS latency FROM part GROUP BY n %% 7"
    assert value(owner, f"SELECT rollup(latency) FROM ({nested}) AS parts") == merged(histograms)
    pairs = owner.execute(
        "SELECT a.latency, b.latency, histogram_add(a.latency, b.latency), histogram_add(a.latency, b.latency[:5]) "
        "FROM part AS a JOIN part AS b ON b.n = (a.n + 1) %% %s",
        [number],
    )
    for a, b, added, added_few in pairs:
        assert added == merged([a, b])
        assert added_few == merged([a, b[:5]])


def test_parallel_aggregation_gives_the_same(owner: Connection) -> None:
    histograms = random_histograms(5, 300)
    owner.execute("CREATE TABLE part (latency bigint[], visitors hll)")
    with owner.cursor().copy("COPY part (latency) FROM STDIN") as copy:
        for packed in histograms:
            copy.write_row((packed,))
    owner.execute("UPDATE part SET visitors = hll_add(hll_empty(11, 5, 0, 1), hll_hash_text(latency::text))")
    owner.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
    query = "SELECT rollup(latency), rollup(visitors)::text FROM part"
    assert "Parallel" in str(owner.execute(f"EXPLAIN {query}").fetchall())
    texts = ["{" + ",".join(map(str, packed)) + "}" for packed in histograms]
    assert owner.execute(query).fetchone() == (merged(histograms), python_sketch(texts))


def test_empty_things_have_no_percentile_and_nothing_is_null(owner: Connection) -> None:
    assert value(owner, "SELECT rollup(h) FROM (VALUES ('{}'::bigint[]), ('{}')) AS v (h)") == []
    assert value(owner, "SELECT rollup(h) FROM (VALUES (NULL::bigint[])) AS v (h)") is None
    assert value(owner, "SELECT approx_percentile(0.5, '{}')") is None
    assert value(owner, "SELECT distinct_count(hll_empty(11, 5, 0, 1))") == 0


def test_percentiles_are_those_of_python(owner: Connection) -> None:
    for packed in random_histograms(2, 40):
        for fraction in (0.0, 0.001, 0.5, 0.95, 0.99, 1.0):
            ours = histogram.percentile(fraction, packed)
            theirs = value(owner, "SELECT approx_percentile(%s, %s::bigint[])", fraction, packed)
            assert theirs == ours or math.isclose(float(str(theirs)), ours or 0.0, rel_tol=1e-15)


@pytest.mark.parametrize("fraction", [-0.1, 1.01, 95, math.nan])
def test_a_percentile_outside_0_to_1_is_an_error_that_explains(owner: Connection, fraction: float) -> None:
    with pytest.raises(
        psycopg.errors.InvalidParameterValue, match=r"takes a fraction from 0 to 1, not .*95th percentile is 0.95"
    ):
        owner.execute("SELECT approx_percentile(%s, '{1}')", [fraction])


def test_bins_as_a_table_hold_every_value(owner: Connection) -> None:
    values = sorted([0.0, 0.0005, 0.5, 1.0, 1.01, 100.0, 100.0, 86_400_000.0])
    rows = owner.execute(
        "SELECT lower, upper, count FROM histogram_bins(%s::bigint[])", [python_histogram(values)]
    ).fetchall()
    assert [sum(low < value <= high or low == value == 0 for value in values) for low, high, _ in rows] == [
        n for *_, n in rows
    ]
    assert sum(n for *_, n in rows) == len(values)


def test_a_rollup_that_compacts_on_its_way_is_the_sum(owner: Connection) -> None:
    owner.execute(
        "CREATE TEMP TABLE part AS SELECT array_agg((bin::bigint << 48) + 7 ORDER BY bin) AS latency "
        "FROM generate_series(1, 2000) AS n, generate_series(n % 100, n % 100 + 49) AS bin GROUP BY n"
    )
    counts = Counter(number for n in range(1, 2001) for number in range(n % 100, n % 100 + 50))
    expected = [(number << 48) + 7 * count for number, count in sorted(counts.items())]
    assert value(owner, "SELECT rollup(latency) FROM part") == expected


def bloom(texts: list[str], bits: int = 65_536) -> bytes:
    return seen.fold(hash_texts(texts), bits, Groups(np.zeros(len(texts), np.int64), 1))[0].tobytes()


@pytest.mark.parametrize("bits", [64, 1_024, 65_536])
def test_filters_are_asked_and_merged_in_sql_as_in_python(owner: Connection, bits: int) -> None:
    texts = ["", "ä", *(f"visitor {i}" for i in range(100))]
    parts = [bloom(texts[start::3], bits) for start in range(3)]
    whole = bloom(texts, bits)
    assert value(owner, "SELECT rollup(part) FROM unnest(%s::bytea[]) AS part", parts) == whole
    assert value(owner, "SELECT seen_add(%s, %s)", parts[0], bytes(bits // 8)) == parts[0]
    strangers = [f"stranger {i}" for i in range(300)]
    query = "SELECT array_agg(seen(t, %s) ORDER BY n) FROM unnest(%s::text[]) WITH ORDINALITY AS u (t, n)"
    assert value(owner, query, whole, texts) == [True] * len(texts)
    assert value(owner, query, whole, strangers) == [seen.has(stranger, whole) for stranger in strangers]


def test_a_filters_count_is_near_the_number_of_its_members(owner: Connection) -> None:
    for members in (0, 1, 100, 5_000):
        count = value(owner, "SELECT seen_count(%s)", bloom([f"visitor {i}" for i in range(members)]))
        assert isinstance(count, int)
        assert abs(count - members) <= 0.02 * members
    assert isinstance(value(owner, "SELECT seen_count(%s)", b"\xff" * 8_192), int)
