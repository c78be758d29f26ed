"""The lines of one text into Kafka: each that no replay has sent before, with the id that it always has.

First the text is recognised: it is the source whose announced part it begins with, or a new one. What is sent is announced
in the register before, and counted there after Kafka has it. A crash in between repeats ids. Two replays that count one text
at once do so too: one of them finds that the register has changed, and begins again with what it says now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from msgspec.structs import replace

from contract.errors import InputError
from contract.sources import CountedSource
from ingest.background import ahead
from ingest.beginning import START, Mark, naming, segments
from ingest.feed import Feed
from ingest.line_records import LineReader
from ingest.lines import InputFile
from ingest.pieces import Piece
from ingest.recognition import recognise
from ingest.register import Register
from ingest.sender import Record
from ingest.source import Group, Source, id_of
from ingest.tally import Judge, Tally

# What is announced at once: as much as is read ahead. It doubles, because each announcement is a file on HDFS.
_LEAST_PORTION_BYTES, _MOST_PORTION_BYTES = 4 << 20, 32 << 20
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
        self.patient = file.live and not file.can_restart
        """Whether lines that cannot be read yet wait for more, which may say of which format they are, as a pipe's do."""
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
        self._reader: LineReader | None = None
        self._identity = "", 0
        self._earlier, self._saved, self._sent = Tally(), Tally(), Tally()
        self._sent_mark = START
        self._delivered_s = time.monotonic()

    @property
    def source(self) -> CountedSource | None:
        """The source as it was settled last; None as long as there is none."""
        return None if self._source is None else self._source.row(self._group.name)

    @property
    def notes(self) -> list[str]:
        """What people should know of the lines that were read."""
        return [] if self._reader is None else self._reader.notes.texts()

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
        recognised = recognise(self._feed, self._register, self._key, self.site, final, self._watch)
        self.is_known = recognised.is_known
        if not recognised.is_decided:
            # It ends before it differs: of which source it is only its further lines say.
            self.lines, self.left_lines = recognised.lines, recognised.lines - recognised.known_lines
            self.known = Tally(recognised.known_lines)
            return False
        self.lines = self.left_lines = 0
        found, now = recognised.found, time_text(self._now_ms())
        try:
            reader = self._reader_of(recognised.sample, found.site or None if found else self.site)
        except InputError:
            if self.patient:
                return False
            raise
        self._reader, self._judge = reader, Judge(self._now_ms, reader.own_ids)
        if not self._again:
            reader.pass_over(recognised.remarks)
        self._group, self._beginning = recognised.group, recognised.beginning
        self._differs_end = recognised.differs_end
        self._source = found or Source(max(self._group.sources, default=0) + 1, reader.site, (), now, now)
        self._begin(self._source)
        return True

    def _begin(self, source: Source) -> None:
        """All that is known of the text is what the register has of its source."""
        self._send_again_end = source.announced.end if self._again or source.counted != source.announced else 0
        if self._again:
            self._feed.restart()
            self._again = False
        self._earlier, self._saved, self._sent = self._earlier + self._saved, Tally(), Tally()
        identity = self._group.name, source.number
        self.known = source.tally - self._earlier if identity == self._identity else source.tally
        self._identity = identity
        self._names = naming(source.points)
        self._base, self._sent_mark = source.tally, source.counted
        self._delivered = source.counted, Tally()

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
        source, end = self._require_source(), self._send_again_end
        if not end:
            return
        self._send_again_end = 0
        for piece in self._feed.pieces(final):
            for part in _split(piece, (source.counted.end, end)):
                if part.offset >= end:
                    self._feed.give_back([part])
                elif part.offset >= source.counted.end:
                    self._sent += self._send(part)
                else:
                    self.sent_again += self._send(part)
            if piece.next_offset >= end:
                break
        self._sent_mark = source.announced

    def _portions(self, final: bool) -> Iterator[tuple[list[Piece], Mark]]:
        """What is to be sent, and where it ends. It is announced; of a live text only that there is such a source."""
        size = 0 if self._file.live else _LEAST_PORTION_BYTES
        damage: InputError | None = None
        while True:
            pieces: list[Piece] = []
            first = self._beginning.end
            try:
                for piece in self._feed.pieces(final):
                    self._beginning.add(piece)
                    pieces.append(piece)
                    if self._beginning.end >= max(first + size, self._differs_end):
                        break
            except InputError as error:
                damage = error
            if pieces:
                # guard: a new source is announced as far as it differs
                if self._beginning.end < self._differs_end:
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
        source, tally, reader = self._require_source(), Tally(), self._reader
        assert reader is not None
        for names, offset, lines in () if piece.is_hole else segments(piece, self._names):
            records = reader.read(id_of(self._group.name, source, names), offset, lines.removesuffix(b"\n"))
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
            counted_at=time_text(self._now_ms()),
        )
        if not self._register.save(self._group, source):
            raise _Overtaken
        self._source, self._saved = source, delivered
        if counted != START:
            self._told(source.row(self._group.name))

    def _require_source(self) -> Source:
        assert self._source is not None
        return self._source


def _split(piece: Piece, ends: Sequence[int]) -> Iterator[Piece]:
    """The piece, in parts that end at rising offsets."""
    for end in ends:
        if piece.offset < end < piece.next_offset and piece.long is None:
            part, piece = piece.split(end)
            yield part
    yield piece


def time_text(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
