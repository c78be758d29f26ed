"""The measures a view can have. Each is a commutative monoid with one canonical stored form, in Python and in SQL.

A measure says how a group of events becomes its stored value (fold), how stored values become one (merge), and the same
merge in SQL, as an aggregate and for two values. Laws hold for each: merge is associative and commutative, has an
identity, and fold(all) = merge(fold(any split)).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, LiteralString, Self

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.columns import column_of, integers, lists, texts
from contract.errors import CatalogueError
from contract.fields import Decimal, Double, Enumeration, Field, Integer, Text
from contract.groups import Groups
from contract.sketches import histogram, hll, seen
from contract.sketches.hash import hash_texts

if TYPE_CHECKING:
    from contract.stream import Stream

_BEFORE = "before"
"""In the metadata of a dataclass field that views stored earlier know nothing of: what held for them."""
_LISTS = pa.large_list(pa.int64())
OF_RECORD = ("partition", "offset")
"""Columns of every event that a measure may be made of, besides fields."""
INT64_LIST = pl.List(pl.Int64)
_MOST_ADDED = 1 << 40
"""So that 8 million of the largest fit the 64-bit sum of one bucket."""
_UNITS: tuple[LiteralString, ...] = (
    "1", "0.1", "0.01", "0.001", "0.0001", "0.00001", "0.000001", "0.0000001", "0.00000001", "0.000000001",
)  # fmt: skip
# Of functions that Polars prints without all that is said to them, or of values, without all of these.
_NOT_IN_WORDS = re.compile(r"[)\]]\.(?!(?:not|negate|is_null|is_not_null)\(\))|\bSeries\b")
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

    @property
    @abstractmethod
    def dtype(self) -> pl.DataType:
        """Of the stored values, as a column."""

    @property
    @abstractmethod
    def sql_type(self) -> LiteralString:
        """The same in the database."""

    @property
    @abstractmethod
    def sql_merge(self) -> LiteralString:
        """The merge as an aggregate over rows."""

    @property
    @abstractmethod
    def sql_add(self) -> LiteralString:
        """The merge of two values."""

    @property
    @abstractmethod
    def sql_size(self) -> LiteralString:
        """The stored value as one bigint for people: itself, the distinct values, the number of values."""

    @property
    def nullable(self) -> bool:
        """Whether there is no stored value where no event has what it is made of."""
        return False

    def bound(self, stream: Stream) -> Self:
        """The same measure of the stream's fields; CatalogueError if it cannot be made of them."""
        for name in self.reads:
            self.require(name in stream.by_name or name in OF_RECORD, f"{name} is no field of stream {stream.name}")
        return self

    def require(self, is_right: bool, otherwise: str) -> None:
        """Raise CatalogueError unless it is right."""
        if not is_right:
            raise CatalogueError(f"measure {self.name}: {otherwise}")

    def declaration(self) -> tuple[str, ...]:
        """What decides its values. What was added to a measure later is in it only where it is not what it was before."""
        said = [(getattr(self, each.name), each.metadata) for each in dataclass_fields(self)]
        parts = (str(value) for value, about in said if _BEFORE not in about or value != about[_BEFORE])
        return (type(self).__name__, self.sql_type, *parts)

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
    def items(self, events: pl.DataFrame) -> Any:
        """What each event brings to its group, n of them; `fold` takes it."""

    @abstractmethod
    def fold(self, items: Any, groups: Groups) -> pl.Series:
        """The stored value of each group of events."""

    @abstractmethod
    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        """The stored value of each group of stored values."""


@dataclass(frozen=True)
class _Additive(Measure):
    dtype: ClassVar[pl.DataType] = pl.Int64()
    sql_type: ClassVar[LiteralString] = "bigint"
    sql_merge: ClassVar[LiteralString] = "sum({0})::bigint"
    sql_add: ClassVar[LiteralString] = "{0} + {1}"
    sql_size: ClassVar[LiteralString] = "{0}"

    def fold(self, items: NDArray[np.int64], groups: Groups) -> pl.Series:
        return column_of(self.name, pa.int64(), groups.sums(items))

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return self.fold(integers(stored), groups)


