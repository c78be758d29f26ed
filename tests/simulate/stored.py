"""What the files of the archive hold, as whoever reads them finds it: records, values as they were received, gaps."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import pyarrow.parquet as pq

from contract.archive_file import decode, position, read_footer
from contract.columns import integers
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice, folder
from ingest.archive_files import ArchiveFiles
from ingest.as_received import values_of
from tests.fixtures.memory import MemoryStore


@dataclass(frozen=True)
class Held:
    """A record in a file: its offset, its time, its value as it was received, and whether it is there as an event."""

    offset: int
    time_ms: int
    value: bytes | None
    is_event: bool


class Stored:
    """The files below one root. Nothing here is seen by processes."""

    def __init__(self, store: MemoryStore, root: str) -> None:
        self._store, self._root = store, root

    def files(self, partition: int, dataset: str = MASTER) -> list[OffsetRange]:
        """The finished files of a partition, in order."""
        place = folder(self._root, dataset, partition) + "/"
        names = (path.removeprefix(place) for path in self._store.files if path.startswith(place))
        return sorted(file for name in names if (file := OffsetRange.of_file(partition, name)))

    def covered(self, partition: int, but: OffsetRange | None = None) -> set[int]:
        """The offsets that files have; `but` that file alone."""
        return {
            offset for file in self.files(partition) if file != but for offset in range(file.first_offset, file.next_offset)
        }

    def held(self, file: OffsetRange) -> tuple[Held, ...]:
        """The records of a file, the rejects beside its events."""
        master, rejects = (self._store.files.get(file.path(self._root, dataset)) for dataset in (MASTER, QUARANTINE))
        assert master is not None
        return _events(file, master[0]) + (_rejects(rejects[0]) if rejects else ())

    def marked(self, file: OffsetRange) -> list[int]:
        """The offsets of a file whose records were taken back, as it says."""
        return _marks(self._store.files[file.path(self._root, MASTER)][0])

    def end(self, file: OffsetRange) -> LogPosition:
        """Where a file ends, and in which log."""
        return _position(self._store.files[file.path(self._root, MASTER)][0])

    def rejects(self, partition: int) -> dict[str, tuple[Held, ...]]:
        """By path those of all quarantine files, whether there is a master file beside them or not."""
        place = folder(self._root, QUARANTINE, partition) + "/"
        paths = [path for path in self._store.files if path.startswith(place) and not path.endswith(".tmp")]
        return {path: _rejects(self._store.files[path][0]) for path in paths}

    def records(self, partition: int) -> dict[int, Held]:
        """The records of all files of a partition, by offset."""
        return {one.offset: one for file in self.files(partition) for one in self.held(file)}

    def ends(self, partition: int) -> list[LogPosition]:
        """Where each file of a partition ends, and in which log."""
        return [self.end(file) for file in self.files(partition)]

    def extent(self, partition: int, files: Iterable[OffsetRange] | None = None) -> Extent:
        """Where the files end, in which log, and what is missing; of these files, if they are given."""
        known = self.files(partition) if files is None else list(files)
        return Extent.of(partition, known, self.end)


@lru_cache(maxsize=2_000)
def _events(file: OffsetRange, content: bytes) -> tuple[Held, ...]:
    alone = ArchiveFiles(MemoryStore({file.path("", MASTER): (content, 0)}), "")
    rows = alone.read(MASTER, [Slice(file, file.first_offset, file.next_offset)])
    times_ms = integers(rows["kafka_time"]).tolist()
    found = zip(rows["offset"].to_list(), times_ms, values_of(rows), strict=True)
    return tuple(Held(offset, time_ms, value, True) for offset, time_ms, value in found)


@lru_cache(maxsize=2_000)
def _rejects(content: bytes) -> tuple[Held, ...]:
    rows = pq.read_table(io.BytesIO(content), columns=["offset", "kafka_time", "value"])
    found = zip(
        rows["offset"].to_pylist(), rows["kafka_time"].cast("int64").to_pylist(), rows["value"].to_pylist(), strict=True
    )
    return tuple(Held(offset, time_ms, value, False) for offset, time_ms, value in found)


@lru_cache(maxsize=2_000)
def _marks(content: bytes) -> list[int]:
    _, contents = decode(content, "")
    return contents.forgotten_within(contents.offsets.first_offset, contents.offsets.next_offset).tolist()


@lru_cache(maxsize=2_000)
def _position(content: bytes) -> LogPosition:
    return position(read_footer(lambda size_bytes: content[-size_bytes:]), "")
