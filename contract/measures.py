"""The measures a view can have. Each is a commutative monoid with one canonical stored form, in Python and in SQL.

A measure says how a group of events becomes its stored value (fold), how stored values become one (merge), and the same
merge in SQL, as an aggregate and for two values. Laws hold for each: merge is associative and commutative, has an
identity, and fold(all) = merge(fold(any split)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.sketches import histogram, hll
from contract.sketches.hash import hash_texts

INT64_LIST = pl.List(pl.Int64)


@dataclass(frozen=True)
class Groups:
    """Which of `count` groups each of n rows belongs to: `ids` has shape (n,), from 0 on."""

    ids: NDArray[np.int64]
    count: int

    def sums(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of each group the exact sum of its rows' numbers."""
        totals = np.zeros(self.count, np.int64)
        np.add.at(totals, self.ids, numbers)
        return totals


@dataclass(frozen=True)
class Measure(ABC):
    """A named column of a view. SQL templates hold {0} and {1} for column expressions."""

    name: str

    dtype: ClassVar[pl.DataType]
    sql_type: ClassVar[str]
    sql_merge: ClassVar[str]
    sql_add: ClassVar[str]
    sql_size: ClassVar[str]
    """The stored value as one bigint for people: itself, the distinct values, the number of values."""

    @property
    @abstractmethod
    def reads(self) -> list[str]:
        """The event's columns that the measure is made of."""

    @abstractmethod
    def items(self, events: pl.DataFrame) -> NDArray[Any]:
        """What each event brings to its group, shape (n,)."""

    @abstractmethod
    def fold(self, items: NDArray[Any], groups: Groups) -> pl.Series:
        """The stored value of each group of events."""

    @abstractmethod
    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        """The stored value of each group of stored values."""


@dataclass(frozen=True)
class _Additive(Measure):
    dtype: ClassVar[pl.DataType] = pl.Int64()
    sql_type: ClassVar[str] = "bigint"
    sql_merge: ClassVar[str] = "sum({0})::bigint"
    sql_add: ClassVar[str] = "{0} + {1}"
    sql_size: ClassVar[str] = "{0}"

    def fold(self, items: NDArray[np.int64], groups: Groups) -> pl.Series:
        return pl.Series(self.name, groups.sums(items), dtype=self.dtype)

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return self.fold(stored.to_numpy(), groups)


@dataclass(frozen=True)
class Count(_Additive):
    """How many events there are, or how many of them meet `where`."""

    where: pl.Expr | None = None

    @property
    def reads(self) -> list[str]:
        return [] if self.where is None else self.where.meta.root_names()

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        if self.where is None:
            return np.ones(len(events), np.int64)
        return events.select(self.where.fill_null(False).cast(pl.Int64)).to_series().to_numpy()


@dataclass(frozen=True)
class Sum(_Additive):
    """The sum of an integer column; its name is the column's unless `of` says otherwise."""

    of: str | None = None

    @property
    def reads(self) -> list[str]:
        return [self.of or self.name]

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        numbers = events[self.of or self.name].cast(pl.Int64)
        return (numbers.fill_null(0) if numbers.null_count() else numbers).to_numpy()


@dataclass(frozen=True)
class Distinct(Measure):
    """How many different values a text column has: a HyperLogLog of 2,048 registers, standard error 2.3 %."""

    of: str

    dtype: ClassVar[pl.DataType] = pl.Binary()
    sql_type: ClassVar[str] = hll.SQL_TYPE
    sql_merge: ClassVar[str] = "hll_union_agg({0})"
    sql_add: ClassVar[str] = "hll_union({0}, {1})"
    sql_size: ClassVar[str] = "distinct_count({0})"

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.uint16]:
        # Most values come many times, and each is hashed once.
        encoded = events[self.of].to_arrow().dictionary_encode()
        entries = np.append(hll.entries_of(hash_texts(encoded.dictionary.to_pylist())), np.uint16(0))
        known: NDArray[np.uint16] = entries[encoded.indices.fill_null(len(encoded.dictionary))]
        return known

    def fold(self, items: NDArray[np.uint16], groups: Groups) -> pl.Series:
        return pl.Series(self.name, hll.encode_groups(groups.ids, items, groups.count), dtype=self.dtype)

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        entries, lengths = hll.decode_all(stored.to_list())
        return self.fold(entries, Groups(np.repeat(groups.ids, lengths), groups.count))


@dataclass(frozen=True)
class Quantiles(Measure):
    """Percentiles of a number column within 1.1 %: an exponential histogram; events without the number do not enter."""

    of: str

    dtype: ClassVar[pl.DataType] = INT64_LIST
    sql_type: ClassVar[str] = histogram.SQL_TYPE
    sql_merge: ClassVar[str] = "rollup({0})"
    sql_add: ClassVar[str] = "histogram_add({0}, {1})"
    sql_size: ClassVar[str] = "(SELECT coalesce(sum(entry & 281474976710655), 0)::bigint FROM unnest({0}) AS entry)"

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.float64]:
        return events[self.of].cast(pl.Float64).to_numpy()

    def fold(self, items: NDArray[np.float64], groups: Groups) -> pl.Series:
        known = ~np.isnan(items)
        bins = histogram.bins_of(items[known])
        return self._encoded(groups.ids[known], bins, np.ones_like(bins), groups.count)

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        array = stored.to_arrow()
        packed = array.flatten().to_numpy(zero_copy_only=False)
        ids = np.repeat(groups.ids, array.value_lengths().to_numpy(zero_copy_only=False))
        return self._encoded(ids, *histogram.decode(packed), groups.count)

    def _encoded(self, ids: NDArray[np.int64], bins: NDArray[np.int64], counts: NDArray[np.int64], count: int) -> pl.Series:
        packed, lengths = histogram.encode_groups(ids, bins, counts, count)
        ends = np.append(0, np.cumsum(lengths))
        return pl.Series(self.name, pa.LargeListArray.from_arrays(pa.array(ends), pa.array(packed)), dtype=self.dtype)
