"""The measures a view can have. Each is a commutative monoid with one canonical stored form, in Python and in SQL.

A measure says how a group of events becomes its stored value (fold), how stored values become one (merge), and the same
merge in SQL, as an aggregate and for two values. Laws hold for each: merge is associative and commutative, has an
identity, and fold(all) = merge(fold(any split)).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar, LiteralString, Self

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.columns import column_of, integers, lists, texts
from contract.errors import CatalogueError
from contract.fields import Field
from contract.groups import Groups
from contract.sketches import histogram, hll, seen
from contract.sketches.hash import hash_texts

_LISTS = pa.large_list(pa.int64())
OF_RECORD = ("partition", "offset")
"""Columns of every event that a measure may be made of, besides fields."""
INT64_LIST = pl.List(pl.Int64)
_PERCENTS: tuple[LiteralString, ...] = ("50", "95", "99")


@dataclass(frozen=True)
class PlainColumn:
    """What any client can read of a measure: a column of a type that SQL itself has, made of the stored value by `sql`."""

    name: str
    sql_type: LiteralString
    sql: LiteralString
    meaning: str


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

    def bound(self, fields: Mapping[str, Field]) -> Self:
        """The same measure of these fields; CatalogueError if it cannot be made of them."""
        for name in self.reads:
            if name not in fields and name not in OF_RECORD:
                raise CatalogueError(f"measure {self.name}: {name} is no field")
        return self

    def declaration(self) -> tuple[str, ...]:
        """What decides its values."""
        return (type(self).__name__, self.sql_type, *(str(getattr(self, field.name)) for field in dataclass_fields(self)))

    @property
    @abstractmethod
    def meaning(self) -> str:
        """The stored value in words, for the comment of its column."""

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        """What plain views have of it."""
        return (PlainColumn(self.name, "bigint", self.sql_size, self.meaning),)

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
        return column_of(self.name, pa.int64(), groups.sums(items))

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return self.fold(integers(stored), groups)


@dataclass(frozen=True)
class Count(_Additive):
    """How many events there are, or how many of them meet `where`."""

    where: pl.Expr | None = None

    @property
    def meaning(self) -> str:
        return "how many events there are" if self.where is None else f"how many events have {_in_words(self.where)}"

    @property
    def reads(self) -> list[str]:
        return [] if self.where is None else self.where.meta.root_names()

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        if self.where is None:
            return np.ones(len(events), np.int64)
        met = events.select(self.where).to_series()
        return (met.fill_null(False) if met.null_count() else met).to_numpy().astype(np.int64)


def _in_words(condition: pl.Expr) -> str:
    """As Polars prints it, without what it says of types: status >= 500."""
    named = re.sub(r'\(?col\("(\w+)"\)\)?', r"\1", str(condition))
    return re.sub(r"\(dyn \w+: ([^()]+)\)", r"\1", named).strip("[]")


@dataclass(frozen=True)
class Sum(_Additive):
    """The sum of an integer column; its name is the column's unless `of` says otherwise."""

    of: str | None = None

    @property
    def meaning(self) -> str:
        return f"the sum of {self.of or self.name}"

    @property
    def reads(self) -> list[str]:
        return [self.of or self.name]

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        numbers = events[self.of or self.name].cast(pl.Int64)
        return integers(numbers.fill_null(0) if numbers.null_count() else numbers)


