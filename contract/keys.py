"""What rows are grouped by: a text of the event, or a text that follows from a field. A stream declares which there are.

Where the field is not known, the key is the empty text.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, get_args

import polars as pl

from contract.bounds import bounds_below, is_too_large, what_is_wrong
from contract.errors import CatalogueError
from contract.fields import Boolean, Decimal, Double, Enumeration, Field, Integer, Text, Timestamp

HOST_LENGTH = 253
# What Unicode calls white space; Python's own \s has four control characters more.
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Scheme, perhaps a user, the name, and then something else or nothing. A name that is longer than a host's may be is none.
_HOST = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@{_SPACE}]*@)?([^/?#:@\[\]\\{_SPACE}]{{1,{HOST_LENGTH}}})(?:[:/?#]|\Z)"
)
_LONGEST_NUMBER = 32
Part = Literal["date", "month", "weekday", "hour"]
_FORMATS: dict[str, str] = {"date": "%Y-%m-%d", "month": "%m", "weekday": "%u", "hour": "%H"}


@dataclass(frozen=True)
class Key(ABC):
    """A key column, made of the column `field`."""

    name: str
    field: str
    _: KW_ONLY
    meaning: str = ""
    """What it says of an event, for the comments of views and columns; a field of the event says it by its name."""

    is_of_texts: ClassVar[bool] = False
    """Whether it follows from a text, which events share."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Of its texts, in characters."""

    @abstractmethod
    def derive(self, values: pl.Series) -> pl.Series:
        """The key of each value of the field, a text; null is the empty text."""

    @abstractmethod
    def declaration(self) -> tuple[str, ...]:
        """What decides its values."""

    @abstractmethod
    def check(self, field: Field | None) -> None:
        """Raise CatalogueError unless it can be made of that field."""

    def _require(self, is_right: bool, otherwise: str) -> None:
        if not is_right:
            raise CatalogueError(f"key {self.name}: {otherwise}")


@dataclass(frozen=True)
class AsIs(Key):
    """A text field itself."""

    longest: int

    @property
    def max_length(self) -> int:
        return self.longest

    def derive(self, values: pl.Series) -> pl.Series:
        return values

    def declaration(self) -> tuple[str, ...]:
        return (self.name, self.field, "")

    def check(self, field: Field | None) -> None:
        self._require(isinstance(field, Text | Enumeration), f"{self.field} is no text")


@dataclass(frozen=True)
class Host(Key):
    """The host name of a URL, in lower case; empty where there is none."""

    is_of_texts: ClassVar[bool] = True

    @property
    def max_length(self) -> int:
        return HOST_LENGTH

    def derive(self, values: pl.Series) -> pl.Series:
        # Of a thousand URLs Polars takes as long for it, of twenty ten times that.
        found = (_HOST.match(url or "") for url in values.to_list())
        return pl.Series(values.name, [match[1].lower() if match else "" for match in found], pl.String)

    def declaration(self) -> tuple[str, ...]:
        # The name that it had when the first views were stored.
        return (self.name, self.field, "host_of")

    def check(self, field: Field | None) -> None:
        self._require(isinstance(field, Text), f"{self.field} is no text, so it holds no URL")


@dataclass(frozen=True)
class Range(Key):
    """Which of the ranges between `bounds` a number is in, by the bound that it begins with: "0", "10"; first is "below"."""

    bounds: tuple[int | float | str, ...]

    @property
    def max_length(self) -> int:
        return _LONGEST_NUMBER

    def derive(self, values: pl.Series) -> pl.Series:
        names = pl.Series(["below", *map(str, self.bounds)])
        found = names.gather(bounds_below(values, self.bounds))
        return found.zip_with(values.is_not_null(), pl.repeat("", len(values), eager=True))

    def declaration(self) -> tuple[str, ...]:
        return (self.name, self.field, f"range of {self.bounds}")

    def check(self, field: Field | None) -> None:
        self._require(isinstance(field, Integer | Decimal | Double), f"{self.field} is no number")
        wrong = what_is_wrong(self.bounds)
        self._require(wrong is None, f"its bounds, {self.bounds}, {wrong}")
        self._require(all(len(str(bound)) <= _LONGEST_NUMBER for bound in self.bounds), "a bound is longer than any number")
        places = field.places if isinstance(field, Decimal) else 0
        fits = isinstance(field, Double) or not is_too_large(self.bounds, places)
        self._require(fits, f"a bound is beyond 64 bits in the smallest unit of {self.field}")


@dataclass(frozen=True)
class PartOfTime(Key):
    """The date, month (01 to 12), weekday (1 to 7, Monday is 1) or hour (00 to 23) of a time, by the clocks of a zone."""

    part: Part
    zone: str = "UTC"

    @property
    def max_length(self) -> int:
        return _LONGEST_NUMBER

    def derive(self, values: pl.Series) -> pl.Series:
        local = values.dt.convert_time_zone(self.zone)
        return local.dt.strftime(_FORMATS[self.part]).fill_null("")

    def declaration(self) -> tuple[str, ...]:
        return (self.name, self.field, f"{self.part} in {self.zone}")

    def check(self, field: Field | None) -> None:
        self._require(isinstance(field, Timestamp), f"{self.field} is no time")
        self._require(self.part in get_args(Part), f"{self.part!r} is none of {', '.join(get_args(Part))}")
        self._require(_is_zone(self.zone), f"{self.zone!r} is no time zone, as Europe/Berlin is")


@dataclass(frozen=True)
class Spelled(Key):
    """A whole number, or whether something is so, as a text: "12", "true"."""

    @property
    def max_length(self) -> int:
        return _LONGEST_NUMBER

    def derive(self, values: pl.Series) -> pl.Series:
        return values.cast(pl.String).fill_null("")

    def declaration(self) -> tuple[str, ...]:
        return (self.name, self.field, "spelled")

    def check(self, field: Field | None) -> None:
        self._require(isinstance(field, Integer | Boolean), f"{self.field} is neither a whole number nor true or false")


def _is_zone(zone: str) -> bool:
    """Whether Polars knows it, which is the same on every machine; a system may have others, or none."""
    try:
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    except pl.exceptions.PolarsError:
        return False
    return True


def key_of_field(field: Field) -> Key | None:
    """What rows are grouped by a field itself with; None if it is no text."""
    if isinstance(field, Text):
        return AsIs(field.name, field.name, field.most_characters)
    if isinstance(field, Enumeration):
        return AsIs(field.name, field.name, max(map(len, field.choices)))
    return None
