"""What a task of a run does with its share of the slices: it reads them, from HDFS once and then from the worker's disk."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import polars as pl

from batch.archive import Archive
from batch.fold import Hashes, hashes_by_day, packed
from contract.aggregate import days_of
from contract.event import REJECT_SCHEMA
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from contract.settings import Settings
from serving.handoff import STORED_VALUE_BYTES

Share = Sequence[Slice]
_FETCHED_AT_ONCE = 4


@dataclass(frozen=True)
class Found:
    """How many events and rejects a range of offsets has, and the days of its events."""

    offsets: OffsetRange
    events: int
    rejects: int
    days: tuple[date, ...]


@dataclass(frozen=True)
class Described:
    """What is in the slices of a share, and packed rejects to store."""

    found: list[Found]
    rejects: list[bytes]


class Files:
    """The bytes of the archive's files. Copies stay in `folder`, if there is one, so HDFS gives a worker each file once."""

    def __init__(self, settings: Settings, folder: Path | None) -> None:
        self._archive, self._folder = Archive(settings), folder

    @classmethod
    def of_worker(cls, settings: Settings) -> Files:
        """With copies in the folder for what Spark's Python workers put aside; Spark removes it when the run has ended."""
        folders = os.environ.get("SPARK_LOCAL_DIRS")
        return cls(settings, Path(folders.split(",")[0]) if folders else None)

    def read(self, dataset: str, file: OffsetRange) -> bytes:
        """The whole file; EngineUnavailable or ArchiveDamaged if HDFS must be asked, and cannot give it."""
        if self._folder is None:
            return self._from_hdfs(dataset, file)
        copy = self._folder / f"{dataset}-{file.partition}-{file.file_name}"
        if copy.exists():
            return copy.read_bytes()
        content = self._from_hdfs(dataset, file)
        # A task may be killed here, and another one may do the same: a copy appears whole or not at all.
        with NamedTemporaryFile(dir=self._folder, delete=False) as part:
            part.write(content)
        os.replace(part.name, copy)
        return content

    def fetch(self, wanted: Iterable[tuple[str, OffsetRange]]) -> None:
        """Make copies of files of these datasets, several at a time, because HDFS lets each wait; errors as of `read`."""
        if self._folder is not None:
            with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
                list(pool.map(lambda place: len(self.read(*place)), wanted))

    def _from_hdfs(self, dataset: str, file: OffsetRange) -> bytes:
        return self._archive.read(file.path(self._archive.root, dataset))


@dataclass(frozen=True)
class Describer:
    """Counts what is in shares, and in the quarantine beside files that are in `rejected`; rejects from offsets `unseen` on
    it brings along."""

    settings: Settings
    rejected: Collection[OffsetRange]
    unseen: Mapping[int, int]

    def describe(self, share: Share) -> Described:
        """All that a run needs to know of the share before it computes days."""
        files, described = Files.of_worker(self.settings), Described([], [])
        asked = dict.fromkeys(piece.file for piece in share)
        files.fetch([(MASTER, file) for file in asked] + [(QUARANTINE, file) for file in asked if file in self.rejected])
        for piece in share:
            events = _rows(files.read(MASTER, piece.file), piece, ["event_time"])
            rejects, unseen = self._rejects(files, piece)
            if len(unseen):
                described.rejects.append(packed(unseen))
            days = np.unique(days_of(events)).astype("datetime64[D]").tolist()
            offsets = OffsetRange(piece.file.partition, piece.first_offset, piece.next_offset)
            described.found.append(Found(offsets, len(events), rejects, tuple(days)))
        return described

    def _rejects(self, files: Files, piece: Slice) -> tuple[int, pl.DataFrame]:
        """How many rejects a slice has; those to store, their values cut to what the database stores."""
        if piece.file not in self.rejected:
            return 0, pl.DataFrame(schema=REJECT_SCHEMA)
        unseen = self.unseen.get(piece.file.partition, 0)
        content = files.read(QUARANTINE, piece.file)
        if piece.next_offset <= unseen:
            return len(_rows(content, piece, ["offset"])), pl.DataFrame(schema=REJECT_SCHEMA)
        rejects = _rows(content, piece, REJECT_SCHEMA.names())
        kept = rejects.filter(pl.col("offset") >= unseen)
        return len(rejects), kept.with_columns(pl.col("value").bin.slice(0, STORED_VALUE_BYTES))


def events_on(files: Files, share: Share, days: Collection[date], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Of each slice these columns of its events that are on one of the days; event_time must be one of them."""
    wanted = np.array(sorted(days), "datetime64[D]").astype(np.int64)
    for piece in share:
        rows = _rows(files.read(MASTER, piece.file), piece, columns)
        inside = np.isin(days_of(rows), wanted)
        yield rows if inside.all() else rows.filter(inside)


def hashes_of(files: Files, share: Share, days: Collection[date]) -> dict[date, Hashes]:
    """The hashes of the identities of the share's events that are on one of the days, by day."""
    blocks: dict[date, list[Hashes]] = {}
    for events in events_on(files, share, days, ["event_id", "event_time"]):
        for day, hashes in hashes_by_day(events).items():
            blocks.setdefault(day, []).append(hashes)
    return {day: np.concatenate(some) for day, some in sorted(blocks.items())}


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
