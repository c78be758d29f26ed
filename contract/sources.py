"""What ingest tells serving of a text whose lines were counted: JSON, a line each."""

from __future__ import annotations

import msgspec


class CountedSource(msgspec.Struct, frozen=True):
    """A source as it stands: `bytes` and `lines` of it are counted.

    So many of the lines are events, `empty`, or `quarantined`, by reason; `repeats` are events whose id an earlier line has.
    `names` are those that its file had, the latest last; none of a source that `is_forgotten`. Times are RFC 3339 in UTC.
    """

    source: str
    site: str
    names: tuple[str, ...]
    bytes: int
    lines: int
    counted: int
    repeats: int
    empty: int
    quarantined: dict[str, int]
    first_counted_at: str
    counted_at: str
    is_forgotten: bool = False
