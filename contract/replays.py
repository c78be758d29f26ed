"""What ingest and serving tell each other of a replay: JSON that one command prints and another one reads.

Quarantined records may be millions, so they are told in parts, a line each: no command holds more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import TypeVar

import msgspec

from contract.errors import InputError

_T = TypeVar("_T")


class Cover(msgspec.Struct, frozen=True):
    """Below `next_offsets`, by partition, repeats are recognised however old they are, but for those on `uncovered_days`."""

    uncovered_days: tuple[date, ...] = ()
    next_offsets: dict[int, int] = {}


class Wanted(msgspec.Struct, frozen=True):
    """Quarantined records that are to be judged again, or a part of them: their offsets, by partition."""

    offsets: dict[int, list[int]]


class Judged(msgspec.Struct):
    """What became of quarantined records, or of a part of them.

    `sent`: partition and offset of each that is an event by now, and those of its copy. `kept`: partition, offset, reason
    and detail of each that is none. `unread` ones were not in the archive, which happens for some seconds after they came.
    """

    sent: list[tuple[int, int, int, int]] = []
    kept: list[tuple[int, int, str, str]] = []
    unread: int = 0

    @property
    def next_offsets(self) -> dict[int, int]:
        """A reader of each partition that stands there has read all that was sent."""
        ends: dict[int, int] = {}
        for _, _, partition, offset in self.sent:
            ends[partition] = max(offset + 1, ends.get(partition, 0))
        return ends


def to_json(told: msgspec.Struct) -> str:
    """For the other command, in one line."""
    return msgspec.json.encode(told).decode()


def from_json(kind: type[_T], text: str, verb: str) -> _T:
    """What the command `verb` has printed; InputError that names it if it has not."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise InputError(f"{text[:200]!r} is not what `python -m {verb}` prints: {error}") from error


def parts_from_json(kind: type[_T], lines: Iterable[str], verb: str) -> Iterator[_T]:
    """What the command `verb` has printed, line by line, one at least; InputError that names it if it has not."""
    none = True
    for line in lines:
        none = False
        yield from_json(kind, line, verb)
    if none:
        yield from_json(kind, "", verb)
