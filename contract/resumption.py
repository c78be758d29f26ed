"""What serving tells ingest when readers shall go on in another log: JSON that one command prints and others read."""

from __future__ import annotations

import msgspec

from contract.losses import Loss, Losses


class ResumedPartition(msgspec.Struct, frozen=True):
    """One partition of which a reader's position is none of the log that Kafka has.

    Its archive ends at archived_offset. What the log has from log_offset on is numbered from next_offset on, above all that
    was ever read. Offsets [lost_offset, lost_next_offset) were read by the speed layer alone, and are in Kafka no more.
    """

    partition: int
    archived_offset: int
    next_offset: int
    topic_id: str
    leader_epoch: int | None
    log_offset: int
    lost_offset: int
    lost_next_offset: int
    reason: str

    @property
    def shift(self) -> int:
        """What is added to the log's offsets from now on."""
        return self.next_offset - self.log_offset

    @property
    def loss(self) -> Loss | None:
        """What is lost of it, if anything is."""
        if self.lost_offset >= self.lost_next_offset:
            return None
        return Loss(self.partition, self.lost_offset, self.lost_next_offset, self.reason)


class Unarchived(msgspec.Struct, frozen=True):
    """One partition of which the speed layer's position alone is lost, and the archive ends at archived_offset.

    Kafka has kept the old log up to kept_offset. Once that is archived it can be resumed: before, what was kept would get
    new numbers while views still hold it under the old ones.
    """

    partition: int
    archived_offset: int
    kept_offset: int


class Resumption(msgspec.Struct, frozen=True):
    """All partitions that can be resumed, those that cannot yet, and those whose archive goes on in the new log already, so
    that only the run which takes the speed layer there is missing. Nothing of it if every reader stands in the log that
    there is."""

    partitions: tuple[ResumedPartition, ...] = ()
    unarchived: tuple[Unarchived, ...] = ()
    archived: tuple[int, ...] = ()

    @property
    def losses(self) -> Losses:
        """What is lost, for the ledger."""
        return Losses(tuple(loss for part in self.partitions if (loss := part.loss)))
