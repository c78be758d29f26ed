"""What a task of a run does with its share of the slices: it reads them, from HDFS once and then from the worker's disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import numpy as np
import polars as pl

from batch.archive import Archive
from batch.fold import Hashes, hashes_by_day
from contract.aggregate import days_of
from contract.archive_file import forgotten_within, lost
from contract.decoder import REJECT_SCHEMA
from contract.losses import Loss
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from contract.master_rows import master_rows
from contract.settings import Settings, spark_folder
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS

Share = Sequence[Slice]
# HDFS lets each reader wait.
_READ_AT_ONCE = 4
_NO_REJECTS = pl.DataFrame(schema=REJECT_SCHEMA)


@dataclass(frozen=True)
class Found:
    """How many events and rejects a slice has, the days of its events, and what its file says is lost or forgotten of it."""

    piece: Slice
    events: int
    rejects: int
    days: tuple[date, ...]
    lost: tuple[Loss, ...] = ()
    forgotten: int = 0

    @property
    def offsets(self) -> OffsetRange:
        """Those of the slice."""
        return OffsetRange(self.piece.file.partition, self.piece.first_offset, self.piece.next_offset)


class Files:
    """The bytes of the archive's files of a stream. Copies stay in `folder`, if there is one, so HDFS is not asked again."""

    def __init__(self, settings: Settings, folder: Path | None, stream: Stream = PAGE_VIEWS) -> None:
        self._archive, self._folder, self.stream = Archive(settings), folder, stream

    def read(self, dataset: str, wanted: Sequence[OffsetRange]) -> Iterator[bytes]:
        """These files, each whole; EngineUnavailable or ArchiveDamaged if HDFS must be asked, and cannot give one."""
        if self._folder is None:
            for file in wanted:
                yield self._from_hdfs(dataset, file)
            return
        copies = {file: self._folder / f"{dataset}-{file.partition}-{file.file_name}" for file in wanted}
        if missing := {file: copy for file, copy in copies.items() if not copy.exists()}:
            with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
                list(pool.map(partial(self._copy, dataset), missing.keys(), missing.values()))
        for file in wanted:
            try:
                content = copies[file].read_bytes()
            except OSError:
                content = self._from_hdfs(dataset, file)
            yield content

    def _copy(self, dataset: str, file: OffsetRange, copy: Path) -> None:
        content = self._from_hdfs(dataset, file)
        # A task may be killed, and another one may do the same now.
        # guard: a copy appears whole
        part = copy.with_name(f"{copy.name}.{uuid4().hex}")
        try:
            part.write_bytes(content)
            part.replace(copy)
        except OSError:
            # There may be no room. Then HDFS is asked again, which is slower and no more.
            part.unlink(missing_ok=True)

    def _from_hdfs(self, dataset: str, file: OffsetRange) -> bytes:
        return self._archive.read(file.path(self._archive.root, dataset))


def files_at_hand(settings: Settings, stream: Stream = PAGE_VIEWS) -> Files:
    """The archive's files of a stream, with copies in the folder that Spark has for those of a worker."""
    return Files(settings, spark_folder(), stream)


@dataclass(frozen=True)
class Describer:
    """Counts what is in shares, and in the quarantine beside files that are in `rejected`."""

    settings: Settings
    rejected: Collection[OffsetRange]
    stream: Stream = PAGE_VIEWS

    def describe(self, share: Share) -> list[Found]:
        """All that a run needs to know of the slices of the share before it computes days."""
        files, described = files_at_hand(self.settings, self.stream), []
        rejected = files.read(QUARANTINE, [piece.file for piece in share if piece.file in self.rejected])
        for piece, content in zip(share, files.read(MASTER, [piece.file for piece in share]), strict=True):
            events = events_in(content, piece, [self.stream.time], self.stream)
            rejects = 0
            if piece.file in self.rejected:
                rejects = len(_inside(_read(next(rejected), ["offset"]), piece))
            days = np.unique(days_of(events, self.stream)).astype("datetime64[D]").tolist()
            path = piece.file.path(self.settings.archive_root, MASTER)
            forgotten = forgotten_within(content, path, piece.first_offset, piece.next_offset)
            described.append(Found(piece, len(events), rejects, tuple(days), _lost(content, piece), forgotten))
        return described


