"""Measures that are a few whole numbers, added up one by one: the mean, and how many values are between bounds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, LiteralString, Self

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.bounds import as_written, bounds_below, is_too_large, what_is_wrong
from contract.columns import column_of, lists, units
from contract.fields import Decimal, Integer
from contract.groups import Groups
from contract.measures import INT64_LIST, Measure, PlainColumn, decimal_sql, number_field, places_to_add_up

if TYPE_CHECKING:
    from contract.stream import Stream

_LISTS = pa.large_list(pa.int64())
_MOST_BOUNDS = 64


@dataclass(frozen=True)
class _Numbers(Measure):
    """Stored as an array of `width` whole numbers; the merge adds them up place by place."""

    dtype: ClassVar[pl.DataType] = INT64_LIST
    sql_type: ClassVar[LiteralString] = "bigint[]"
    sql_merge: ClassVar[LiteralString] = "sum_each({0})"
    sql_add: ClassVar[LiteralString] = "numbers_add({0}, {1})"

    @property
    @abstractmethod
    def width(self) -> int:
        """So many numbers there are."""

    def fold(self, items: NDArray[np.int64], groups: Groups) -> pl.Series:
        sums = np.stack([groups.sums(np.ascontiguousarray(items[:, place])) for place in range(self.width)], axis=1)
        bounds = np.arange(groups.count + 1, dtype=np.int64) * self.width
        return column_of(self.name, _LISTS, np.ascontiguousarray(sums).reshape(-1), bounds)

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        numbers, bounds = lists(stored)
        assert set(np.diff(bounds).tolist()) <= {self.width}
        return self.fold(numbers[bounds[0] : bounds[-1]].reshape(-1, self.width), groups)


@dataclass(frozen=True)
class Mean(_Numbers):
    """The mean of a column of whole numbers or decimals, exact: stored as the sum and how many values there are."""

    of: str
    places: int = 0
    """Those of the column, which the stream fills in."""

    sql_size: ClassVar[LiteralString] = "({0})[2]"

    def bound(self, stream: Stream) -> Self:
        return replace(super().bound(stream), places=places_to_add_up(self, stream.by_name[self.of]))

    @property
    def width(self) -> int:
        return 2

    @property
    def meaning(self) -> str:
        return (
            f"the sum of {self.of}, and how many values it has; over several rows sum_each({self.name}), whose first number "
            "is divided by the second"
        )

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        total = decimal_sql("({0})[1]", self.places)
        mean: LiteralString = f"({total} / nullif(({{0}})[2], 0)::numeric)::double precision"
        careful = "NULL if no event of the row has one; do not average it over rows"
        return (PlainColumn(self.name, "double precision", mean, f"the mean of {self.of}, {careful}"),)

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        column = units(events[self.of])
        return np.stack([column.fill_null(0).to_numpy(), column.is_not_null().to_numpy().astype(np.int64)], axis=1)


@dataclass(frozen=True)
class Histogram(_Numbers):
    """How many values of a number column are below the first bound, between each two, and from the last one on.

    A value that is a bound is in the range that the bound begins. Of a decimal the bounds may be texts: ("9.99", "20").
    """

    of: str
    bounds: tuple[int | float | str, ...]
    places: int = 0
    """Those of the column, which the stream fills in."""

    sql_size: ClassVar[LiteralString] = "(SELECT coalesce(sum(entry), 0)::bigint FROM unnest({0}) AS entry)"

    def __post_init__(self) -> None:
        otherwise = f"{self.bounds} are not up to {_MOST_BOUNDS} bounds that rise"
        self.require(len(self.bounds) <= _MOST_BOUNDS and what_is_wrong(self.bounds) is None, otherwise)

    def bound(self, stream: Stream) -> Self:
        super().bound(stream)
        of = stream.by_name[self.of]
        number_field(self, of)
        if isinstance(of, Integer | Decimal):
            places = of.places if isinstance(of, Decimal) else 0
            fits = not is_too_large(self.bounds, places)
            self.require(fits, f"a bound is beyond 64 bits in the smallest unit of {self.of}")
            scaled = [as_written(bound).scaleb(places) for bound in self.bounds]
            exact = all(number == number.to_integral_value() for number in scaled)
            self.require(exact, f"a bound has more decimal places than {self.of}, which has {places}")
            return replace(self, places=places)
        return self

    @property
    def width(self) -> int:
        return len(self.bounds) + 1

    @property
    def meaning(self) -> str:
        return (
            f"how many values of {self.of} are in each range: {', '.join(self._ranges)}; over several rows "
            f"sum_each({self.name})"
        )

    @property
    def _ranges(self) -> Sequence[str]:
        between = (f"from {low} below {high}" for low, high in pairwise(self.bounds))
        return [f"below {self.bounds[0]}", *between, f"from {self.bounds[-1]} on"]

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        return tuple(
            PlainColumn(f"{self.name}_{place}", "bigint", _ENTRIES[place], f"how many values of {self.of} are {what}")
            for place, what in enumerate(self._ranges)
        )

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def items(self, events: pl.DataFrame) -> NDArray[np.int64]:
        column = events[self.of]
        found = np.zeros((len(column), self.width), np.int64)
        found[np.arange(len(column)), bounds_below(column, self.bounds)] = column.is_not_null().to_numpy()
        return found


_ENTRIES: tuple[LiteralString, ...] = tuple(f"({{0}})[{place + 1}]" for place in range(_MOST_BOUNDS + 1))
