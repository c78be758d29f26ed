"""The archive goes on in another log: an empty file says from which offset on, and which log's those are."""

from __future__ import annotations

from collections.abc import Callable

from contract.errors import InputError
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.resumption import Resumption
from ingest.accept import put_without_records, written_down
from ingest.archive_files import ArchiveFiles


def resume(files: ArchiveFiles, resumption: Resumption, say: Callable[[str], None]) -> None:
    """Do what was planned; InputError if the archive has gone on since. No archiver must run."""
    for part in resumption.partitions:
        end = files.position(part.partition)
        # guard: a resumption is of the archive's end
        if end.next_offset != part.archived_offset:
            raise InputError(
                f"the archive of partition {part.partition} ends at {end.next_offset}, but ended at {part.archived_offset} "
                "when this was planned: does an archiver run? `make resume-topic` again"
            )
    for part in resumption.partitions:
        if part.archived_offset < part.next_offset:
            offsets = OffsetRange(part.partition, part.archived_offset, part.next_offset)
            position = LogPosition(part.next_offset, part.topic_id, part.leader_epoch, part.shift)
            put_without_records(files, offsets, position, written_down(part.loss, offsets) if part.loss else (), say)
        lost = f"; offsets [{part.lost_offset}, {part.lost_next_offset}) are lost" if part.loss else ""
        say(f"partition {part.partition}: Kafka's offset {part.log_offset} is {part.next_offset} from now on{lost}")
