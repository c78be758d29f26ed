"""What the master dataset holds: files by partition, as a listing of their names says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from hdfs import HdfsError
from requests import RequestException

from contract import forgotten_files, webhdfs
from contract.archive_file import position, read_footer
from contract.errors import ArchiveBehind, ArchiveDamaged, EngineUnavailable
from contract.extent import Extent
from contract.forgotten import Said
from contract.forgotten_files import said
from contract.log_position import LogPosition
from contract.master import (
    MASTER,
    QUARANTINE,
    OffsetRange,
    Slice,
    archived_next_offset,
    covering,
    folder,
    partitions_in,
)
from contract.settings import Settings
from serving.standstill import Standstill

_POLL_S = 0.25
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Listed:
    """What HDFS says of a file: when it was written, how many copies of it there should be, and its size."""

    modified_ms: int
    copies: int
    size_bytes: int = 0


class Archive:
    """The archive as a run sees it; every call lists anew. Of a partition without a folder nothing is archived yet."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.root = settings.archive_root
        self._client = webhdfs.connect(settings.webhdfs_url, _TIMEOUT_S)
        # Making one for each request would take as long as the request.
        self._http = requests.Session()

    def files(self, dataset: str) -> dict[int, list[OffsetRange]]:
        """The files of MASTER or QUARANTINE, by partition."""
        return {partition: list(self.listing(dataset, partition)) for partition in self.partitions()}

    def next_offsets(self) -> dict[int, int]:
        """The first offset of each partition that is not archived yet."""
        return {partition: archived_next_offset(files) for partition, files in self.files(MASTER).items()}

    def extents(self) -> dict[int, Extent]:
        """Where each partition's archive ends, and what it lacks; ArchiveDamaged if a file that is asked does not say so."""
        return {partition: self.extent(partition) for partition in self.partitions()}

    def extent(self, partition: int) -> Extent:
        """The same of one partition."""
        files = self.listing(MASTER, partition)

        def position_of(file: OffsetRange) -> LogPosition:
            path, size_bytes = file.path(self.root, MASTER), files[file].size_bytes
            return position(read_footer(lambda wanted: self.read(path, max(0, size_bytes - wanted))), path)

        return Extent.of(partition, files, position_of)

    def said(self) -> Said:
        """What was said to be forgotten, and which of it the files keep to."""
        return said(self.root, self._entries(forgotten_files.folder(self.root)), self.read)

    def wait_for(self, cut: Mapping[int, int], advanced: Callable[[], None] = lambda: None) -> None:
        """Return once every partition is archived up to its cut; ArchiveBehind if it stands still below it for too long.

        `advanced` is called when the archive has come nearer to that.
        """
        standstill = Standstill(self._settings.batch_wait_s, time.monotonic)
        while True:
            listed = self.next_offsets()
            archived = {partition: listed.get(partition, 0) for partition in cut}
            behind = [partition for partition, offset in cut.items() if archived[partition] < offset]
            if not behind:
                return
            # Only what is missing counts: traffic after the cut goes on to be archived, and brings the run nothing.
            if standstill.see(sum(min(archived[partition], offset) for partition, offset in cut.items())):
                advanced()
            if standstill.too_long:
                partition = behind[0]
                raise ArchiveBehind.cut(partition, archived[partition], cut[partition], standstill.stood_s)
            time.sleep(_POLL_S)

    def slices(self, cut: Mapping[int, int]) -> list[Slice]:
        """What to read of which master file so that each offset below the cut is read once; ArchiveGap if one is missing."""
        files = self.files(MASTER)
        return [
            piece
            for partition, offset in sorted(cut.items())
            for piece in covering(partition, files.get(partition, ()), offset)
        ]

    def quarantined(self, slices: Sequence[Slice]) -> list[Slice]:
        """Those slices whose file has rejects beside it, in a quarantine file of the same name."""
        rejected = {file for files in self.files(QUARANTINE).values() for file in files}
        return [piece for piece in slices if piece.file in rejected]

    def partitions(self) -> list[int]:
        """Those that anything was archived of."""
        return partitions_in(self._entries(f"{self._settings.archive_root}/{MASTER}"))

    def listing(self, dataset: str, partition: int) -> dict[OffsetRange, Listed]:
        """The files of a partition with what HDFS says of them; none if there is no such folder."""
        entries = self._entries(folder(self._settings.archive_root, dataset, partition))
        return {
            file: Listed(status["modificationTime"], status["replication"], status["length"])
            for name, status in entries.items()
            if (file := OffsetRange.of_file(partition, name))
        }

    def read(self, path: str, first_byte: int = 0) -> bytes:
        """The file from a byte on, from whichever DataNode gives it.

        EngineUnavailable if none does now, ArchiveDamaged if none can.
        """
        unavailable: list[str] = []
        while True:
            options = {
                "op": "OPEN",
                "offset": str(first_byte),
                "noredirect": "true",
                "excludedatanodes": ",".join(unavailable),
            }
            place = self._get(path, **options).json()["Location"]
            try:
                answer = self._http.get(place, timeout=_TIMEOUT_S)
            except RequestException as error:
                address = urlsplit(place).netloc
                if address in unavailable:
                    raise EngineUnavailable.at("HDFS", place.partition("?")[0], error) from error
                unavailable.append(address)
                continue
            with self._failures_named(path):
                answer.raise_for_status()
            return answer.content

    def copies(self, path: str) -> dict[str, str]:
        """Where HDFS has a copy of the file that it takes for whole: host by address."""
        answer = self._get(path, op="GETFILEBLOCKLOCATIONS").json()
        blocks = [
            dict(zip(block["names"], block["hosts"], strict=True))
            for block in answer["BlockLocations"]["BlockLocation"]
            if not block["corrupt"]
        ]
        return {address: host for block in blocks for address, host in block.items()}

    def read_copy(self, path: str, address: str, addresses: Sequence[str]) -> bytes:
        """The file as the DataNode at one of the `addresses` gives it; ArchiveDamaged if none can.

        A DataNode reads its own copy first. If HDFS's checksums find that damaged, it marks it so, and reads another one.
        """
        others = ",".join(sorted(set(addresses) - {address}))
        return self._get(path, op="OPEN", excludedatanodes=others).content

    def damaged_copies(self, path: str) -> list[str]:
        """The addresses of the copies that HDFS has found damaged."""
        url = f"{self._settings.webhdfs_url}/fsck"
        options = {"ugi": webhdfs.USER, "path": path, "files": "1", "blocks": "1", "replicadetails": "1"}
        with self._failures_named(path):
            report = requests.get(url, options, timeout=_TIMEOUT_S)
            report.raise_for_status()
        return re.findall(r"DatanodeInfoWithStorage\[([^,]+),[^]]*\]\(CORRUPT\)", report.text)

    def _entries(self, path: str) -> dict[str, dict[str, Any]]:
        """HDFS's status of what is in a folder, by name; nothing if there is no such folder."""
        try:
            return webhdfs.entries(self._client, path)
        except (HdfsError, RequestException) as error:
            raise EngineUnavailable.at("HDFS", self._settings.webhdfs_url, error) from error

    def _get(self, path: str, **options: str) -> requests.Response:
        with self._failures_named(path):
            url = f"{self._settings.webhdfs_url}/webhdfs/v1{path}"
            answer = self._http.get(url, params={"user.name": webhdfs.USER, **options}, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            return answer

    @contextmanager
    def _failures_named(self, path: str) -> Iterator[None]:
        try:
            yield
        except RequestException as error:
            refused = error.response
            raise ArchiveDamaged.unreadable(path, refused.text[:300] if refused is not None else error) from error
