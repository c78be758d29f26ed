"""Where the archive went on in another log of Kafka's, that log had all that was archived before, or nothing is proved.

No reader goes on in a log that lost what it has read, unless offsets are numbered anew. One that did all the same has read
the wrong records without a gap, and stands in the log that there is: only the files on both sides still tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from confluent_kafka.admin import AdminClient

from batch.findings import Check
from contract.log_position import LogPosition
from contract.settings import Settings
from serving.log_check import lost_positions, topic_of

_SEE = (
    "records of that log were passed over: who has them sends them again; see docs/operations.md, 'the topic was replaced'"
)


def changes(ends: Iterable[LogPosition]) -> list[tuple[LogPosition, LogPosition]]:
    """Neighbours, of the ends of a partition's files, of other topics or leader epochs, without new numbers between them."""
    ordered = sorted(set(ends), key=lambda at: (at.shift, at.next_offset))
    return [pair for pair in pairwise(ordered) if pair[0].shift == pair[1].shift and _is_known_to_change(*pair)]


def _is_known_to_change(before: LogPosition, after: LogPosition) -> bool:
    topics, epochs = (before.topic_id, after.topic_id), (before.leader_epoch, after.leader_epoch)
    if None in topics or topics[0] == topics[1]:
        return None not in (*topics, *epochs) and epochs[0] != epochs[1]
    return True


def check_changes(settings: Settings, partition: int, ends: Iterable[LogPosition], check: Check) -> None:
    """A finding for each place where that was wrong. Raises EngineUnavailable and TopicUnusable.

    What Kafka's retention has deleted meanwhile, a topic that is gone, or a log that was cut since below both files, proves
    nothing either way.
    """
    # guard: a change of the log is held against Kafka
    found = changes(ends)
    if not found:
        return
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    topic_id = topic_of(admin, settings).topic_id
    for before, after in found:
        place = f"partition {partition}, from offset {before.next_offset} on"
        if before.topic_id != after.topic_id:
            problem = f"the archive went on there in the topic with the id {after.topic_id}, after {before.topic_id}"
            check.found(place, problem, _SEE)
        elif after.topic_id == topic_id:
            error, later = (
                lost_positions(settings, admin, "the archive", {partition: at}).get(partition) for at in (before, after)
            )
            # A log that was cut below both lost them after they were read.
            if error and (later is None or (later.cut_offset or 0) > (error.cut_offset or 0)):
                check.found(place, str(error).partition(";")[0], _SEE)
