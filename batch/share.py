"""What a task of a run reads: its share of the slices, once, from HDFS. From then on their bytes go with the run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO

import numpy as np
import polars as pl

from batch.archive import Archive
from batch.fold import Hashes, hashes_by_day, packed
from contract.aggregate import columns_read
from contract.event import REJECT_SCHEMA
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from contract.settings import Settings
from serving.handoff import STORED_VALUE_BYTES

Share = Sequence[Slice]
# Of an offset a file has 13 bytes of simulated events. If it has many more, only what is folded is sent on.
_SENT_BYTES = 64


@dataclass(frozen=True)
class Found:
    """How many events and rejects a range of offsets has, and the days of its events."""

    offsets: OffsetRange
    events: int
    rejects: int
    days: tuple[date, ...]


@dataclass(frozen=True)
class Loaded:
    """A share as it was read: the bytes of its files, or of what is folded of them; hashes of identities by day."""

    slices: Share
    files: list[bytes]
    hashes: dict[date, Hashes]

    def events(self, days: Collection[date], columns: Sequence[str]) -> list[pl.DataFrame]:
        """Of each file these columns of the slice's events that are on one of the days; event_time must be one of them."""
        wanted = pl.Series(sorted(days), dtype=pl.Date).implode()
        rows = (_rows(content, piece, columns) for content, piece in zip(self.files, self.slices, strict=True))
        return [some.filter(pl.col("event_time").dt.date().is_in(wanted)) for some in rows]


@dataclass(frozen=True)
class Described:
    """What is in the slices of a share, and packed rejects to store."""

    found: list[Found]
    rejects: list[bytes]


@dataclass(frozen=True)
class Loader:
    """Reads shares, and the quarantine beside files that are in `rejected`; it keeps rejects from offsets `unseen` on."""

    settings: Settings
    rejected: Collection[OffsetRange]
    unseen: Mapping[int, int]

    def load(self, share: Share) -> tuple[Loaded, Described]:
        """All that a run needs to know of the share before it folds its events."""
        archive = Archive(self.settings)
        described = Described([], [])
        files: list[bytes] = []
        hashes: dict[date, list[Hashes]] = {}
        for piece in share:
            content = archive.read(piece.file.path(archive.root, MASTER))
            events = _rows(content, piece, ("event_id", "event_time"))
            of_days = hashes_by_day(events)
            for day, some in of_days.items():
                hashes.setdefault(day, []).append(some)
            # What is sent goes through the memory of Spark's executor.
            files.append(
                content
                if len(content) <= _SENT_BYTES * offsets_of([piece])
                else packed(_rows(content, piece, columns_read()))
            )
            rejects, unseen = self._rejects(archive, piece)
            if len(unseen):
                described.rejects.append(packed(unseen))
            offsets = OffsetRange(piece.file.partition, piece.first_offset, piece.next_offset)
            described.found.append(Found(offsets, len(events), rejects, tuple(of_days)))
        return Loaded(share, files, {day: np.concatenate(blocks) for day, blocks in hashes.items()}), described

    def _rejects(self, archive: Archive, piece: Slice) -> tuple[int, pl.DataFrame]:
        """How many rejects a slice has; those to store, their values cut to what the database stores."""
        if piece.file not in self.rejected:
            return 0, pl.DataFrame(schema=REJECT_SCHEMA)
        unseen = self.unseen.get(piece.file.partition, 0)
        content = archive.read(piece.file.path(archive.root, QUARANTINE))
        if piece.next_offset <= unseen:
            return len(_rows(content, piece, ["offset"])), pl.DataFrame(schema=REJECT_SCHEMA)
        rejects = _rows(content, piece, REJECT_SCHEMA.names())
        kept = rejects.filter(pl.col("offset") >= unseen)
        return len(rejects), kept.with_columns(pl.col("value").bin.slice(0, STORED_VALUE_BYTES))


def shared_out(slices: Sequence[Slice], count: int) -> list[list[Slice]]:
    """The slices in at most `count` shares, each in order and of about the same number of offsets."""
    shares: list[list[Slice]] = [[] for _ in range(count)]
    total, before = max(1, offsets_of(slices)), 0
    for piece in slices:
        middle = before + (piece.next_offset - piece.first_offset) // 2
        shares[min(count - 1, middle * count // total)].append(piece)
        before += piece.next_offset - piece.first_offset
    return [share for share in shares if share]


def offsets_of(slices: Iterable[Slice]) -> int:
    """How many offsets the slices have."""
    return sum(piece.next_offset - piece.first_offset for piece in slices)


def _rows(content: bytes, piece: Slice, columns: Sequence[str]) -> pl.DataFrame:
    """These columns of the slice's rows in a file, and no row of the file that is not in the slice."""
    rows = pl.read_parquet(BytesIO(content), columns=list(dict.fromkeys(["offset", *columns])))
    # guard: offset filter of overlapping files
    inside = rows.filter(pl.col("offset").is_between(piece.first_offset, piece.next_offset, closed="left"))
    return inside.select(columns)
