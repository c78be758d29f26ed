"""Events of some days as the master dataset has them, file by file: of each identity one, whatever copies there are."""

from __future__ import annotations

import numpy as np
import polars as pl

from contract.aggregate import first_of_each, identity_hashes
from contract.errors import EngineUnavailable
from contract.master import MASTER, Slice, covering
from contract.sketches.bloom import BloomFilter
from ingest.archive_files import ArchiveFiles
from ingest.replay_selection import Days, Piece, time_of

# An event is taken for a copy with this chance; the filter then has some 20 bytes for each row that is read.
_FALSE_POSITIVE_RATE = 1e-12


class History:
    """Reads the pieces of one selection. In memory are one file's events, and a filter of `rows` identities.

    Of copies the one that is read first is taken. `site` None: of all sites.
    """

    def __init__(self, files: ArchiveFiles, days: Days, site: str | None, rows: int) -> None:
        self.copies = 0
        self._files = files
        self._wanted = pl.col("event_time").is_between(
            pl.lit(time_of(days.first_time_us)), pl.lit(time_of(days.next_time_us)), closed="left"
        )
        if site is not None:
            self._wanted &= pl.col("site") == site
        self._known = BloomFilter.for_members(max(rows, 1), _FALSE_POSITIVE_RATE)

    def read(self, piece: Piece) -> pl.DataFrame:
        """The events of a piece that no piece before had, in the order of their offsets.

        Raises ArchiveDamaged and EngineUnavailable.
        """
        frame = self._files.read(MASTER, self._there(piece.slice)).rechunk()
        wanted = frame.filter(self._wanted)
        distinct = first_of_each(wanted)
        hashes, known = identity_hashes(distinct), np.zeros(len(distinct), np.bool_)
        self._known.find(hashes, known)
        # guard: a replay sends one of all copies
        fresh = distinct.filter(~known)
        self._known.add(hashes)
        self.copies += len(wanted) - len(fresh)
        return fresh

    def _there(self, part: Slice) -> list[Slice]:
        """The slice; or if its file has been merged into others since it was selected, slices of these."""
        partition = part.file.partition
        ranges = self._files.ranges(partition)
        if part.file in ranges:
            return [part]
        if not ranges:
            raise EngineUnavailable.at("HDFS", self._files.path(MASTER, part.file), "the files of this partition are gone")
        return [
            Slice(other.file, max(other.first_offset, part.first_offset), min(other.next_offset, part.next_offset))
            for other in covering(partition, ranges, part.next_offset)
            if other.next_offset > part.first_offset
        ]
