"""Where a reader stands in a Kafka log: an offset alone does not say of which topic, and which log, it is.

A topic that was made again has another id. A log that lost its end, as in a power failure, goes on in a later leader epoch,
since each start of a broker begins one. So an offset that is stored has both beside it, and whoever goes on compares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

TRUNCATED = KafkaError(KafkaError._LOG_TRUNCATION).str()
"""In the text of the error with which a client refuses a position whose leader epoch ended before it."""


def cut_offset(report: str) -> int | None:
    """Where the position's epoch ends now, as such an error's text says; None if the log has nothing of it."""
    found = re.search(r"broker end offset is (-?[0-9]+)", report)
    return int(found[1]) if found and int(found[1]) >= 0 else None


@dataclass(frozen=True)
class Topic:
    """The topic that there is. One that is made again has another id; of one id, partitions only ever become more."""

    topic_id: str
    partitions: frozenset[int]

    @classmethod
    def of(cls, description: Any) -> Topic:
        """As AdminClient.describe_topics says: one answer has both."""
        return cls(str(description.topic_id), frozenset(partition.id for partition in description.partitions))


@dataclass(frozen=True)
class LogPosition:
    """All below next_offset was read, the last of it in the topic of this id. None: not known.

    `leader_epoch` is one in which the log was when the last of it was read: the last record's, or a later one that had been
    seen by then. In an intact log that epoch does not end before log_offset. `shift` is what was added to the log's own
    offsets: above 0 once a log that was lost has been followed by another, whose offsets would else be taken for its.
    """

    next_offset: int
    topic_id: str | None = None
    leader_epoch: int | None = None
    shift: int = 0

    @property
    def log_offset(self) -> int:
        """next_offset as the log counts."""
        return self.next_offset - self.shift

    def is_of_one_log(self, other: LogPosition) -> bool:
        """Whether what both have read in common is known to be the same: they saw one topic in one leader epoch."""
        known = (self.topic_id, self.leader_epoch)
        return None not in known and (*known, self.shift) == (other.topic_id, other.leader_epoch, other.shift)

    def place(self, topic: str, partition: int) -> TopicPartition:
        """What to assign to a consumer that goes on there: it first asks the broker whether the leader epoch reached so far.

        If it did not, the consumer gives an error with TRUNCATED in its text, and no record.
        """
        # guard: a log that was cut below a position is noticed
        epoch = -1 if self.leader_epoch is None else self.leader_epoch
        return TopicPartition(topic, partition, self.log_offset, leader_epoch=epoch)
