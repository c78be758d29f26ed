"""A stream: one type of event, declared once, and the views of it.

What is declared wrongly is refused where it is declared, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Union

import polars as pl

from contract.errors import CatalogueError
from contract.fields import Enumeration, Field, Integer, Text, Timestamp
from contract.keys import Key, key_of_field
from contract.view import View

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_IDENTIFYING = (Text, Integer, Enumeration, Timestamp)

Members = Mapping[str, Union[Field, "Members"]]
"""A JSON object as it is written: of each name a field, or another object."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Events of one type, in one Kafka topic; `meaning` says what one event is. A stream equals itself alone.

    Two records are the same event if the UTC day of their `time` and their `identity` are the same, one field or several.
    The `key` decides the partition, where a record sent twice must meet its first copy. Views may ask for fields and for
    the `derived` keys, by name.
    """

    name: str
    meaning: str
    topic: str
    fields: tuple[Field, ...]
    identity: tuple[str, ...]
    time: str
    key: str
    derived: tuple[Key, ...] = ()
    views: tuple[View, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self._require(_NAME.fullmatch(self.name), "its name is a lower-case SQL identifier of at most 40 letters")
        self._require(_TOPIC.fullmatch(self.topic), f"{self.topic!r} is no name of a Kafka topic")
        names = [each.name for each in self.fields] + [key.name for key in self.derived]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise CatalogueError(f"stream {self.name}: {', '.join(repeated)} is declared twice")
        self._require(self.members, "it has no fields")
        self._require(isinstance(self._required(self.time, "time"), Timestamp), f"its time, {self.time}, is no Timestamp")
        self._require(self.identity, "it needs an identity, by which a record that is sent twice is known")
        for name in self.identity:
            right = isinstance(self._required(name, "identity"), _IDENTIFYING)
            self._require(right, f"{name} identifies nothing: an identity is of texts, whole numbers and times")
        self._require(isinstance(self._required(self.key, "key"), _IDENTIFYING), f"{self.key} is no text or whole number")
        for key in self.derived:
            self._require(self.field(key.field), f"key {key.name} is derived from {key.field}, which is no field")
            key.check(self.field(key.field))
        object.__setattr__(self, "views", tuple(map(self.bound, self.views)))

    def _require(self, is_right: object, otherwise: str) -> None:
        if not is_right:
            raise CatalogueError(f"stream {self.name}: {otherwise}")

    def _required(self, name: str, role: str) -> Field | None:
        known = self.field(name)
        self._require(known, f"its {role}, {name}, is none of its fields")
        self._require(known and not known.optional, f"its {role}, {name}, must not be optional")
        return known

    def bound(self, view: View) -> View:
        """The view, of this stream; CatalogueError if it asks for what the stream does not have."""
        return replace(view, stream=self)

    def __reduce__(self) -> tuple[Callable[[str], Stream], tuple[str]]:
        # Another process has the stream of its own code, and makes one decoder of it.
        return declared, (self.name,)

    def view(self, name: str) -> View:
        """The view of that name; it is one of the stream's."""
        return next(view for view in self.views if view.name == name)

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """The fields, in their order."""
        return {each.name: each for each in self.fields}

    def field(self, name: str) -> Field | None:
        """The field of that name."""
        return self.by_name.get(name)

    @cached_property
    def keys(self) -> dict[str, Key]:
        """What rows may be grouped by: texts as they are, and what is derived."""
        plain = (key for each in self.fields if (key := key_of_field(each)))
        return {key.name: key for key in (*plain, *self.derived)}

    @cached_property
    def members(self) -> Members:
        """The event's JSON object: fields in their order, nested ones where the first of their object is."""
        try:
            return members_of(self.fields)
        except CatalogueError as error:
            raise CatalogueError(f"stream {self.name}: {error}") from None

    @cached_property
    def schema(self) -> pl.Schema:
        """The fields as columns."""
        return pl.Schema({each.name: each.dtype for each in self.fields})

    @cached_property
    def is_identified_by_a_text(self) -> bool:
        """Whether the identity is one field, and a text as it is."""
        return len(self.identity) == 1 and self.schema[self.identity[0]] == pl.String

    def identities(self, events: pl.DataFrame) -> pl.Series:
        """The identity of each event as one text: the field's own, or all with a character between that no text has."""
        if self.is_identified_by_a_text:
            return events[self.identity[0]]
        parts = [_as_text(events[name]) for name in self.identity]
        return pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator="\0")).to_series()


def declared(name: str) -> Stream:
    """The stream of that name in contract/streams; CatalogueError if there is none."""
    from contract.streams import STREAMS

    for stream in STREAMS:
        if stream.name == name:
            return stream
    names = ", ".join(stream.name for stream in STREAMS)
    raise CatalogueError(f"no stream {name} is declared in contract/streams; there are: {names}")


def members_of(fields: Sequence[Field]) -> Members:
    """The JSON object that has these fields; CatalogueError if two are in one place."""
    root: dict[str, Any] = {}
    for each in fields:
        inside = root
        *outer, last = each.names
        for name in outer:
            inside = inside.setdefault(name, {})
            each.require(isinstance(inside, dict), f"{each.in_detail} is within another field")
        each.require(last not in inside, f"{each.in_detail} is there twice")
        inside[last] = each
    return root


def is_optional(member: Field | Members) -> bool:
    """Whether an event may lack it: an object may if all fields in it may."""
    if isinstance(member, Field):
        return member.optional
    return all(map(is_optional, member.values()))


def fields_within(members: Members) -> Sequence[Field]:
    """All fields of an object, in the order in which they are written."""
    found: list[Field] = []
    for member in members.values():
        found += [member] if isinstance(member, Field) else fields_within(member)
    return found


def _as_text(column: pl.Series) -> pl.Series:
    return (column.to_physical() if column.dtype.is_temporal() else column).cast(pl.String)
