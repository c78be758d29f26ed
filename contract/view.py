"""A view: what is shown of a stream's events, declared once. Batch, speed and serving each know how to run any."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import polars as pl

from contract.errors import CatalogueError
from contract.keys import Key
from contract.measures import Count, Measure

if TYPE_CHECKING:
    from contract.stream import Stream

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_VERSION = re.compile(r".*_v[0-9]+")
_DAY = timedelta(days=1)
_FIRST_STREAM = "page_views"
"""Whose views were stored before there were others, with digests that name no stream."""


@dataclass(frozen=True)
class View:
    """A merged view: one row per `bucket` of event time and per combination of `keys`, with the measures' values.

    Keys are texts of the stream's events, or keys that it derives. The first measure counts every event of the row.
    With `by_day` readers also have `<name>_by_day`, the same in rows of a day, for questions about many days. Under the name
    itself they have plain numbers, and under `<name>_sketches` the sketches that can be merged further.
    """

    name: str
    keys: tuple[str, ...]
    bucket: timedelta
    measures: tuple[Measure, ...]
    by_day: bool = False
    rollup_of: View | None = None
    """What `rollup` fills in; the rows of such a view follow from those of the other."""
    stream: Stream | None = field(default=None, repr=False, compare=False)
    """What the stream fills in that declares the view."""

    def __post_init__(self) -> None:
        columns = ("bucket", *self.keys, *(measure.name for measure in self.measures))
        for identifier in (self.name, *columns):
            if not _IDENTIFIER.fullmatch(identifier):
                raise CatalogueError(
                    f"view {self.name}: {identifier!r} is not a lower-case SQL identifier of at most 40 letters"
                )
        if _VERSION.fullmatch(self.name):
            raise CatalogueError(
                f"view {self.name}: the serving layer itself numbers versions so; change the view under its name"
            )
        plain = ("bucket", *self.keys, *(column.name for measure in self.measures for column in measure.plain))
        for named in (columns, plain):
            if len(set(named)) != len(named):
                raise CatalogueError(f"view {self.name}: a column is named twice in {', '.join(named)}")
        if _DAY % self.bucket:
            raise CatalogueError(
                f"view {self.name}: a bucket of {self.bucket} does not divide a day, the unit of batch runs"
            )
        if self.by_day and self.bucket == _DAY:
            raise CatalogueError(f"view {self.name}: its rows are of a day already; leave by_day out")
        if not (self.measures and isinstance(self.measures[0], Count) and self.measures[0].where is None):
            raise CatalogueError(
                f"view {self.name}: the first measure must be a Count without condition; it says what is counted"
            )
        if self.stream is not None:
            self._bind(self.stream)

    def _bind(self, stream: Stream) -> None:
        if unknown := [key for key in self.keys if key not in stream.keys]:
            raise CatalogueError(
                f"view {self.name}: {', '.join(unknown)} is no text of stream {stream.name}, and no key that it derives"
            )
        try:
            measures = tuple(measure.bound(stream) for measure in self.measures)
        except CatalogueError as error:
            raise CatalogueError(f"view {self.name}: {error}") from None
        object.__setattr__(self, "measures", measures)

    @property
    def of_stream(self) -> Stream:
        """The stream that it is a view of."""
        if self.stream is None:
            raise CatalogueError(f"view {self.name}: it is of no stream; a view stands in the stream's declaration")
        return self.stream

    @property
    def group(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return ("bucket", *self.keys)

    @property
    def sketches(self) -> str:
        """The name of the view that has the measures as they are stored, to be merged further."""
        return f"{self.name}_sketches"

    @property
    def shown_group(self) -> tuple[str, ...]:
        """The columns that identify a row for readers. A day is a date, so that nobody makes another zone's days of it."""
        return ("day" if self.bucket == _DAY else "bucket", *self.keys)

    @cached_property
    def rollup(self) -> View | None:
        """The view `<name>_by_day`, if there is one: batch runs write its rows, speed rows are added up when it is asked."""
        if not self.by_day:
            return None
        return View(f"{self.name}_by_day", self.keys, _DAY, self.measures, rollup_of=self, stream=self.stream)

    @cached_property
    def grouped_by(self) -> tuple[Key, ...]:
        """Where the keys come from."""
        return tuple(self.of_stream.keys[name] for name in self.keys)

    @cached_property
    def digest(self) -> str:
        """Names the declaration: another one gives other rows, and needs tables of its own."""
        measures = [measure.declaration() for measure in self.measures]
        parts: tuple[object, ...] = (self.name, [key.declaration() for key in self.grouped_by], str(self.bucket), measures)
        if self.of_stream.name != _FIRST_STREAM:
            parts = (*parts, self.of_stream.name)
        return _digest(parts if self.rollup_of is None else (*parts, self.rollup_of.digest))

    @property
    def schema(self) -> pl.Schema:
        """Columns and types of the view's partial and stored rows, in order."""
        return pl.Schema(
            {"bucket": pl.Datetime("us", "UTC")}
            | dict.fromkeys(self.keys, pl.String())
            | {measure.name: measure.dtype for measure in self.measures}
        )


def with_rollups(views: Sequence[View]) -> tuple[View, ...]:
    """All views that readers have of these: each, and after it its rollup.

    Raises CatalogueError if two share a name, or if one has the name of a rollup, or of a view's sketches, and is none:
    questions for sums of `v` are answered from the rows of `v_by_day`.
    """
    every = tuple(one for view in views for one in (view, view.rollup) if one)
    names = [view.name for view in every]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise CatalogueError(f"view {', '.join(repeated)} is there twice; by_day of a view `v` makes a view `v_by_day`")
    # guard: sketches are a view's own
    if taken := sorted({view.sketches for view in every}.intersection(names)):
        raise CatalogueError(f"view {', '.join(taken)}: the name of another view's sketches; choose another one")
    # guard: rows of days are a view's own
    for view in views:
        if (name := f"{view.name}_by_day") in names and not view.by_day:
            raise CatalogueError(f"view {name}: the name of the rows of days of {view.name}; choose another one, or by_day")
    return every


def catalogue_digest(views: Sequence[View]) -> str:
    """Names all declarations together: layers with different ones must not write to one database."""
    return _digest([view.digest for view in with_rollups(views)])


def _digest(parts: object) -> str:
    return sha256(repr(parts).encode()).hexdigest()[:16]
