"""Measures that are the value of one event: the least or greatest one, or that of the first or last event.

Where no event has a value there is none, NULL. The merge chooses between values, so any order gives the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, LiteralString, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.columns import units
from contract.fields import Decimal
from contract.groups import Groups
from contract.measures import Measure, PlainColumn, decimal_sql, in_units

if TYPE_CHECKING:
    from contract.stream import Stream

_TIME_DIGITS, _OFFSET_DIGITS, _PARTITION_DIGITS = 18, 19, 10
_PREFIX_DIGITS = _TIME_DIGITS + _OFFSET_DIGITS + _PARTITION_DIGITS
_KNOWN = "known"
_NUMBER = "number"
# What is beyond this tells people nothing as a size, and may not fit as a sum over rows.
_SHOWN: LiteralString = "CASE WHEN abs({0}) <= 1099511627776 THEN round({0})::bigint END"
_SQL_TYPES: dict[str, LiteralString] = {
    "Text": "text", "Enumeration": "text", "Boolean": "boolean", "Integer": "bigint", "Decimal": "numeric",
    "Double": "double precision", "Timestamp": "timestamptz",
}  # fmt: skip


@dataclass(frozen=True)
class _OfOne(Measure):
    of: str
    kind: str = ""
    """The column's type, which the stream fills in."""
    places: int = 0
    """Its decimal places, likewise."""

    kinds: ClassVar[tuple[str, ...]]
    """The types of columns that it may be of."""

    @property
    def nullable(self) -> bool:
        return True

    @property
    def reads(self) -> list[str]:
        return [self.of]

    def bound(self, stream: Stream) -> Self:
        super().bound(stream)
        of = stream.by_name[self.of]
        self.require(type(of).__name__ in self.kinds, f"{self.of} is none of {', '.join(self.kinds)}")
        return replace(self, kind=type(of).__name__, places=of.places if isinstance(of, Decimal) else 0)


@dataclass(frozen=True)
class _Extreme(_OfOne):
    """Of numbers and times; `which` says least or greatest, and `choose` takes it of two arrays."""

    kinds: ClassVar[tuple[str, ...]] = ("Integer", "Decimal", "Double", "Timestamp")
    which: ClassVar[str]
    choose: ClassVar[np.ufunc]

    @property
    def dtype(self) -> pl.DataType:
        return {"Double": pl.Float64(), "Timestamp": pl.Datetime("us", "UTC")}.get(self.kind, pl.Int64())

    @property
    def sql_type(self) -> LiteralString:
        # A decimal is stored in its smallest unit.
        return "bigint" if self.kind == "Decimal" else _SQL_TYPES.get(self.kind, "bigint")

    @property
    def sql_size(self) -> LiteralString:
        return "extract(epoch FROM {0})::bigint" if self.kind == "Timestamp" else _SHOWN

    @property
    def meaning(self) -> str:
        return f"the {self.which} {self.of}{in_units(self.places)}, NULL if no event of the row has one"

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        sql_type = _SQL_TYPES.get(self.kind, "bigint")
        meaning = f"the {self.which} {self.of}, NULL if no event of the row has one"
        return (PlainColumn(self.name, sql_type, decimal_sql("{0}", self.places), meaning),)

    def items(self, events: pl.DataFrame) -> NDArray[Any]:
        return self._with_known(events[self.of])

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        return self.fold(self._with_known(stored), groups)

    def _with_known(self, column: pl.Series) -> NDArray[Any]:
        numbers = column.fill_null(0.0) if column.dtype == pl.Float64 else units(column).fill_null(0)
        # Minus nothing becomes nothing, or whichever comes first would be stored. Polars leaves out such an addition.
        items = numbers.to_numpy()
        items = items + items.dtype.type(0)
        found = np.zeros(len(column), [(_KNOWN, np.bool_), (_NUMBER, items.dtype)])
        found[_KNOWN], found[_NUMBER] = column.is_not_null().to_numpy(), items
        return found

    def fold(self, items: NDArray[Any], groups: Groups) -> pl.Series:
        known = items[items[_KNOWN]]
        ids = groups.ids[items[_KNOWN]]
        values, is_known = np.zeros(groups.count, items.dtype[_NUMBER]), np.zeros(groups.count, np.bool_)
        # Each group begins with one of its own values.
        values[ids], is_known[ids] = known[_NUMBER], True
        self.choose.at(values, ids, known[_NUMBER])
        column = pl.Series(self.name, values).cast(self.dtype)
        return column.set(pl.Series(~is_known), None) if not is_known.all() else column


@dataclass(frozen=True)
class Min(_Extreme):
    """The least value of a column of numbers or times."""

    sql_merge: ClassVar[LiteralString] = "min({0})"
    sql_add: ClassVar[LiteralString] = "least({0}, {1})"
    which: ClassVar[str] = "least"
    choose: ClassVar[np.ufunc] = np.minimum


@dataclass(frozen=True)
class Max(_Extreme):
    """The greatest value of a column of numbers or times."""

    sql_merge: ClassVar[LiteralString] = "max({0})"
    sql_add: ClassVar[LiteralString] = "greatest({0}, {1})"
    which: ClassVar[str] = "greatest"
    choose: ClassVar[np.ufunc] = np.maximum


