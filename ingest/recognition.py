"""Which source a text is: the one whose announced part it begins with, or another one than all that are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from contract.errors import InputError
from ingest.beginning import Beginning, Mark, first_line, group_of
from ingest.feed import Feed
from ingest.formats.detect import SAMPLE_LINES
from ingest.pieces import Piece, lines_of
from ingest.register import Register
from ingest.source import Group, Source

_SAMPLE_BYTES = 4 << 20
_MOST_REMARKS = 64


@dataclass(frozen=True)
class Recognised:
    """What is known of a text; what the feed gives next is what follows in it.

    `sample` are its first lines, and `remarks` the last that begin with # in what need not be sent any more.

    A text that `is_decided` is the source `found`, whose announced part was read, and comes again from its counted part on;
    or a new one, which differs from all others before byte `differs_end`, and comes again from its beginning on. Of another
    it is not known yet: `lines` whole lines are there, `known_lines` of them surely counted lines of a source.
    """

    group: Group
    sample: bytes
    beginning: Beginning
    is_decided: bool
    found: Source | None = None
    remarks: Sequence[bytes] = ()
    differs_end: int = 0
    lines: int = 0
    known_lines: int = 0

    @property
    def is_known(self) -> bool:
        """Whether the text is that of a source, or the beginning of one."""
        return self.found is not None or self.known_lines > 0


def recognise(
    feed: Feed, register: Register, key: str, site: str | None, final: bool, watch: Callable[[], None]
) -> Recognised:
    """Read a text from its beginning on, as far as it takes. `site`: among sources of this site, or of all.

    Raises InputError if it is known as the log of several sites, or cannot be read.
    """
    feed.restart()
    head: list[Piece] = []
    sample, begins = b"", None
    for piece in feed.pieces(final):
        head.append(piece)
        sample += piece.data if piece.data.endswith(b"\n") or piece.is_hole else piece.data + b"\n"
        # With a piece more a line without its end would be another one.
        begins = first_line(sample) if begins is None else begins
        if sample.count(b"\n") >= SAMPLE_LINES or len(sample) >= _SAMPLE_BYTES:
            break
    if begins is None:
        return Recognised(Group(""), sample, Beginning(key), False, lines=sample.count(b"\n"))
    feed.give_back(head)
    group = register.load(group_of(begins, key))
    comparison = Comparison((one for one in group.sources.values() if site in (None, one.site)), key)
    pieces = feed.pieces(final)
    while not comparison.is_decided:
        if (next_piece := next(pieces, None)) is None:
            return Recognised(
                group, sample, Beginning(key), False, lines=comparison.lines, known_lines=comparison.known_lines
            )
        watch()
        comparison.add(next_piece)
        if comparison.found and len(comparison.sites) > 1:
            named = " and of site ".join(sorted(comparison.sites))
            raise InputError(
                f"{feed.file.path} is known as a log of site {named}; nothing was sent, SITE= says which of them goes on"
            )
    found = comparison.found
    if found is None:
        feed.restart()
        return Recognised(group, sample, Beginning(key), True, differs_end=comparison.beginning.end)
    feed.give_back(comparison.held_from(found.counted.end))
    remarks = [line for at, line in comparison.remarks if at < found.counted.end]
    return Recognised(group, sample, comparison.announced, True, found, remarks)


@dataclass
class Comparison:
    """Compares a text, piece by piece, with sources of which none is the beginning of another one."""

    sources: Iterable[Source]
    key: str
    found: Source | None = None
    lines: int = 0
    known_lines: int = 0
    _held: list[Piece] = field(default_factory=list)
    """What was read and is perhaps to be sent: all behind the counted part of the source that was found, or more."""
    _compared: int = 0

    def __post_init__(self) -> None:
        self.remarks: deque[tuple[int, bytes]] = deque(maxlen=_MOST_REMARKS)
        self.beginning = self.announced = Beginning(self.key)
        self._alike = {source.number: source for source in self.sources}
        self._found_sites: set[str] = set()

    @property
    def is_decided(self) -> bool:
        """Whether no more of the text need be read."""
        return not self._alike

    @property
    def sites(self) -> set[str]:
        """Those that it may be of: several only if a text was counted for each of them."""
        return self._found_sites | {source.site for source in self._alike.values()}

    def add(self, piece: Piece) -> None:
        """What follows in the text."""
        left = [piece]
        while left and not self.is_decided:
            part = left.pop()
            cuts = {mark.end for one in self._alike.values() for mark in (one.counted, one.announced)}
            cut = min((end for end in cuts if part.offset < end < part.next_offset), default=None)
            if cut is not None and part.long is None:
                part, rest = part.split(cut)
                left.append(rest)
            self.beginning.add(part)
            self._remember_remarks(part)
            # guard: what was announced and not counted is sent again
            if self.found or any(one.counted.end <= part.offset < one.announced.end for one in self._alike.values()):
                self._hold(part)
            self._compare()
            self._count(part)
        for part in reversed(left if self.found else []):
            self._hold(part)

    def held_from(self, offset: int) -> list[Piece]:
        """What was read behind an offset that is not before the counted part of the source that was found."""
        pieces = [piece for piece in self._held if piece.next_offset > offset]
        if pieces and pieces[0].offset < offset and not pieces[0].long:
            pieces[0] = pieces[0].split(offset)[1]
        return pieces

    def _remember_remarks(self, part: Piece) -> None:
        if part.data[:1] == b"#" or b"\n#" in part.data:
            self.remarks += [(at, line) for at, line in lines_of(part.offset, part.data) if line[:1] == b"#"]

    def _hold(self, part: Piece) -> None:
        last = self._held[-1] if self._held else None
        # Where another source ends may be within a line of this text.
        is_cut = last is not None and not last.long and not last.data.endswith(b"\n")
        if last and is_cut and last.next_offset == part.offset and not part.is_hole:
            self._held[-1] = Piece(last.offset, last.data + part.data, part.next_offset)
        else:
            self._held.append(part)

    def _compare(self) -> None:
        mark, points = self.beginning.mark, self.beginning.points
        new = points[self._compared :]
        # guard: what differs is another source
        self._alike = {number: one for number, one in self._alike.items() if self._is_alike(one, mark, new)}
        self._compared = len(points)
        for one in [one for one in self._alike.values() if one.announced.end == mark.end]:
            del self._alike[one.number]
            self.found, self.announced = one, self.beginning.copy()
            self._found_sites.add(one.site)

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
        self.lines += part.data.count(b"\n") or (not part.is_hole)
        mark = self.beginning.mark
        ends = [point.end for point in self.beginning.points[-1:]]
        ends += [own.end for one in self._alike.values() for own in (one.announced, one.counted) if own == mark]
        counted_end = max((one.counted.end for one in self._alike.values()), default=0)
        if ends and part.offset < max(ends) <= counted_end:
            self.known_lines = self.lines - part.data.count(b"\n", max(ends) - part.offset)
