"""What the master dataset holds: files by partition, as a listing of their names says."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from hdfs import HdfsError, InsecureClient
from requests import RequestException

from contract.errors import ArchiveBehind, EngineUnavailable
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice, archived_next_offset, covering, folder
from contract.settings import Settings

_POLL_S = 0.25


class Archive:
    """The archive as a run sees it; every call lists anew."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = InsecureClient(settings.webhdfs_url, user="braid", timeout=30)

    def files(self, dataset: str) -> dict[int, list[OffsetRange]]:
        """The files of MASTER or QUARANTINE, by partition; a partition without files has an empty list."""
        return {partition: self._files_of(dataset, partition) for partition in range(self._settings.topic_partitions)}

    def next_offsets(self) -> dict[int, int]:
        """The first offset of each partition that is not archived yet."""
        return {partition: archived_next_offset(files) for partition, files in self.files(MASTER).items()}

    def wait_for(self, cut: Mapping[int, int]) -> None:
        """Return once every partition is archived up to its cut; ArchiveBehind if that takes too long."""
        started = time.monotonic()
        while True:
            archived = self.next_offsets()
            behind = [partition for partition, offset in cut.items() if archived[partition] < offset]
            if not behind:
                return
            waited_s = time.monotonic() - started
            if waited_s > self._settings.batch_wait_s:
                partition = behind[0]
                raise ArchiveBehind.cut(partition, archived[partition], cut[partition], waited_s)
            time.sleep(_POLL_S)

    def slices(self, cut: Mapping[int, int]) -> list[Slice]:
        """What to read of which master file so that each offset below the cut is read once; ArchiveGap if one is missing."""
        files = self.files(MASTER)
        return [
            piece for partition, offset in sorted(cut.items()) for piece in covering(partition, files[partition], offset)
        ]

    def quarantined(self, slices: Sequence[Slice]) -> list[Slice]:
        """Those slices whose file has rejects beside it, in a quarantine file of the same name."""
        files = self.files(QUARANTINE)
        return [piece for piece in slices if piece.file in files[piece.file.partition]]

    def url(self, file: OffsetRange, dataset: str) -> str:
        """Where Spark reads a file."""
        return self._settings.hdfs_url + file.path(self._settings.archive_root, dataset)

    def _files_of(self, dataset: str, partition: int) -> list[OffsetRange]:
        try:
            names = self._client.list(folder(self._settings.archive_root, dataset, partition))
        except HdfsError as error:
            if "FileNotFoundException" in (error.exception or "") or "does not exist" in str(error):
                return []
            raise EngineUnavailable.at("HDFS", self._settings.webhdfs_url, error) from error
        except RequestException as error:
            raise EngineUnavailable.at("HDFS", self._settings.webhdfs_url, error) from error
        return [file for name in names if (file := OffsetRange.of_file(partition, name))]