def _lost(content: bytes, piece: Slice) -> tuple[Loss, ...]:
    partition = piece.file.partition
    return tuple(
        Loss(partition, part.first_offset, part.next_offset, part.reason, is_gap=True)
        for one in lost(content, piece.file.file_name)
        for part in one.within(piece.first_offset, piece.next_offset)
    )


def rejects_of(files: Files, found: Iterable[Found]) -> Iterator[tuple[OffsetRange, pl.DataFrame]]:
    """Ranges, in order, that have all offsets of the slices, each with its rejects: only those of one slice are in memory.

    Slices without rejects are of one range with what follows them, since most have none.
    """
    clean: OffsetRange | None = None
    for one in sorted(found, key=lambda one: one.offsets):
        offsets = one.offsets
        if clean and (clean.partition, clean.next_offset) == (offsets.partition, offsets.first_offset):
            offsets = replace(offsets, first_offset=clean.first_offset)
        elif clean:
            yield clean, _NO_REJECTS
        # guard: a range is judged to its end
        clean = None if one.rejects else offsets
        if one.rejects:
            (content,) = files.read(QUARANTINE, [one.piece.file])
            yield offsets, _inside(_read(content, REJECT_SCHEMA.names()), one.piece)
    if clean:
        yield clean, _NO_REJECTS


def events_on(files: Files, share: Share, days: Collection[date], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Of each slice these columns of its events that are on one of the days; the event's time must be one of them."""
    wanted = np.array(sorted(days), "datetime64[D]").astype(np.int64)
    for piece, content in zip(share, files.read(MASTER, [piece.file for piece in share]), strict=True):
        rows = events_in(content, piece, columns, files.stream)
        inside = np.isin(days_of(rows, files.stream), wanted)
        yield rows if inside.all() else rows.filter(inside)


def portions(frames: Iterable[pl.DataFrame], most_bytes: int) -> Iterator[list[pl.DataFrame]]:
    """The frames, in lists that are hardly larger in memory, each of one frame at least; whoever takes one may clear it."""
    portion: list[pl.DataFrame] = []
    held_bytes = 0.0
    for frame in frames:
        portion.append(frame)
        held_bytes += frame.estimated_size()
        if held_bytes >= most_bytes:
            yield portion
            portion, held_bytes = [], 0.0
    if portion:
        yield portion


def hashes_of(files: Files, share: Share, days: Collection[date]) -> dict[date, Hashes]:
    """The hashes of the identities of the share's events that are on one of the days, by day."""
    blocks: dict[date, list[Hashes]] = {}
    stream = files.stream
    for events in events_on(files, share, days, [*stream.identity, stream.time]):
        for day, hashes in hashes_by_day(events, stream).items():
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


def events_in(content: bytes, piece: Slice, columns: Sequence[str], stream: Stream = PAGE_VIEWS) -> pl.DataFrame:
    """These columns of the events in a master file of a stream, and no row of the file that is not in the slice."""
    held = pl.read_parquet_schema(BytesIO(content)).keys()
    rows = master_rows(held, list(dict.fromkeys(["offset", *columns])), partial(_read, content), stream)
    return _inside(rows, piece).select(columns)


def _read(content: bytes, columns: Sequence[str]) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(content), columns=list(columns))


def _inside(rows: pl.DataFrame, piece: Slice) -> pl.DataFrame:
    # guard: offset filter of overlapping files
    return rows.filter(pl.col("offset").is_between(piece.first_offset, piece.next_offset, closed="left"))