@dataclass(frozen=True)
class _ByTime(_OfOne):
    """Stored as a text that sorts as the events do: time in microseconds since 1970, offset, partition, and the value.

    The first three have always as many digits, so texts compare by their bytes as the numbers do.
    """

    time: str = ""
    """The event's time, which the stream fills in."""

    kinds: ClassVar[tuple[str, ...]] = tuple(_SQL_TYPES)
    which: ClassVar[str]
    """First or last."""
    sign: ClassVar[int]
    """What makes what is chosen the greatest."""

    dtype: ClassVar[pl.DataType] = pl.String()
    sql_type: ClassVar[LiteralString] = "text"
    sql_size: ClassVar[LiteralString] = "({0} IS NOT NULL)::int::bigint"

    @property
    def reads(self) -> list[str]:
        return [self.of, *([self.time] if self.time else []), "offset", "partition"]

    def bound(self, stream: Stream) -> Self:
        return replace(super().bound(stream), time=stream.time)

    @property
    def meaning(self) -> str:
        return (
            f"the {self.which} {self.of} by time, and by offset where times are equal: {_PREFIX_DIGITS} digits of time, "
            "offset and partition, then the value; NULL if no event of the row has one"
        )

    @property
    def plain(self) -> tuple[PlainColumn, ...]:
        sql_type = _SQL_TYPES.get(self.kind, "text")
        value: LiteralString = "substr({0}, 48)"
        match self.kind:
            case "Decimal":
                value = decimal_sql("substr({0}, 48)", self.places)
            case "Timestamp":
                value = "'epoch'::timestamptz + substr({0}, 48)::bigint * interval '1 microsecond'"
            case "Integer" | "Double" | "Boolean":
                value = f"substr({{0}}, 48)::{sql_type}"
        meaning = f"the {self.which} {self.of} by time, NULL if no event of the row has one"
        return (PlainColumn(self.name, sql_type, value, meaning),)

    def items(self, events: pl.DataFrame) -> pl.DataFrame:
        values = units(events[self.of]) if self.kind in ("Decimal", "Timestamp") else events[self.of]
        return pl.DataFrame(
            [units(events[self.time]).alias("time"), events["offset"], events["partition"], values.alias("value")]
        )

    def fold(self, items: pl.DataFrame, groups: Groups) -> pl.Series:
        rows = np.flatnonzero(items["value"].is_not_null().to_numpy())
        ids, times = groups.ids[rows], items["time"].to_numpy()[rows] * self.sign
        best = np.full(groups.count, np.iinfo(np.int64).min)
        np.maximum.at(best, ids, times)
        # Few share a time, so few are sorted: by group, and within it so that what is chosen comes last.
        rows, ids = rows[times == best[ids]], ids[times == best[ids]]
        ties = (items[name].to_numpy()[rows] * self.sign for name in ("partition", "offset"))
        order = np.lexsort((*ties, ids))
        order = order[np.flatnonzero(np.diff(ids[order], append=-1))]
        chosen: list[str | None] = [None] * groups.count
        for group, (time, offset, partition, value) in zip(ids[order].tolist(), items[rows[order]].iter_rows(), strict=True):
            prefix = f"{time:0{_TIME_DIGITS}}{offset:0{_OFFSET_DIGITS}}{partition:0{_PARTITION_DIGITS}}"
            chosen[group] = prefix + _spelled(value)
        return pl.Series(self.name, chosen, dtype=pl.String)

    def merge(self, stored: pl.Series, groups: Groups) -> pl.Series:
        column = pl.col("text")
        best = column.min() if self.sign < 0 else column.max()
        found = pl.DataFrame({"id": groups.ids, "text": stored}).drop_nulls().group_by("id").agg(best)
        chosen = pl.Series(self.name, [None], dtype=pl.String).new_from_index(0, groups.count)
        return chosen.scatter(found["id"], found["text"]) if len(found) else chosen


@dataclass(frozen=True)
class First(_ByTime):
    """The value of the first event by time that has one; of equal times by offset, and of equal offsets by partition."""

    sql_merge: ClassVar[LiteralString] = 'min({0} COLLATE "C")'
    sql_add: ClassVar[LiteralString] = 'least({0} COLLATE "C", {1} COLLATE "C")'
    which: ClassVar[str] = "first"
    sign: ClassVar[int] = -1


@dataclass(frozen=True)
class Last(_ByTime):
    """The value of the last event by time that has one; of equal times by offset, and of equal offsets by partition."""

    sql_merge: ClassVar[LiteralString] = 'max({0} COLLATE "C")'
    sql_add: ClassVar[LiteralString] = 'greatest({0} COLLATE "C", {1} COLLATE "C")'
    which: ClassVar[str] = "last"
    sign: ClassVar[int] = 1


def _spelled(value: str | int | float | bool) -> str:
    """As SQL reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value + 0.0) if isinstance(value, float) else str(value)
