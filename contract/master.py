"""The layout of the master dataset: names carry offset ranges, so a listing of files is the archiver's offset store.

`<root>/master/partition=P/<first>-<next>.parquet` holds the events of offsets [first, next) of partition P that are valid,
`<root>/quarantine/partition=P/…` the rejects of the same range. Files may overlap; readers take the covering slices.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from contract.errors import ArchiveGap

MASTER, QUARANTINE = "master", "quarantine"
_NAME = re.compile(r"([0-9]{20})-([0-9]{20})\.parquet")
_FOLDER = re.compile(r"partition=([0-9]+)")


@dataclass(frozen=True, order=True)
class OffsetRange:
    """Offsets [first_offset, next_offset) of one partition."""

    partition: int
    first_offset: int
    next_offset: int

    @property
    def file_name(self) -> str:
        """The name of the file that holds this range; it sorts by offset."""
        return f"{self.first_offset:020d}-{self.next_offset:020d}.parquet"

    def path(self, root: str, dataset: str) -> str:
        """Where the range's file is in `dataset`, MASTER or QUARANTINE."""
        return f"{folder(root, dataset, self.partition)}/{self.file_name}"

    @classmethod
    def of_file(cls, partition: int, file_name: str) -> OffsetRange | None:
        """The range that a file name states; None of any other name, a temporary file's for instance."""
        match = _NAME.fullmatch(file_name)
        return cls(partition, int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Slice:
    """What a reader takes from one file: its rows with offset in [first_offset, next_offset)."""

    file: OffsetRange
    first_offset: int
    next_offset: int


def folder(root: str, dataset: str, partition: int) -> str:
    """The folder of a partition's files."""
    return f"{root}/{dataset}/partition={partition}"


def partitions_in(names: Iterable[str]) -> list[int]:
    """The partitions that have a folder, given the names in a dataset's."""
    return sorted(int(match[1]) for match in map(_FOLDER.fullmatch, names) if match)


def archived_next_offset(files: Iterable[OffsetRange]) -> int:
    """The first offset that the files, of one partition, do not cover without gap from 0."""
    next_offset = 0
    for file in sorted(files):
        if file.first_offset > next_offset:
            break
        next_offset = max(next_offset, file.next_offset)
    return next_offset


def last_file(files: Iterable[OffsetRange]) -> OffsetRange | None:
    """The file, of one partition, that ends where all of them do, gaps or not; None if there is none."""
    return min(files, key=lambda file: (-file.next_offset, file.first_offset), default=None)


def gaps(files: Iterable[OffsetRange]) -> list[OffsetRange]:
    """Offsets that no file of a partition covers, below the highest that one does; in order."""
    found: list[OffsetRange] = []
    reached = 0
    for file in sorted(files):
        if file.first_offset > reached:
            found.append(OffsetRange(file.partition, reached, file.first_offset))
        reached = max(reached, file.next_offset)
    return found


def covering(partition: int, files: Iterable[OffsetRange], next_offset: int) -> list[Slice]:
    """Slices that tile [0, next_offset) of a partition, each offset once, in as few files as reach farthest.

    Raises ArchiveGap that names the first missing range.
    """
    candidates = sorted(files)
    slices: list[Slice] = []
    reached, position = 0, 0
    while reached < next_offset:
        farthest = None
        while position < len(candidates) and candidates[position].first_offset <= reached:
            if farthest is None or candidates[position].next_offset > farthest.next_offset:
                farthest = candidates[position]
            position += 1
        if farthest is None or farthest.next_offset <= reached:
            after = candidates[position].first_offset if position < len(candidates) else next_offset
            raise ArchiveGap.between(partition, reached, min(after, next_offset))
        slices.append(Slice(farthest, reached, min(farthest.next_offset, next_offset)))
        reached = farthest.next_offset
    return slices


def without(slices: Iterable[Slice], unwanted: Iterable[OffsetRange]) -> list[Slice]:
    """What is left of the slices, in their order, once the offsets of the unwanted ranges are taken out.

    Takes about as long as it takes to sort both, because the ranges of a day's survey are as many as the files.
    """
    gone: dict[int, list[OffsetRange]] = {}
    for one in _merged(unwanted):
        gone.setdefault(one.partition, []).append(one)
    left: list[Slice] = []
    for piece in slices:
        ranges = gone.get(piece.file.partition, [])
        first = piece.first_offset
        # They are apart and in order, so their ends rise too.
        for number in range(bisect_right(ranges, first, key=lambda one: one.next_offset), len(ranges)):
            if ranges[number].first_offset >= piece.next_offset:
                break
            if first < ranges[number].first_offset:
                left.append(Slice(piece.file, first, ranges[number].first_offset))
            first = ranges[number].next_offset
        if first < piece.next_offset:
            left.append(Slice(piece.file, first, piece.next_offset))
    return left


def _merged(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """The same offsets in as few ranges as there can be, in order."""
    apart: list[OffsetRange] = []
    for one in sorted(ranges):
        last = apart[-1] if apart else None
        if last and last.partition == one.partition and one.first_offset <= last.next_offset:
            apart[-1] = OffsetRange(one.partition, last.first_offset, max(last.next_offset, one.next_offset))
        else:
            apart.append(one)
    return apart
