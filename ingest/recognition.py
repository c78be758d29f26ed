"""Which of some sources a text is: the one whose announced part it begins with."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.beginning import Beginning, Mark
from ingest.pieces import Piece
from ingest.source import Source


class Recognition:
    """Compares a text, piece by piece, with sources of which none is the beginning of another one."""

    def __init__(self, sources: Iterable[Source], key: str) -> None:
        self.beginning = Beginning(key)
        self.alike = {source.number: source for source in sources}
        """Sources that go on behind what was read, and have been the same so far."""
        self.found: Source | None = None
        self.sites: set[str] = set()
        """Of all that were found, which are more than one only if a text was counted for several sites."""
        self.held: list[Piece] = []
        """What was read and is perhaps to be sent: all behind the counted part of the source that was found, or more."""
        self.lines = self.known_lines = 0
        """Whole lines that were read, and those of them that are surely counted lines of a source that is alike."""
        self._known = Beginning(key)
        self._compared = 0

    @property
    def is_decided(self) -> bool:
        """Whether no more of the text need be read: it is `found`, or another one than all."""
        return not self.alike

    @property
    def known(self) -> Beginning:
        """The announced part of the source that was found."""
        return self._known

    def add(self, piece: Piece) -> None:
        """What follows in the text."""
        left = [piece]
        while left and not self.is_decided:
            part = left.pop()
            cuts = {mark.end for one in self.alike.values() for mark in (one.counted, one.announced)}
            cut = min((end for end in cuts if part.offset < end < part.next_offset), default=None)
            if cut is not None and part.long is None:
                part, rest = part.split(cut)
                left.append(rest)
            self.beginning.add(part)
            # guard: what was announced and not counted is sent again
            if self.found or any(one.counted.end <= part.offset < one.announced.end for one in self.alike.values()):
                self._hold(part)
            self._compare()
            self._count(part)
        for part in reversed(left if self.found else []):
            self._hold(part)

    def held_from(self, offset: int) -> list[Piece]:
        """What of it is behind an offset."""
        pieces = [piece for piece in self.held if piece.next_offset > offset]
        if pieces and pieces[0].offset < offset and not pieces[0].long:
            pieces[0] = pieces[0].split(offset)[1]
        return pieces

    def _hold(self, part: Piece) -> None:
        last = self.held[-1] if self.held else None
        # Where another source ends may be within a line of this text.
        if last and last.next_offset == part.offset and not last.long and not last.data.endswith(b"\n"):
            self.held[-1] = Piece(last.offset, last.data + part.data, part.next_offset)
        else:
            self.held.append(part)

    def _compare(self) -> None:
        mark, points = self.beginning.mark, self.beginning.points
        new = points[self._compared :]
        # guard: what differs is another source
        self.alike = {number: one for number, one in self.alike.items() if self._is_alike(one, mark, new)}
        self._compared = len(points)
        for one in [one for one in self.alike.values() if one.announced.end == mark.end]:
            del self.alike[one.number]
            self.found, self._known = one, self.beginning.copy()
            self.sites.add(one.site)

    def _is_alike(self, source: Source, mark: Mark, new: list[Mark]) -> bool:
        """Whether the source has the new points, no others up to the mark, and the mark itself if that is one of its own."""
        after = self._compared + len(new)
        return (
            mark.end <= source.announced.end
            and list(source.points[self._compared : after]) == new
            and not any(point.end <= mark.end for point in source.points[after : after + 1])
            and all(own.end != mark.end or own == mark for own in (source.announced, source.counted))
        )

    def _count(self, part: Piece) -> None:
        self.lines += part.data.count(b"\n") or 1
        ends = [point.end for point in self.beginning.points[-1:]]
        ends += [
            own.end for one in self.alike.values() for own in (one.announced, one.counted) if own == self.beginning.mark
        ]
        counted_end = max((one.counted.end for one in self.alike.values()), default=0)
        if ends and part.offset < max(ends) <= counted_end:
            self.known_lines = self.lines - part.data.count(b"\n", max(ends) - part.offset)
