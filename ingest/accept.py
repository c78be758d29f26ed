"""Offsets that neither a file nor Kafka has are given up: an archive file without records says so, for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from contract.archive_file import Lost
from contract.errors import InputError
from contract.log_position import LogPosition
from contract.losses import Loss, Losses
from contract.master import OffsetRange
from ingest.archive_files import ArchiveFiles


def accept(files: ArchiveFiles, losses: Losses, say: Callable[[str], None]) -> None:
    """Write down what was planned; InputError if a file has some of it by now. No archiver must run.

    Quarantine files of the range, whose master files are lost, are set aside: a file counts only beside its master file.
    """
    for loss in losses.lost:
        offsets = OffsetRange(loss.partition, loss.first_offset, loss.next_offset)
        extent = files.extent(loss.partition)
        end = extent.end.next_offset
        is_missing = end <= offsets.first_offset or any(
            gap.first_offset <= offsets.first_offset and offsets.next_offset <= gap.next_offset for gap in extent.gaps
        )
        # guard: only what no file has is given up
        if not is_missing:
            raise InputError(
                f"files of the archive of partition {loss.partition} have some of offsets [{loss.first_offset}, "
                f"{loss.next_offset}), and had none when this was planned: does an archiver run? `make accept-gap` again"
            )
        at = extent.ends_at(offsets.next_offset)
        # Nothing may be archived after it before the topic is made again, which nobody would notice then.
        # guard: an end that is given up knows its topic
        if at.topic_id is None and at.next_offset > end:
            at = replace(at, topic_id=losses.topic_id)
        put_without_records(files, offsets, at, written_down(loss, offsets), say)
        say(f"partition {loss.partition}: offsets [{loss.first_offset}, {loss.next_offset}) are written down as lost")


def put_without_records(
    files: ArchiveFiles, offsets: OffsetRange, at: LogPosition, lost: tuple[Lost, ...], say: Callable[[str], None]
) -> None:
    """Store a range of which no file has anything; the position at its end is `at`."""
    # One of the same name would be taken for the rejects of this one.
    # guard: a file without records has no rejects
    for path in files.set_aside(offsets):
        say(f"{path}: set aside, because its master file is gone")
    files.put_empty(offsets, at, lost)


def written_down(loss: Loss, offsets: OffsetRange) -> tuple[Lost, ...]:
    """What the file of a range says of a loss, as of now."""
    lost = Lost(loss.first_offset, loss.next_offset, loss.reason, datetime.now(UTC).isoformat(timespec="seconds"))
    return lost.within(offsets.first_offset, offsets.next_offset)
