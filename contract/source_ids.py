"""Which ids the events of a source have: what a register of sources tells whoever forgets one.

An id is a source's name, a colon and a byte offset. A source whose lines are named by several names has one part for each.
"""

from __future__ import annotations

import msgspec


class IdRange(msgspec.Struct, frozen=True):
    """Ids `source:byte` with a byte offset in [first_byte, next_byte); None: however great."""

    source: str
    first_byte: int = 0
    next_byte: int | None = None


class SourceIds(msgspec.Struct, frozen=True):
    """All ids of one source, and of no other."""

    parts: tuple[IdRange, ...]
