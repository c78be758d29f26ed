"""The archive's proof: its ranges tile the offsets, and every copy of every file is, byte by byte, what was written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
import polars as pl
import pyarrow as pa

from batch.archive import Archive, Listed
from batch.audit_logs import check_changes
from batch.findings import Check
from contract.archive_file import Contents, Lost, decode
from contract.errors import ArchiveDamaged, EngineUnavailable, TopicUnusable
from contract.forgotten import KEY, KNOWING, REJECTS_KNOWING, Rules
from contract.log_position import LogPosition
from contract.master import MASTER, QUARANTINE, OffsetRange, gaps
from contract.settings import Settings

_SEE = "see docs/operations.md, 'a file of the archive is damaged or gone'"
_SAY_EVERY_S = 5.0
_PLACE = ("partition", "offset")


class ArchiveAudit:
    """Reads the whole archive, one copy of one file at a time. No file may hold what is forgotten.

    `advanced` is called for each file.
    """

    def __init__(
        self, settings: Settings, archive: Archive, say: Callable[[str], None], advanced: Callable[[], None] = lambda: None
    ) -> None:
        self._settings, self._archive, self._say, self._advanced = settings, archive, say, advanced
        self._check = Check("archive")
        self._files = self._rows = self._bytes = self._copies_missing = 0
        self._hosts: dict[str, str] = {}
        self._lost: set[tuple[int, Lost]] = set()
        self._said_s = time.monotonic()
        self._rules = Rules()
        self.unusable: set[OffsetRange] = set()
        """Ranges of which a file is not as it was written."""

    def run(self) -> Check:
        """The check of all partitions. Raises EngineUnavailable if HDFS does not list them."""
        self._say("archive: reading every copy of every file")
        said = self._archive.said()
        if said.statements:
            self._rules = Rules(said.statements, self._settings.secret(KEY))
        for one in said.unfinished:
            self._check.found(
                f"statement {one.number} of {one.said_at}",
                "what it forgets may still be in files of the archive",
                "if no `make forget` is at work, one broke off: `make forget RESUME=1`",
            )
        partitions = self._archive.partitions()
        for partition in partitions:
            # A file may be deleted once what it was merged into is older than this.
            merged_before_ms = int(time.time() * 1000) - self._settings.archive_grace_ms
            files = self._archive.listing(MASTER, partition)
            rejected = self._archive.listing(QUARANTINE, partition)
            for gap in gaps(files):
                place = f"partition {partition}, offsets [{gap.first_offset}, {gap.next_offset})"
                self._check.found(place, "no file of the master dataset has them", f"`make status` says what to do; {_SEE}")
            ends = [self._check_pair(file, files, rejected, merged_before_ms) for file in sorted(files)]
            with suppress(EngineUnavailable, TopicUnusable):  # then nobody can tell
                check_changes(self._settings, partition, [end for end in ends if end], self._check)
        self._check.looked_at = (
            f"{len(partitions)} partitions, {self._files:,} files, {self._rows:,} rows, "
            f"{self._bytes:,} bytes read in all copies"
        )
        for partition, lost in sorted(self._lost):
            self._check.notes.append(
                f"partition {partition}: offsets [{lost.first_offset}, {lost.next_offset}) are lost for good, as was "
                f"written down at {lost.recorded_at}: {lost.reason}"
            )
        if self._copies_missing:
            self._check.notes.append(
                f"{self._copies_missing:,} files have fewer copies than they should: is a DataNode down? `make status`"
            )
        return self._check

    def _check_pair(
        self,
        file: OffsetRange,
        files: Mapping[OffsetRange, Listed],
        rejected: Mapping[OffsetRange, Listed],
        merged_before_ms: int,
    ) -> LogPosition | None:
        """A master file, and the quarantine file of its range. Where it ends, if it is whole."""
        contents = self._check_file(file, MASTER, files[file])
        if file not in rejected and contents and contents.rejects:
            # It may have been written since the listing.
            rejected = self._archive.listing(QUARANTINE, file.partition)
        if file in rejected:
            self._check_file(file, QUARANTINE, rejected[file])
        if contents is None:
            return None
        # A file that was merged says the same as those that were merged.
        self._lost.update((file.partition, lost) for lost in contents.lost)
        if contents.rejects and file not in rejected and self._is_there(file):
            self.unusable.add(file)
            self._check.found(
                file.path(self._settings.archive_root, QUARANTINE),
                f"is gone: the master file of the same name says that {contents.rejects:,} rejects are in it",
                _SEE,
            )
        for name in contents.merged:
            merged = OffsetRange.of_file(file.partition, name)
            if merged and merged not in files and not _covered(merged, files, merged_before_ms):
                self._check.found(
                    merged.path(self._settings.archive_root, MASTER),
                    f"is gone before its time: {file.file_name} has its rows too, but a run that began before that was "
                    "written may still read this one",
                    _SEE,
                )
        return contents.position

    def _check_file(self, file: OffsetRange, dataset: str, listed: Listed) -> Contents | None:
        """What the file's range holds, if every copy says so and is whole; what is wrong is noted otherwise."""
        path = file.path(self._settings.archive_root, dataset)
        self._files += 1
        self._advanced()
        self._report()
        try:
            copies = self._archive.copies(path)
            self._hosts |= copies
            if not copies:
                raise ArchiveDamaged.unreadable(path, "no copy of it is whole")
            contents = self._read(path, file, dataset, copies)
        except ArchiveDamaged as error:
            # What was merged away long ago may be deleted while we read.
            if self._is_there(file):
                self._check.found(path, error.problem, _SEE)
                self.unusable.add(file)
                self._check_copies(path, listed)
            return None
        self._check_copies(path, listed)
        return contents

    def _read(self, path: str, file: OffsetRange, dataset: str, copies: Mapping[str, str]) -> Contents:
        content, contents = b"", None
        for address in sorted(copies):
            previous, content = content, self._archive.read_copy(path, address, list(copies))
            self._bytes += len(content)
            if contents is None or content != previous:
                table, contents = decode(content, path, _columns(dataset, self._rules))
                if problem := wrong_rows(file, dataset, table, contents):
                    raise ArchiveDamaged.of(path, problem)
                # guard: a file that holds what is forgotten is found
                if count := forgotten_rows(dataset, table, self._rules):
                    self._check.found(
                        path,
                        f"{count:,} of its {len(table):,} rows are forgotten",
                        "`make forget RESUME=1` takes them out of the files and the views",
                    )
                self._rows += len(table)
        assert contents is not None  # there is a copy
        return contents

    def _check_copies(self, path: str, listed: Listed) -> None:
        # Reading has made HDFS look at each copy.
        try:
            if len(self._archive.copies(path)) >= listed.copies:
                return
            damaged = self._archive.damaged_copies(path)
        except ArchiveDamaged:
            return  # deleted meanwhile
        for address in damaged:
            self._check.found(
                f"{path} on {self._hosts.get(address, address)}",
                "HDFS finds this copy damaged; readers are given another one for as long as there is one",
                _SEE,
            )
        self._copies_missing += not damaged

    def _is_there(self, file: OffsetRange) -> bool:
        return file in self._archive.listing(MASTER, file.partition)

    def _report(self) -> None:
        if time.monotonic() - self._said_s >= _SAY_EVERY_S:
            self._said_s = time.monotonic()
            self._say(f"archive: {self._files:,} files, {self._rows:,} rows, {self._bytes:,} bytes read")


