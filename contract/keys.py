"""What rows are grouped by: text fields of the event, and texts that follow from one; those are declared in KEYS."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from contract.event import EVENT_SCHEMA, MAX_PAGE_LENGTH, SITE_LENGTH, json_schema

# What Unicode calls white space; Python's own \s has four control characters more.
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Scheme, perhaps a user, the name, and then something else or nothing. A name that is longer than a site's is none.
_HOST = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@{_SPACE}]*@)?([^/?#:@\[\]\\{_SPACE}]{{1,{SITE_LENGTH}}})(?:[:/?#]|\Z)"
)


@dataclass(frozen=True)
class Key:
    """A key column: a text field of the event, or what `derive` makes of each of its texts; empty where it is not known."""

    name: str
    field: str
    max_length: int
    derive: Callable[[pl.Series], pl.Series] | None = None
    meaning: str = ""
    """What it says of an event, for the comments of views and columns; a field of the event says it by its name."""

    def declaration(self) -> tuple[str, ...]:
        """What decides its values."""
        return (self.name, self.field, "" if self.derive is None else self.derive.__name__)


def host_of(urls: pl.Series) -> pl.Series:
    """The host name of each URL, in lower case; empty where there is none."""
    # Of a thousand URLs Polars takes as long for it, of twenty ten times that.
    found = (_HOST.match(url or "") for url in urls.to_list())
    return pl.Series(urls.name, [match[1].lower() if match else "" for match in found], pl.String)


REFERRER_HOST = Key(
    "referrer_host",
    "referrer",
    SITE_LENGTH,
    host_of,
    "the host name in the referrer, in lower case; empty if there is none, as of a direct visit, and the site itself where "
    "somebody went on from one of its pages to another",
)
KEYS = {key.name: key for key in (REFERRER_HOST,)}


def key_of(name: str) -> Key | None:
    """The key of that name; None if there is neither a text field nor a derived key of that name."""
    if name in KEYS:
        return KEYS[name]
    if EVENT_SCHEMA.get(name) != pl.String:
        return None
    limits = json_schema()["$defs"]["Event"]["properties"][name]
    return Key(name, name, limits.get("maxLength", MAX_PAGE_LENGTH))
