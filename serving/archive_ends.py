"""Where the archive ends, and in which log, as its files say; and what is missing before that."""

from __future__ import annotations

from collections.abc import Mapping

from hdfs import InsecureClient

from contract import webhdfs
from contract.archive_file import position, read_footer
from contract.errors import ArchiveDamaged
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.master import MASTER, OffsetRange, folder, partitions_in
from contract.settings import Settings


def archive_extents(settings: Settings, timeout_s: float) -> tuple[int, dict[int, Extent]]:
    """How many files the master dataset has, and what they cover of each partition. Raises what the client raises."""
    client, root = webhdfs.connect(settings.webhdfs_url, timeout_s), settings.archive_root
    listed = {
        partition: webhdfs.entries(client, folder(root, MASTER, partition))
        for partition in partitions_in(webhdfs.entries(client, f"{root}/{MASTER}"))
    }
    sizes = {
        p: {found: status["length"] for name, status in files.items() if (found := OffsetRange.of_file(p, name))}
        for p, files in listed.items()
    }
    extents = {p: _extent(client, root, p, files) for p, files in sizes.items()}
    return sum(map(len, sizes.values())), extents


def _extent(client: InsecureClient, root: str, partition: int, sizes: Mapping[OffsetRange, int]) -> Extent:
    def position_of(file: OffsetRange) -> LogPosition:
        path = file.path(root, MASTER)

        def read_end(size_bytes: int) -> bytes:
            with client.read(path, offset=max(0, sizes[file] - size_bytes)) as reader:
                return bytes(reader.read())

        try:
            return position(read_footer(read_end), path)
        except ArchiveDamaged:
            # `make audit` names it; how far the names go is known anyway.
            return LogPosition(file.next_offset)

    return Extent.of(partition, sizes.keys(), position_of)
