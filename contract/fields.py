"""What an event may have: the types of fields, each with its meaning and its limits, and what they are in JSON and in
columns.

A field's name is that of its column; its path says where it stands in the JSON object. Each type is limited on both
sides, so whoever reads a column knows what fits.
"""

from __future__ import annotations

import decimal
import re
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, ClassVar, Literal

import polars as pl
from msgspec import Meta

from contract.errors import CatalogueError

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN = {"partition", "offset", "kafka_time", "value", "bucket"}
LONGEST_PATH_NAME = 64
"""Of each name of a path, in UTF-8: the compiled reader compares names as a whole."""
_LONGEST_TIME = 64
_LEAST_OF_32_BITS, _MOST_OF_32_BITS = -(1 << 31), (1 << 31) - 1
# The least number of 64 bits has no positive counterpart, which whoever writes or negates one relies on.
_LEAST_OF_64_BITS, _MOST_OF_64_BITS = -(1 << 63) + 1, (1 << 63) - 1
DECIMAL_DIGITS = 18
"""So many any decimal has at most: they fit 64 bits."""
# More digits than an event has bytes: nothing is rounded, and nothing raised, before it has been looked at.
_LOOSE = decimal.Context(prec=1 << 17, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX, traps=[])


@dataclass(frozen=True)
class Field(ABC):
    """A column of events. `path` is its place in the JSON object: names with dots between, or a tuple of names that have
    dots.

    An optional field may be missing or null.
    """

    name: str
    meaning: str
    _: KW_ONLY
    path: str | tuple[str, ...] = ()
    optional: bool = False
    repeats: bool | None = None
    """Whether many events share a value, so that archive files keep it once; unless it is said, it follows from the type."""

    _repeats: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.require(
            _IDENTIFIER.fullmatch(self.name) is not None,
            "its name is that of a column, so a lower-case SQL identifier of at most 40 letters",
        )
        self.require(self.name not in _TAKEN, f"{', '.join(sorted(_TAKEN))} are columns of every stream")
        for name in self.names:
            is_plain = not any(letter in '"\\' or letter < " " for letter in name)
            self.require(bool(name) and is_plain, "a path has an empty name, or one with a character that JSON escapes")
            longest = f"a name in its path has more than {LONGEST_PATH_NAME} bytes"
            self.require(len(name.encode()) <= LONGEST_PATH_NAME, longest)

    def require(self, is_right: bool, otherwise: str) -> None:
        """Raise CatalogueError unless it is right."""
        if not is_right:
            raise CatalogueError(f"field {self.name}: {otherwise}")

    @property
    def names(self) -> tuple[str, ...]:
        """The path, name by name."""
        if isinstance(self.path, tuple):
            return self.path or (self.name,)
        return tuple(self.path.split("."))

    @property
    def is_repeated(self) -> bool:
        """Whether archive files keep each of its values once."""
        return self._repeats if self.repeats is None else self.repeats

    @property
    def in_detail(self) -> str:
        """The path as the JSON decoder spells it."""
        return ".".join(("$", *self.names))

    @property
    @abstractmethod
    def dtype(self) -> pl.DataType:
        """What it is in columns."""

    @property
    @abstractmethod
    def in_json(self) -> Any:
        """What the JSON decoder is to take for it."""


@dataclass(frozen=True)
class Text(Field):
    """A text of at most so many characters. A required one is not empty."""

    most_characters: int

    _repeats: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1 <= self.most_characters <= 1 << 16, "a text has 1 to 65,536 characters at most")

    @property
    def dtype(self) -> pl.DataType:
        return pl.String()

    @property
    def in_json(self) -> Any:
        least = None if self.optional else 1
        return Annotated[str, Meta(min_length=least, max_length=self.most_characters, description=self.meaning)]


@dataclass(frozen=True)
class Integer(Field):
    """A whole number from `least` to `most`, of 64 bits at most."""

    least: int
    most: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = type(self.least) is type(self.most) is int
        in_order = _LEAST_OF_64_BITS <= self.least <= self.most <= _MOST_OF_64_BITS
        self.require(whole and in_order, f"{self.least} to {self.most} is no range of 64-bit numbers")

    @property
    def dtype(self) -> pl.DataType:
        is_short = self.least >= _LEAST_OF_32_BITS and self.most <= _MOST_OF_32_BITS
        return pl.Int32() if is_short else pl.Int64()

    @property
    def in_json(self) -> Any:
        return Annotated[int, Meta(ge=self.least, le=self.most, description=self.meaning)]