def wrong_rows(file: OffsetRange, dataset: str, table: pa.Table, contents: Contents) -> str | None:
    """What contradicts the file's name or what it says of itself; None if nothing does."""
    if contents.offsets != file:
        other = contents.offsets
        return f"it was written as offsets [{other.first_offset}, {other.next_offset}) of partition {other.partition}"
    expected = contents.events if dataset == MASTER else contents.rejects
    if len(table) != expected:
        return f"it has {len(table):,} rows but says that it has {expected:,}"
    forgotten = contents.forgotten_within(file.first_offset, file.next_offset)
    if contents.events + contents.rejects + len(forgotten) > file.next_offset - file.first_offset:
        return (
            f"{contents.events:,} events, {contents.rejects:,} rejects and {len(forgotten):,} forgotten records are more "
            "than its offsets"
        )
    offsets = table["offset"].to_numpy()
    if count := np.isin(offsets, forgotten).sum():
        return f"it says that {count:,} of its {len(table):,} rows are forgotten"
    inside = (
        (offsets >= file.first_offset) & (offsets < file.next_offset) & (table["partition"].to_numpy() == file.partition)
    )
    if not inside.all():
        return f"{np.count_nonzero(~inside):,} of its {len(table):,} rows are not of its offsets"
    if (np.diff(offsets) <= 0).any():
        return "its rows are not in the order of their offsets, each once"
    return None


def forgotten_rows(dataset: str, table: pa.Table, rules: Rules) -> int:
    """How many rows, with the columns that tell it, are forgotten."""
    if not rules:
        return 0
    rows = pl.from_arrow(table)
    assert isinstance(rows, pl.DataFrame)
    return int(np.count_nonzero(rules.events(rows) if dataset == MASTER else rules.rejects(rows)))


def _columns(dataset: str, rules: Rules) -> list[str]:
    """Those that an audit reads; of whom an event is, it reads only if something is forgotten."""
    telling = KNOWING if dataset == MASTER else REJECTS_KNOWING
    return list(dict.fromkeys([*_PLACE, *telling])) if rules else list(_PLACE)


def _covered(merged: OffsetRange, files: Mapping[OffsetRange, Listed], before_ms: int) -> bool:
    """Whether another file has had its offsets for so long that no run reads the merged one any more."""
    return any(
        file.first_offset <= merged.first_offset
        and merged.next_offset <= file.next_offset
        and listed.modified_ms < before_ms
        for file, listed in files.items()
    )
