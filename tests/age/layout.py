"""Which files the archiver and its merges leave of a partition, without a byte of them: its own plan, played on sizes.

What is in the files is not known here, so their sizes are estimated; but for the few whose size is near the limit of what
is merged, the plan does not depend on that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from contract.master import OffsetRange, Slice
from contract.settings import Settings
from ingest.archive_plan import MERGED_FILE_BYTES, SMALL_FILE_BYTES, plan_merge
from ingest.hdfs import FileInfo

_FILE_BYTES, _ROW_BYTES = 8_000, 20
"""What a file of thin traffic takes, and each of its rows."""


class Layout:
    """The files of one partition while the archiver works. `put` is called where it writes a file, in order."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._merge_files, self._grace_ms = settings.archive_merge_files, settings.archive_grace_ms
        self._partition = partition
        # Its first file after a start is a reason to look already.
        self._since_tidy = self._merge_files - 1
        self._settled: list[OffsetRange] = []
        self._whole: dict[OffsetRange, FileInfo] = {}
        """What readers take, in order; what has settled is one large file from offset 0 on."""
        self._merged_away: deque[tuple[int, list[OffsetRange]]] = deque()
        """Files that are still there, and when what they were merged into was written."""

    def put(self, offsets: OffsetRange, at_ms: int) -> None:
        """A file of these offsets is written at that moment, and small ones are merged if there are enough of them."""
        self._whole[offsets] = self._info(offsets, at_ms)
        self._since_tidy += 1
        if self._since_tidy < self._merge_files:
            return
        self._since_tidy = 0
        while self._merged_away and self._merged_away[0][0] < at_ms - self._grace_ms:
            self._merged_away.popleft()
        slices = [Slice(file, file.first_offset, file.next_offset) for file in self._whole]
        if parts := plan_merge(slices, self._whole, self._merge_files):
            merged = OffsetRange(self._partition, parts[0].first_offset, parts[-1].next_offset)
            gone = [part.file for part in parts]
            self._merged_away.append((at_ms, gone))
            left = {file: info for file, info in self._whole.items() if file < parts[0].file}
            after = {file: info for file, info in self._whole.items() if file > parts[-1].file}
            self._whole = {**left, merged: self._info(merged, at_ms), **after}
            self._settle()

    def settled(self) -> list[OffsetRange]:
        """Files that stay as they are for good, in order."""
        return list(self._settled)

    def others(self) -> list[OffsetRange]:
        """All others that are there now, those that are merged away and not yet deleted too."""
        return sorted([*self._small(), *(file for _, files in self._merged_away for file in files)])

    def slices(self, first_offset: int, next_offset: int) -> list[Slice]:
        """What a run reads of offsets [first_offset, next_offset), all of them archived by now."""
        return [
            Slice(file, max(file.first_offset, first_offset), min(file.next_offset, next_offset))
            for file in (*self._settled, *self._small())
            if file.first_offset < next_offset and first_offset < file.next_offset
        ]

    def _small(self) -> list[OffsetRange]:
        before = self._settled[-1].next_offset if self._settled else 0
        return [file for file in self._whole if file.first_offset >= before]

    def _info(self, offsets: OffsetRange, at_ms: int) -> FileInfo:
        size_bytes = _FILE_BYTES + _ROW_BYTES * (offsets.next_offset - offsets.first_offset)
        return FileInfo(offsets.file_name, size_bytes, at_ms)

    def _settle(self) -> None:
        """Small files before a large one that are too few to be merged will never be; a look need not see them again.

        So it takes as long after a year as after a day.
        """
        last = small = 0
        for number, info in enumerate(self._whole.values(), 1):
            if info.size_bytes >= SMALL_FILE_BYTES:
                last, small = number, 0
            elif (small := small + 1) >= self._merge_files:
                break
        whole = list(self._whole)
        if last > 1 or (last == 1 and not self._settled):
            self._settled += [file for file in whole[:last] if file in self._small()]
            settled = OffsetRange(self._partition, 0, whole[last - 1].next_offset)
            large = FileInfo(settled.file_name, MERGED_FILE_BYTES, 0)
            self._whole = {settled: large, **{file: self._whole[file] for file in whole[last:]}}


def flushes(partition: int, first_offset: int, times_ms: Sequence[int], flush_ms: int) -> list[tuple[OffsetRange, int]]:
    """The files that the archiver writes of records that came at these times, each at the end of its slot of that length."""
    found: list[tuple[OffsetRange, int]] = []
    first = 0
    for number, time_ms in enumerate(times_ms):
        if time_ms // flush_ms != times_ms[first] // flush_ms:
            found.append(_flush(partition, first_offset, first, number, times_ms, flush_ms))
            first = number
    if times_ms:
        found.append(_flush(partition, first_offset, first, len(times_ms), times_ms, flush_ms))
    return found


def _flush(
    partition: int, first_offset: int, first: int, after: int, times_ms: Sequence[int], flush_ms: int
) -> tuple[OffsetRange, int]:
    written_ms = (times_ms[first] // flush_ms + 1) * flush_ms
    return OffsetRange(partition, first_offset + first, first_offset + after), written_ms
