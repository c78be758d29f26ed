"""The lines of one text into Kafka: each that no replay has sent before, with the id that it always has.

First the text is recognised: it is the source whose announced part it begins with, or a new one. What is sent is announced
in the register before, and counted there after Kafka has it. A crash in between repeats ids. Two replays that count one text
at once do so too: one of them finds that the register has changed, and begins again with what it says now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from msgspec.structs import replace

from contract.errors import InputError
from contract.sources import CountedSource
from ingest.background import ahead
from ingest.beginning import START, Beginning, Mark, first_line, group_of, naming, segments
from ingest.feed import Feed
from ingest.line_records import LineReader
from ingest.lines import InputFile
from ingest.pieces import Piece
from ingest.recognition import Recognition
from ingest.register import Register
from ingest.sender import Record
from ingest.source import Group, Source, id_of
from ingest.tally import Judge, Tally

# What is announced at once: as much as is read ahead. It doubles, because each announcement is a file on HDFS.
_LEAST_PORTION_BYTES, _MOST_PORTION_BYTES = 1 << 20, 32 << 20
_DELIVER_EVERY_S = 10.0

ReaderOf = Callable[[bytes, str | None], LineReader]
"""What reads the lines of a text that begins so, for a site, or for what the file or its lines say."""


class Sends(Protocol):
    """What Sender does."""

    def send(self, records: Iterable[Record]) -> None: ...
    def poll(self) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True)
class Intake:
    """Where lines go: what keeps account of them, what sends them, the key of digests.

    `told` hears of each source as the register has it.
    """

    register: Register
    sender: Sends
    key: str
    now_ms: Callable[[], int]
    told: Callable[[CountedSource], None] = lambda row: None


class _Overtaken(Exception):
    """The register is not as it was when it was read."""


class Counting:
    """Counts one file, as far as it goes: run() may be called again and again, and `settle` brings the register up to date.

    Raises InputError, EngineUnavailable, RegisterDamaged, and what `sender` raises. After an error make a new one.
    """

    def __init__(
        self,
        intake: Intake,
        file: InputFile,
        name: str,
        site: str | None,
        reader_of: ReaderOf,
        again: bool = False,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.site = site
        self.is_known = False
        """Whether the text, when it was recognised, was that of a source, or the beginning of one."""
        self.lines = 0
        """Whole lines of a text that is no source yet."""
        self.left_lines = 0
        """Those of them that were counted under no name."""
        self.known = Tally()
        """What had been counted of the text before."""
        self.sent_lines = 0
        """How many lines were sent, or left out because they are empty."""
        self.sent_again = Tally()
        """What was counted before and is sent again nevertheless, because of `again`."""
        self._register, self._sender, self._key = intake.register, intake.sender, intake.key
        self._now_ms, self._told = intake.now_ms, intake.told
        self._file, self._name, self._reader_of = file, name, reader_of
        self._again, self._watch = again, watch
        self._feed = Feed(file)
        self._group = Group("")
        self._source: Source | None = None
        self._identity = "", 0
        self._earlier, self._saved, self._sent = Tally(), Tally(), Tally()
        self._sent_mark = START
        self._delivered_s = time.monotonic()

    @property
    def source(self) -> CountedSource | None:
        """The source as it was settled last; None as long as there is none."""
        return None if self._source is None else self._source.row(self._group.name)

    @property
    def counted(self) -> Tally:
        """What this object has counted, as far as it is settled."""
        return self._earlier + self._saved

    @property
    def is_settled(self) -> bool:
        """Whether the register has all that was sent."""
        return self._source is None or self._sent_mark == self._source.counted

    def recognise(self) -> None:
        """Find out which source the text is, as `run` does, and do nothing with it."""
        if self._source is None:
            self._recognise(False)

    def run(self, final: bool = False) -> None:
        """Count what the text has now; with `final` its last line too if that has no end."""
        while True:
            try:
                if self._source is not None or self._recognise(final):
                    self._count(final)
                return
            except _Overtaken:
                self._source = None

    def settle(self) -> None:
        """The register has all that was sent."""
        while not self.is_settled:
            self._deliver()
            try:
                self._save()
            except _Overtaken:
                self._source = None
                self.run()

    def _recognise(self, final: bool) -> bool:
        """Whether it is known now which source the text is."""
        self._feed.restart()
        head: list[Piece] = []
        begins = None
        for piece in self._feed.pieces(final):
            head.append(piece)
            if (begins := first_line(b"".join(piece.data for piece in head))) is not None:
                break
        self.lines = self.left_lines = sum(piece.data.count(b"\n") for piece in head)
        if begins is None:
            return False
        self._feed.give_back(head)
        self._group = self._register.load(group_of(begins, self._key))
        candidates = [one for one in self._group.sources.values() if self.site in (None, one.site)]
        recognition = Recognition(candidates, self._key)
        pieces = self._feed.pieces(final)
        while not recognition.is_decided:
            if (next_piece := next(pieces, None)) is None:
                # It ends before it differs: of which source it is only its further lines say.
                self.lines, self.left_lines = recognition.lines, recognition.lines - recognition.known_lines
                self.known, self.is_known = Tally(recognition.known_lines), True
                return False
            self._watch()
            recognition.add(next_piece)
            self._require_one_site(recognition)
        self.is_known = recognition.found is not None
        self._begin(recognition)
        sample = b"".join(piece.data for piece in head)
        reader = self._reader_of(sample, recognition.found.site or None if recognition.found else self.site)
        if not recognition.found:
            self._source = replace(self._require_source(), site=reader.site)
        self._reader, self._judge = reader, Judge(self._now_ms, reader.own_ids)
        self.left_lines = 0
        return True

    def _begin(self, recognition: Recognition) -> None:
        """All that is known of the text is what the register has of its source."""
        found, now = recognition.found, _time(self._now_ms())
        if found is None:
            self._feed.restart()
            number = max(self._group.sources, default=0) + 1
            found = Source(number, self.site or "", (), now, now)
            self._beginning = Beginning(self._key)
        else:
            self._feed.give_back(recognition.held_from(found.counted.end))
            self._beginning = recognition.known
        if self._again:
            self._feed.restart()
        # guard: a new source is announced as far as it differs
        self._least_end = recognition.beginning.end if recognition.found is None else 0
        self._earlier, self._saved, self._sent = self._earlier + self._saved, Tally(), Tally()
        identity = self._group.name, found.number
        self.known = found.tally - self._earlier if identity == self._identity else found.tally
        self._identity = identity
        self._source, self._names = found, naming(found.points)
        self._base, self._sent_mark = found.tally, found.counted
        self._delivered = found.counted, Tally()
        self._send_to = found.announced.end

    def _count(self, final: bool) -> None:
        self._send_announced(final)
        portions = self._portions(final)
        damage: InputError | None = None
        with closing(portions if self._file.live else ahead(portions)) as announced:
            try:
                for pieces, mark in announced:
                    for piece in pieces:
                        self._sent += self._send(piece)
                    self._sent_mark = mark
                    if not self._file.live and time.monotonic() - self._delivered_s > _DELIVER_EVERY_S:
                        self._deliver()
            except InputError as error:
                damage = error
        if not self._file.live:
            self.settle()
        if damage:
            raise damage

    def _send_announced(self, final: bool) -> None:
        """What is announced and not counted may have been sent or not."""
        source = self._require_source()
        if not self._again and source.counted == source.announced:
            return
        for piece in self._feed.pieces(final):
            parts = [piece]
            for end in (source.announced.end, source.counted.end):
                if parts[0].offset < end < parts[0].next_offset and piece.long is None:
                    parts[:1] = parts[0].split(end)
            for number, part in enumerate(parts):
                if part.offset >= source.announced.end:
                    self._feed.give_back(parts[number:])
                    break
                if part.offset >= source.counted.end:
                    self._sent += self._send(part)
                else:
                    self.sent_again += self._send(part)
            else:
                continue
            break
        self._again = False
        self._sent_mark = source.announced

    def _portions(self, final: bool) -> Iterator[tuple[list[Piece], Mark]]:
        """What is to be sent, and where it ends. It is announced; of a live text only that there is such a source."""
        size = 0 if self._file.live else _LEAST_PORTION_BYTES
        pieces: list[Piece] = []
        damage: InputError | None = None
        while True:
            pieces, first = [], self._beginning.end
            try:
                for piece in self._feed.pieces(final):
                    self._beginning.add(piece)
                    pieces.append(piece)
                    if self._beginning.end >= max(first + size, self._least_end):
                        break
            except InputError as error:
                damage = error
            if pieces:
                if self._beginning.end < self._least_end:
                    raise InputError(f"{self._file.path} became shorter while it was read; the same command again counts it")
                self._announce()
                # guard: what is sent was announced
                if not self._file.live or self._require_source().number not in self._group.sources:
                    self._save()
                yield pieces, self._beginning.mark
            if damage:
                raise damage
            if not pieces:
                return
            size = min(2 * size, _MOST_PORTION_BYTES)

    def _announce(self) -> None:
        source = self._require_source()
        new = self._beginning.points[len(source.points) :]
        slots = self._group.slots_for(source, new)
        points = (*source.points, *new)
        self._source = replace(source, announced=self._beginning.mark, points=points, slots=slots)
        self._names = naming(points)

    def _send(self, piece: Piece) -> Tally:
        source, tally = self._require_source(), Tally()
        for names, offset, lines in segments(piece, self._names):
            records = self._reader.read(id_of(self._group.name, source, names), offset, lines.removesuffix(b"\n"))
            self._sender.send(zip(records.keys, records.values, strict=True))
            self.sent_lines += records.lines
            self._sender.poll()
            tally += self._judge.tally(records)
        self._watch()
        return tally

    def _deliver(self) -> None:
        self._sender.finish()
        self._delivered = self._sent_mark, self._sent
        self._delivered_s = time.monotonic()

    def _save(self) -> None:
        """The register has the source as it is now, and of what was sent as much as Kafka has."""
        (counted, delivered), source = self._delivered, self._require_source()
        source = replace(
            source,
            names=source.renamed(self._name),
            counted=counted,
            tally=self._base + delivered,
            counted_at=_time(self._now_ms()),
        )
        if not self._register.save(self._group, source):
            raise _Overtaken
        self._source, self._saved = source, delivered
        if counted != START:
            self._told(source.row(self._group.name))

    def _require_source(self) -> Source:
        assert self._source is not None
        return self._source

    def _require_one_site(self, recognition: Recognition) -> None:
        sites = recognition.sites | {one.site for one in recognition.alike.values()}
        if recognition.found and len(sites) > 1:
            named = " and of site ".join(sorted(sites))
            raise InputError(
                f"{self._file.path} is known as a log of site {named}; nothing was sent, SITE= says which of them goes on"
            )


def _time(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
