"""What is forgotten leaves the archive's files: each is replaced, under its name, by one without it, which says so.

All other rows stay as they are, and so do their columns. The master file of a pair goes first: what it says of its range is
true as soon as the quarantine file has followed, and doing it again after a crash ends the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.archive_file import Contents, decode, encode
from contract.forgotten import KNOWING, REJECTS_KNOWING, Rules
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from ingest.archive_files import ArchiveFiles, frame_of, without
from ingest.archive_plan import current

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _File:
    """A file, what it says of itself, and which of its rows are forgotten."""

    path: str
    table: pa.Table
    contents: Contents
    gone: Mask

    @property
    def gone_offsets(self) -> NDArray[np.int64]:
        return self.table["offset"].to_numpy()[self.gone]

    @property
    def kept(self) -> pa.Table:
        return without(self.table, self.gone)


@dataclass(frozen=True)
class Pair:
    """What is forgotten of the files of a range. `rejected` is its quarantine file, if it has one."""

    master: _File
    rejected: _File | None

    def __bool__(self) -> bool:
        """Whether anything is, or a crash has kept the quarantine file from saying what the master file says."""
        if self.rejected and (self.rejected.gone.any() or self.rejected.contents != self.contents()):
            return True
        return bool(self.master.gone.any())

    def events(self) -> pl.DataFrame:
        """Offset and times of the events that are forgotten."""
        return frame_of(self.master.table.filter(pa.array(self.master.gone)).select(["offset", "event_time", "kafka_time"]))

    def rejects(self) -> pl.DataFrame:
        """The same of the rejects, which have no time of their own."""
        if self.rejected is None:
            return pl.DataFrame(schema={"offset": pl.Int64, "kafka_time": pl.Datetime("ms", "UTC")})
        return frame_of(self.rejected.table.filter(pa.array(self.rejected.gone)).select(["offset", "kafka_time"]))

    def contents(self) -> Contents:
        """What both files say once it is gone."""
        said = self.master.contents
        offsets = [self.master.gone_offsets] + ([self.rejected.gone_offsets] if self.rejected else [])
        # guard: what is forgotten stays counted
        marks = said.forgetting(np.concatenate(offsets))
        rejects = len(self.rejected.kept) if self.rejected else said.rejects
        return replace(said, events=len(self.master.kept), rejects=rejects, forgotten=marks)


def find(files: ArchiveFiles, file: OffsetRange, rules: Rules, has_rejects: bool) -> Pair:
    """What the rules forget of a file and of the quarantine file beside it. Raises ArchiveDamaged, EngineUnavailable."""
    path = files.path(MASTER, file)
    table, contents = decode(files.content(path), path)
    rows = frame_of(files.of_today(table, contents.form).select(KNOWING))
    master = _File(path, table, contents, rules.events(rows))
    if not has_rejects:
        return Pair(master, None)
    rejected = _find_rejects(files, files.path(QUARANTINE, file), rules)
    # What the master file says is gone follows, though what was said may be lifted by now.
    # guard: a pair that is half done is ended
    said = np.isin(rejected.table["offset"].to_numpy(), contents.forgotten_within(file.first_offset, file.next_offset))
    return Pair(master, replace(rejected, gone=rejected.gone | said))


def forget(files: ArchiveFiles, partition: int, rules: Rules) -> int:
    """No file of the partition holds what the rules forget, whatever it is for; returns how many did."""
    # What a crash left half done holds records too.
    files.clean(partition)
    changed, rejected = 0, files.ranges(partition, QUARANTINE)
    ranges = files.ranges(partition)
    for file in sorted(ranges):
        changed += _forget_pair(files, file, rules, file in rejected)
    # An archiver that died between the two has left a quarantine file alone.
    # guard: quarantine without master keeps to it too
    alone = [files.path(QUARANTINE, file) for file in sorted(rejected.keys() - ranges.keys())]
    for path in [*alone, *files.aside(partition)]:
        found = _find_rejects(files, path, rules)
        if found.gone.any():
            marks = found.contents.forgetting(found.gone_offsets)
            _replace(files, path, found.kept, replace(found.contents, rejects=len(found.kept), forgotten=marks))
            changed += 1
    return changed


def _forget_pair(files: ArchiveFiles, file: OffsetRange, rules: Rules, has_rejects: bool) -> bool:
    found = find(files, file, rules, has_rejects)
    # guard: only files that hold it are replaced
    if not found:
        return False
    contents = found.contents()
    # After a crash it may say so already.
    if contents != found.master.contents:
        # guard: what is forgotten leaves the files
        files.replace(found.master.path, encode(found.master.kept, contents, files.stream))
    if found.rejected:
        # guard: and their quarantine
        _replace(files, found.rejected.path, found.rejected.kept, contents)
    return True


def found_in(files: ArchiveFiles, partition: int, rules: Rules) -> Iterator[tuple[Slice | None, Pair]]:
    """What `forget` would take out, file by file: with the slice that readers take of it, None if they take none."""
    ranges, rejected = files.ranges(partition), files.ranges(partition, QUARANTINE)
    taken = {part.file: part for part in current(partition, ranges)}
    for file in sorted(ranges):
        if found := find(files, file, rules, file in rejected):
            yield taken.get(file), found


def _replace(files: ArchiveFiles, path: str, kept: pa.Table, contents: Contents) -> None:
    """A quarantine file with what is kept of it, or none if that is nothing."""
    if len(kept):
        files.replace(path, encode(kept, contents, files.stream))
    else:
        files.remove(path)


def _find_rejects(files: ArchiveFiles, path: str, rules: Rules) -> _File:
    table, contents = decode(files.content(path), path)
    return _File(path, table, contents, rules.rejects(frame_of(table.select(REJECTS_KNOWING))))