@dataclass(frozen=True)
class Count(_Additive):
    """How many events there are, or how many of them meet `where`."""

    where: pl.Expr | None = None

    def bound(self, stream: Stream) -> Self:
        super().bound(stream)
        if self.where is not None:
            self._check(self.where, stream)
        return self

    def _check(self, where: pl.Expr, stream: Stream) -> None:
        # Of no event there is no answer, unless it is one of all events together.
        nothing = pl.DataFrame(schema={**dict.fromkeys(OF_RECORD, pl.Int64()), **stream.schema})
        try:
            met = nothing.select(where).to_series()
        except pl.exceptions.PolarsError as error:
            what = str(error).partition("\n")[0]
            raise CatalogueError(f"measure {self.name}: its condition cannot be asked: {what}") from None
        is_right = met.dtype == pl.Boolean and not len(met)
        self.require(is_right, "its condition is not true or false of each event by itself")

    def declaration(self) -> tuple[str, ...]:
        said = super().declaration()
        if self.where is None or not _NOT_IN_WORDS.search(str(self.where)):
            return said
        return (*said, sha256(self.where.meta.serialize()).hexdigest())

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
    """The sum of a column of whole numbers or decimals; its name is the column's unless `of` says otherwise.

    Of decimals it is stored in their smallest unit, so it is exact too. A sum of doubles is refused: it would depend on the
    order in which they come, so batch and speed would differ.
    """

    of: str | None = None
    places: int = field(default=0, metadata={_BEFORE: 0})
    """Those of the column, which the stream fills in."""

    def bound(self, stream: Stream) -> Self:
        places = places_to_add_up(super().bound(stream), stream.by_name[self.column])
        # Several views' sum stays one object, so it is worked out of the events once.
        return self if places == self.places else replace(self, places=places)

    @property
    def column(self) -> str:
        """What is added up."""
        return self.of or self.name

    @property
    def meaning(self) -> str:
        return f"the sum of {self.column}{in_units(self.places)}"

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        if not self.places:
            return super().plain
        return (PlainColumn(self.name, "numeric", decimal_sql("{0}", self.places), f"the sum of {self.column}"),)

    @property
    def reads(self) -> list[str]:
        return [self.column]

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        column = events[self.column]
        numbers = (column.to_physical() if self.places else column).cast(pl.Int64)
        return integers(numbers.fill_null(0) if numbers.null_count() else numbers)


@dataclass(frozen=True)
class Distinct(Measure):
    """How many different values a text column has: a HyperLogLog of 2^precision registers, by default with an error of
    2.3 %.

    A standard error of 1.04 / 2^(precision / 2): 10 is 3.3 % and 0.6 KB a row at most, 15 is 0.6 % and 20 KB.
    """

    of: str
    precision: int = field(default=hll.LOG2M, metadata={_BEFORE: hll.LOG2M})

    dtype: ClassVar[pl.DataType] = pl.Binary()
    sql_add: ClassVar[LiteralString] = "hll_union({0}, {1})"
    sql_size: ClassVar[LiteralString] = "distinct_count({0})"

    def __post_init__(self) -> None:
        otherwise = f"its precision, {self.precision}, is none of {hll.LEAST_LOG2M} to {hll.MOST_LOG2M}"
        self.require(hll.LEAST_LOG2M <= self.precision <= hll.MOST_LOG2M, otherwise)

    def bound(self, stream: Stream) -> Self:
        require_text(self, stream.by_name.get(self.of), self.of)
        return super().bound(stream)

    @property
    def sql_type(self) -> LiteralString:
        return hll.sql_type(self.precision)

    @property
    def sql_merge(self) -> LiteralString:
        # Ours is faster, and knows one size.
        return "hll_merge({0})" if self._is_usual else "hll_union_agg({0})"

    @property
    def _is_usual(self) -> bool:
        return self.precision == hll.LOG2M

    @property
    def _error(self) -> str:
        return f"standard error {100 * hll.standard_error(self.precision):.1f} %"

    @property
    def meaning(self) -> str:
        merged = f"merged_count({self.name})" if self._is_usual else f"hll_cardinality(hll_union_agg({self.name}))"
        return (
            f"the different values of {self.of}: a HyperLogLog, {self._error}; over several rows "
            f"{merged}, of one distinct_count({self.name})"
        )

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        meaning = (
            f"how many different values {self.of} has in this row, {self._error}. Do not add it up over rows, "
            "which share values: merge the sketches"
        )
        return (PlainColumn(self.name, "bigint", self.sql_size, meaning),)

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.uint32]:
        return hll.entries_of(hash_texts(events[self.of]), self.precision)

    def fold(self, items: NDArray[np.uint32], groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *hll.fold(items, groups, self.precision))

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *hll.merge(*texts(stored), groups, self.precision))


