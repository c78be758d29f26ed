"""Which files of the master dataset may hold events of some days: their footers say so, and only those are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from contract import archive_file
from contract.archive_file import Span
from contract.master import MASTER, OffsetRange, Slice
from ingest.archive_files import ArchiveFiles
from ingest.archive_plan import current
from ingest.hdfs import FileInfo

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Days:
    """Whole days in UTC, the last one included; times are microseconds since 1970."""

    first: date
    last: date

    @property
    def first_time_us(self) -> int:
        return _time_us(self.first)

    @property
    def next_time_us(self) -> int:
        return _time_us(self.last + _DAY)

    def __iter__(self) -> Iterator[date]:
        return (self.first + number * _DAY for number in range((self.last - self.first).days + 1))

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Piece:
    """A slice of a master file, and what the file holds; its times are cut to the days sought."""

    slice: Slice
    span: Span

    @property
    def days(self) -> Days:
        """From the first to the last day on which it has an event."""
        return Days(time_of(self.span.first_time_us).date(), time_of(self.span.last_time_us).date())


@dataclass(frozen=True)
class Selection:
    """The pieces with events that may be on the days, in the order in which they came to Kafka.

    `first_time_us` and `last_time_us` are those of the whole archive, None if that is empty.
    """

    days: Days
    pieces: tuple[Piece, ...]
    first_time_us: int | None
    last_time_us: int | None

    @property
    def rows(self) -> int:
        """No more events than these are on the days."""
        return sum(piece.span.rows for piece in self.pieces)

    def of(self, days: Days) -> Selection:
        """What of it may be on some of its days."""
        pieces = tuple(_cut(piece, days) for piece in self.pieces if _meets(piece.span, days))
        return replace(self, days=days, pieces=pieces)

    def portions(self, most_rows: int) -> Iterator[Selection]:
        """Selections of consecutive days with no more rows each, unless a single day has more; together they have all.

        Copies of an event are of one day, so none is in two portions.
        """
        portion: Selection | None = None
        days = [day for piece in self.pieces for day in (piece.days.first, piece.days.last)]
        for day in Days(min(days), max(days)) if days else ():
            alone = self.of(Days(day, day))
            together = alone if portion is None else self.of(Days(portion.days.first, day))
            if portion is not None and together.rows > most_rows:
                yield portion
                together = alone
            portion = together if together.pieces else None
        if portion is not None:
            yield portion


def select(files: ArchiveFiles, partitions: Iterable[int], days: Days, looked: Callable[[int], None]) -> Selection:
    """What the archive, as it is now, may have of the days. `looked` is told of each file, and how many those were.

    Raises ArchiveDamaged and EngineUnavailable.
    """
    count = 0
    pieces: list[Piece] = []
    for partition in partitions:
        ranges = files.ranges(partition)
        for piece in current(partition, ranges):
            if (span := _span(files, piece.file, ranges[piece.file])) is not None:
                pieces.append(Piece(piece, span))
            count += 1
            looked(count)
    pieces.sort(key=lambda piece: (piece.span.kafka_time_ms, piece.slice.file))
    return Selection(
        days,
        tuple(pieces),
        min((piece.span.first_time_us for piece in pieces), default=None),
        max((piece.span.last_time_us for piece in pieces), default=None),
    ).of(days)


def time_of(time_us: int) -> datetime:
    """The moment so many microseconds after the beginning of 1970."""
    return _EPOCH + time_us * _MICROSECOND


def _span(files: ArchiveFiles, offsets: OffsetRange, file: FileInfo) -> Span | None:
    return archive_file.span(files.footer(offsets, file), files.path(MASTER, offsets), files.stream.time)


def _meets(span: Span, days: Days) -> bool:
    return span.first_time_us < days.next_time_us and days.first_time_us <= span.last_time_us


def _cut(piece: Piece, days: Days) -> Piece:
    first, last = max(piece.span.first_time_us, days.first_time_us), min(piece.span.last_time_us, days.next_time_us - 1)
    return replace(piece, span=replace(piece.span, first_time_us=first, last_time_us=last))


def _time_us(day: date) -> int:
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH) // _MICROSECOND