@dataclass(frozen=True)
class Decimal(Field):
    """A number with `places` decimals at most, exact: in columns a decimal, in sums so many of its smallest unit.

    In JSON it is a number, or a text of one, as many write money. `least` and `most` are texts too: "0.01".
    """

    places: int
    least: str
    most: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1 <= self.places <= DECIMAL_DIGITS // 2, f"a decimal has 1 to {DECIMAL_DIGITS // 2} places")
        digits = f"limits of {self.places} places and {DECIMAL_DIGITS} digits, written as texts"
        self.require(all(self.units(_decimal(one)) is not None for one in (self.least, self.most)), f"it needs {digits}")
        low, high = self.limits
        self.require(-(10**DECIMAL_DIGITS) < low <= high < 10**DECIMAL_DIGITS, f"{self.least} to {self.most} is no range")

    @property
    def dtype(self) -> pl.DataType:
        return pl.Decimal(DECIMAL_DIGITS, self.places)

    @property
    def in_json(self) -> Any:
        return Annotated[decimal.Decimal, Meta(description=f"{self.meaning}: {self.least} to {self.most}")]

    @property
    def limits(self) -> tuple[int, int]:
        """The limits in the smallest unit."""
        return self.units(_decimal(self.least)) or 0, self.units(_decimal(self.most)) or 0

    def is_within(self, number: decimal.Decimal) -> bool:
        """Whether it is within the limits; false of what is no number."""
        return number.is_finite() and _decimal(self.least) <= number <= _decimal(self.most)

    def units(self, number: decimal.Decimal) -> int | None:
        """So many of the smallest unit a number of not too many digits is; None if it has more places."""
        whole = number.scaleb(self.places, _LOOSE)
        rounded = whole.to_integral_value(context=_LOOSE)
        return int(rounded) if rounded.is_finite() and rounded == whole else None


@dataclass(frozen=True)
class Double(Field):
    """A number as computers reckon, for percentiles, least and greatest ones. Sums would depend on their order."""

    least: float
    most: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(-1e300 <= self.least <= self.most <= 1e300, f"{self.least} to {self.most} is no range")

    @property
    def dtype(self) -> pl.DataType:
        return pl.Float64()

    @property
    def in_json(self) -> Any:
        return Annotated[float, Meta(ge=self.least, le=self.most, description=self.meaning)]


@dataclass(frozen=True)
class Boolean(Field):
    """True or false."""

    @property
    def dtype(self) -> pl.DataType:
        return pl.Boolean()

    @property
    def in_json(self) -> Any:
        return Annotated[bool, Meta(description=self.meaning)]


@dataclass(frozen=True)
class Enumeration(Field):
    """One of a few texts."""

    choices: tuple[str, ...]

    _repeats: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.choices), "it has no choices")
        self.require(len(set(self.choices)) == len(self.choices), "a choice is there twice")
        self.require(
            all(self.choices) and "\0" not in "".join(self.choices), "a choice is empty, or has the character U+0000"
        )

    @property
    def dtype(self) -> pl.DataType:
        return pl.String()

    @property
    def in_json(self) -> Any:
        return Annotated[Literal[self.choices], Meta(description=self.meaning)]


@dataclass(frozen=True)
class Timestamp(Field):
    """A moment, 1970 or later, written as RFC 3339 with an offset from UTC; further digits than microseconds are cut."""

    @property
    def dtype(self) -> pl.DataType:
        return pl.Datetime("us", "UTC")

    @property
    def in_json(self) -> Any:
        return Annotated[str, Meta(min_length=1, max_length=_LONGEST_TIME, description=self.meaning)]


def _decimal(text: str) -> decimal.Decimal:
    number = _LOOSE.create_decimal(text)
    return number if number.is_finite() else decimal.Decimal("NaN")