@dataclass(frozen=True)
class Distinct(Measure):
    """How many different values a text column has: a HyperLogLog of 2,048 registers, standard error 2.3 %."""

    of: str

    dtype: ClassVar[pl.DataType] = pl.Binary()
    sql_type: ClassVar[str] = hll.SQL_TYPE
    sql_merge: ClassVar[str] = "hll_merge({0})"
    sql_add: ClassVar[str] = "hll_union({0}, {1})"
    sql_size: ClassVar[str] = "distinct_count({0})"

    @property
    def meaning(self) -> str:
        return (
            f"the different values of {self.of}: a HyperLogLog, standard error 2.3 %; over several rows "
            f"merged_count({self.name}), of one distinct_count({self.name})"
        )

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        meaning = (
            f"how many different values {self.of} has in this row, standard error 2.3 %. Do not add it up over rows, "
            "which share values: merge the sketches"
        )
        return (PlainColumn(self.name, "bigint", self.sql_size, meaning),)

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.uint16]:
        return hll.entries_of(hash_texts(events[self.of]))

    def fold(self, items: NDArray[np.uint16], groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *hll.fold(items, groups))

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *hll.merge(*texts(stored), groups))


@dataclass(frozen=True)
class Quantiles(Measure):
    """Percentiles of a number column within 1.1 %: an exponential histogram; events without the number do not enter."""

    of: str

    dtype: ClassVar[pl.DataType] = INT64_LIST
    sql_type: ClassVar[str] = histogram.SQL_TYPE
    sql_merge: ClassVar[str] = "sketch_merge({0})"
    sql_add: ClassVar[str] = "histogram_add({0}, {1})"
    sql_size: ClassVar[str] = "(SELECT coalesce(sum(entry & 281474976710655), 0)::bigint FROM unnest({0}) AS entry)"

    @property
    def meaning(self) -> str:
        return (
            f"the values of {self.of}: a histogram within 1.1 %; over several rows merged_percentile(0.95, {self.name}), "
            f"of one approx_percentile(0.95, {self.name})"
        )

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        careful = "do not average it over rows: merge the sketches"
        return (
            *(
                PlainColumn(
                    f"{self.name}_p{percent}",
                    "double precision",
                    f"approx_percentile(0.{percent}, {{0}})",
                    f"the {percent}th percentile of {self.of} within 1.1 %, NULL if no event of the row has one; {careful}",
                )
                for percent in _PERCENTS
            ),
            PlainColumn(
                f"{self.name}_avg",
                "double precision",
                "approx_average({0})",
                f"the mean of {self.of} within 1.1 %, NULL if no event of the row has one; {careful}",
            ),
        )

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        return histogram.entries_of(events[self.of].cast(pl.Float64).to_numpy())

    def fold(self, items: NDArray[np.int64], groups: Groups) -> pl.Series:
        return column_of(self.name, _LISTS, *histogram.fold(items, groups))

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return column_of(self.name, _LISTS, *histogram.merge(*lists(stored), groups))


@dataclass(frozen=True)
class Seen(Measure):
    """Which values a text column has, to be asked one by one: a Bloom filter of `bits`, a power of two.

    65,536 bits, 8 KB, find a stranger in 1 of 100 questions with 6,800 values and in 1 of 10,000 with 2,900.
    """

    of: str
    bits: int = 65_536

    dtype: ClassVar[pl.DataType] = pl.Binary()
    sql_type: ClassVar[str] = seen.SQL_TYPE
    sql_merge: ClassVar[str] = "sketch_merge({0})"
    sql_add: ClassVar[str] = "seen_add({0}, {1})"
    sql_size: ClassVar[str] = "seen_count({0})"

    @property
    def meaning(self) -> str:
        return (
            f"which values {self.of} has: a Bloom filter; seen('value', {self.name}) asks one row, "
            f"seen('value', sketch_merge({self.name})) several"
        )

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        meaning = f"about how many different values {self.of} has in this row, by a Bloom filter's set bits"
        return (PlainColumn(self.name, "bigint", self.sql_size, meaning),)

    def __post_init__(self) -> None:
        if self.bits < 64 or self.bits & (self.bits - 1):
            raise CatalogueError(f"measure {self.name}: {self.bits} bits are no power of two from 64 on")

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.uint64]:
        return hash_texts(events[self.of])

    def fold(self, items: NDArray[np.uint64], groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *seen.fold(items, self.bits, groups))

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *seen.merge(*texts(stored), self.bits, groups))
