"""What rows are grouped by: text fields of the event, and texts that follow from one; those are declared in KEYS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from contract.event import EVENT_SCHEMA, MAX_PAGE_LENGTH, SITE_LENGTH, json_schema

# Scheme, perhaps a user, the name, and then something else or nothing. A name that is longer than a site's is none.
_HOST = rf"^[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@\s]*@)?([^/?#:@\[\]\\\s]{{1,{SITE_LENGTH}}})(?:[:/?#]|$)"


@dataclass(frozen=True)
class Key:
    """A key column: a text field of the event, or what `derive` makes of that column; empty where it is not known."""

    name: str
    field: str
    max_length: int
    derive: Callable[[pl.Series], pl.Series] | None = None

    def values(self, events: pl.DataFrame) -> pl.Series:
        """The key of each event; null is the empty text."""
        texts = events[self.field]
        return texts if self.derive is None else self.derive(texts)

    def declaration(self) -> tuple[str, ...]:
        """What decides its values."""
        return (self.name, self.field, "" if self.derive is None else self.derive.__name__)


def host_of(urls: pl.Series) -> pl.Series:
    """The host name of each URL, in lower case; empty where there is none."""
    return urls.str.extract(_HOST, 1).str.to_lowercase().fill_null("")


KEYS = {key.name: key for key in (Key("referrer_host", "referrer", SITE_LENGTH, host_of),)}


def key_of(name: str) -> Key | None:
    """The key of that name; None if there is neither a text field nor a derived key of that name."""
    if name in KEYS:
        return KEYS[name]
    if EVENT_SCHEMA.get(name) != pl.String:
        return None
    limits = json_schema()["$defs"]["Event"]["properties"][name]
    return Key(name, name, limits.get("maxLength", MAX_PAGE_LENGTH))
