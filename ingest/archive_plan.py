"""Which archive files to merge and which are no longer needed. Pure: it sees a listing, never a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contract.master import OffsetRange, Slice, archived_next_offset, covering
from ingest.hdfs import FileInfo

SMALL_FILE_BYTES = 8 << 20
"""Only smaller files are merged."""
MERGED_FILE_BYTES = 16 << 20


def current(partition: int, files: Mapping[OffsetRange, FileInfo]) -> list[Slice]:
    """What readers take of a partition: slices that tile it from offset 0 as far as it goes without gap."""
    return covering(partition, files, archived_next_offset(files))


def plan_merge(slices: Sequence[Slice], files: Mapping[OffsetRange, FileInfo], at_least: int) -> list[Slice]:
    """The longest run of at least `at_least` neighbouring small files, oldest first; empty if there is none.

    No file spans more than half of the run's offsets: so each merge at least doubles whatever it rewrites, and a row is
    rewritten a logarithmic number of times.
    """
    best: Sequence[Slice] = ()
    for first in range(len(slices)):
        size_bytes = longest = 0
        for after in range(first + 1, len(slices) + 1):
            part = slices[after - 1]
            size_bytes += files[part.file].size_bytes
            longest = max(longest, part.next_offset - part.first_offset)
            if files[part.file].size_bytes >= SMALL_FILE_BYTES or size_bytes > MERGED_FILE_BYTES:
                break
            span = part.next_offset - slices[first].first_offset
            if after - first >= max(at_least, len(best) + 1) and 2 * longest <= span:
                best = slices[first:after]
    return list(best)


def superseded(files: Mapping[OffsetRange, FileInfo], before_ms: int) -> list[OffsetRange]:
    """Files that lie within another one that is older than `before_ms`; no reader that listed since then took them.

    It is the age of the other one that counts: a run that planned before it appeared may still read the small files.
    """
    reached = 0
    found = []
    for file in sorted(files, key=lambda file: (file.first_offset, -file.next_offset)):
        if file.next_offset <= reached:
            found.append(file)
        # guard: grace of merged-away files
        elif files[file].modified_ms < before_ms:
            reached = file.next_offset
    return found