@dataclass(frozen=True)
class Quantiles(Measure):
    """Percentiles of a number column within 1.1 %: an exponential histogram; events without the number do not enter."""

    of: str

    def bound(self, stream: Stream) -> Self:
        super().bound(stream)
        least = number_field(self, stream.by_name[self.of])[0]
        otherwise = (
            f"{self.of} may be negative, which an exponential histogram knows nothing of; Histogram has bounds of its own"
        )
        self.require(least >= 0, otherwise)
        return self

    dtype: ClassVar[pl.DataType] = INT64_LIST
    sql_type: ClassVar[LiteralString] = histogram.SQL_TYPE
    sql_merge: ClassVar[LiteralString] = "sketch_merge({0})"
    sql_add: ClassVar[LiteralString] = "histogram_add({0}, {1})"
    sql_size: ClassVar[LiteralString] = (
        "(SELECT coalesce(sum(entry & 281474976710655), 0)::bigint FROM unnest({0}) AS entry)"
    )

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
    sql_type: ClassVar[LiteralString] = seen.SQL_TYPE
    sql_merge: ClassVar[LiteralString] = "sketch_merge({0})"
    sql_add: ClassVar[LiteralString] = "seen_add({0}, {1})"
    sql_size: ClassVar[LiteralString] = "seen_count({0})"

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

    def bound(self, stream: Stream) -> Self:
        require_text(self, stream.by_name.get(self.of), self.of)
        return super().bound(stream)

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.uint64]:
        return hash_texts(events[self.of])

    def fold(self, items: NDArray[np.uint64], groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *seen.fold(items, self.bits, groups))

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return column_of(self.name, pa.large_binary(), *seen.merge(*texts(stored), self.bits, groups))


def require_text(measure: Measure, of: Field | None, name: str) -> None:
    measure.require(of is None or isinstance(of, Text | Enumeration), f"{name} is no text")


def number_field(measure: Measure, of: Field) -> tuple[float, float]:
    """The limits of a number field, in the units that it is stored in."""
    if isinstance(of, Decimal):
        return of.limits
    measure.require(isinstance(of, Integer | Double), f"{of.name} is no number")
    assert isinstance(of, Integer | Double)
    return of.least, of.most


def places_to_add_up(measure: Measure, of: Field) -> int:
    """How many decimal places the sums have; CatalogueError if they would not be exact."""
    otherwise = (
        f"a sum of doubles depends on their order, so batch and speed would differ; make {of.name} a Decimal, "
        "or ask for Quantiles, whose approx_average is within 1.1 %"
    )
    measure.require(not isinstance(of, Double), otherwise)
    least, most = number_field(measure, of)
    otherwise = f"millions of {of.name} may not fit 64 bits as a sum: its limits are beyond 2^40 of its smallest unit"
    measure.require(max(-least, most) <= _MOST_ADDED, otherwise)
    return of.places if isinstance(of, Decimal) else 0


def in_units(places: int) -> str:
    return f", in units of the {places}th decimal place" if places else ""


def decimal_sql(value: LiteralString, places: int) -> LiteralString:
    """SQL that makes the decimal of a number of its smallest units."""
    # A quotient would be rounded to 16 digits.
    return f"({value}::numeric * {_UNITS[places]})" if places else value
