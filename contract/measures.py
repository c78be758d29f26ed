"""The measures a view can have. Each is a commutative monoid with one canonical stored form, in Polars and in SQL.

A measure says how a group of events becomes its stored value (fold), how stored values become one (merge), and the same
merge in SQL, as an aggregate and for two values. Laws hold for each: merge is associative and commutative, has an
identity, and fold(all) = merge(fold(any split)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import pyarrow as pa

from contract.sketches import histogram, hll
from contract.sketches.hash import hash_texts

INT64_LIST = pl.List(pl.Int64)


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

    def items(self, events: pl.DataFrame) -> list[pl.Series]:
        """Columns that `gather` needs beside those of the event; equal names have equal content."""
        return []

    @abstractmethod
    def gather(self) -> pl.Expr:
        """An aggregation over a group of events: the stored value, or a list of items that `settle` makes one of."""

    @abstractmethod
    def regather(self) -> pl.Expr:
        """The same over a group of stored values, for merging."""

    def settle(self, gathered: pl.Series) -> pl.Series:
        """Stored values from what gather gave, one a group."""
        return gathered

    def resettle(self, gathered: pl.Series) -> pl.Series:
        """Stored values from what regather gave, one a group."""
        return gathered


@dataclass(frozen=True)
class _Additive(Measure):
    dtype: ClassVar[pl.DataType] = pl.Int64()
    sql_type: ClassVar[str] = "bigint"
    sql_merge: ClassVar[str] = "sum({0})::bigint"
    sql_add: ClassVar[str] = "{0} + {1}"
    sql_size: ClassVar[str] = "{0}"

    def regather(self) -> pl.Expr:
        return pl.col(self.name).sum()


@dataclass(frozen=True)
class Count(_Additive):
    """How many events there are, or how many of them meet `where`."""

    where: pl.Expr | None = None

    @property
    def reads(self) -> list[str]:
        return [] if self.where is None else self.where.meta.root_names()

    def gather(self) -> pl.Expr:
        counted = pl.len() if self.where is None else self.where.fill_null(False).sum()
        return counted.cast(pl.Int64).alias(self.name)


@dataclass(frozen=True)
class Sum(_Additive):
    """The sum of an integer column; its name is the column's unless `of` says otherwise."""

    of: str | None = None

    @property
    def reads(self) -> list[str]:
        return [self.of or self.name]

    def gather(self) -> pl.Expr:
        return pl.col(self.of or self.name).sum().cast(pl.Int64).alias(self.name)


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

    def items(self, events: pl.DataFrame) -> list[pl.Series]:
        values = events[self.of]
        entries = pl.Series(self._item, hll.entries_of(hash_texts(values.drop_nulls())), dtype=pl.UInt16)
        if values.null_count():
            entries = pl.zeros(len(values), pl.UInt16, eager=True).scatter(values.is_not_null().arg_true(), entries)
        return [entries.alias(self._item)]

    def gather(self) -> pl.Expr:
        return pl.col(self._item).implode().alias(self.name)

    @property
    def _item(self) -> str:
        return f"{self.of} register entry"

    def settle(self, gathered: pl.Series) -> pl.Series:
        groups, items = _flat(gathered)
        return pl.Series(gathered.name, hll.encode_groups(groups, items, len(gathered)), dtype=self.dtype)

    def regather(self) -> pl.Expr:
        return pl.col(self.name).implode()

    def resettle(self, gathered: pl.Series) -> pl.Series:
        groups, sketches = _flat(gathered)
        entries, lengths = hll.decode_all(sketches.tolist())
        return pl.Series(
            gathered.name, hll.encode_groups(np.repeat(groups, lengths), entries, len(gathered)), dtype=self.dtype
        )


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

    def gather(self) -> pl.Expr:
        return pl.col(self.of).drop_nulls().implode().alias(self.name)

    def settle(self, gathered: pl.Series) -> pl.Series:
        groups, values = _flat(gathered)
        bins = histogram.bins_of(values.astype(np.float64))
        return self._encode(gathered, groups, bins, np.ones_like(bins))

    def regather(self) -> pl.Expr:
        return pl.col(self.name).list.explode(keep_nulls=False, empty_as_null=False).implode()

    def resettle(self, gathered: pl.Series) -> pl.Series:
        groups, packed = _flat(gathered)
        return self._encode(gathered, groups, *histogram.decode(packed.astype(np.int64)))

    def _encode(self, gathered: pl.Series, groups: np.ndarray, bins: np.ndarray, counts: np.ndarray) -> pl.Series:
        packed, lengths = histogram.encode_groups(groups, bins, counts, len(gathered))
        return _lists(gathered.name, packed, lengths)


def _flat(lists: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Items of all lists end to end, and the number of the list that each came from."""
    array = lists.to_arrow(compat_level=pl.CompatLevel.oldest())
    groups = np.repeat(np.arange(len(lists), dtype=np.int64), array.value_lengths())
    return groups, array.flatten().to_numpy(zero_copy_only=False)


def _lists(name: str, items: np.ndarray, lengths: np.ndarray) -> pl.Series:
    """The reverse of _flat for integers: a list a group, an empty one included."""
    ends = np.append(0, np.cumsum(lengths))
    return pl.Series(name, pa.LargeListArray.from_arrays(pa.array(ends), pa.array(items)), dtype=INT64_LIST)
