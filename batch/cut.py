"""Where a run may cut: at offsets that the archive will have, of the log that the speed layer has read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from confluent_kafka.admin import AdminClient

from batch.archive import Archive
from contract.errors import EngineUnavailable, TopicUnusable
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.settings import Settings
from serving.database import connect
from serving.gaps import require_no_loss, with_empty
from serving.handoff import positions
from serving.log_check import places_in_log, require_positions


def require_reachable(settings: Settings, extents: Mapping[int, Extent], cut: Mapping[int, int]) -> None:
    """ArchiveGap if the archive will never have all below the cut. Changes nothing, so serving goes on as it is."""
    with suppress(EngineUnavailable, TopicUnusable):  # then nobody can tell, and the archive is waited for
        require_no_loss(settings, with_empty(extents, cut), cut)


def require_one_log(settings: Settings, archive: Archive) -> None:
    """PositionLost if the archive may have other records than the speed layer at offsets that both have read.

    What both have read in one leader epoch is the same. Else Kafka is asked whether it has what they have read; if it does
    not answer nobody can tell.
    """
    with connect(settings, "batch") as connection:
        counted = positions(connection)
    archived = {partition: extent.end for partition, extent in archive.extents().items()}
    apart = [p for p, at in counted.items() if p in archived and not at.is_of_one_log(archived[p])]
    asked = {
        reader: {partition: held[partition] for partition in apart if held[partition].topic_id}
        for reader, held in (("the archiver", archived), ("the speed layer", counted))
    }
    if not any(asked.values()):
        return
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    with suppress(EngineUnavailable, TopicUnusable):
        for reader, held in asked.items():
            # guard: archive and views are of one log
            require_positions(settings, admin, reader, held)


@dataclass(frozen=True)
class Rescue:
    """Where a run takes offsets over: up to `ends`. In the partitions `going_on` the speed layer is led into a log
    that followed, but Kafka has all that it has read, so until the run begins it may read more."""

    ends: Mapping[int, LogPosition] = field(default_factory=dict)
    going_on: frozenset[int] = frozenset()


def rescue(
    settings: Settings, extents: Mapping[int, Extent], stands_at: Mapping[int, LogPosition], say: Callable[[str], None]
) -> Rescue:
    """The archive's ends if the run must cut there: the speed layer is too far behind to be waited for.

    It is too where the archive goes on in a log that followed another: by itself it does not come there. What it has counted
    of that log already is below the cut then, even if the archive has not come so far. Of a partition with a gap it is the
    gap that the archive ends at, unless what is before that is of an earlier log.
    """
    ends = {
        partition: extent.end
        if extent.whole_next_offset < extent.same_log_offset
        else extent.ends_at(extent.whole_next_offset)
        for partition, extent in extents.items()
    }
    # It may not have begun with a partition that was added.
    committed = {partition: stands_at.get(partition, LogPosition(0)) for partition in ends}
    behind = sum(max(0, end.next_offset - committed[partition].next_offset) for partition, end in ends.items())
    # guard: the speed layer follows the archive into another log
    following = {partition: at for partition, at in committed.items() if ends[partition].shift > at.shift}
    if behind < settings.rescue_offsets and not following:
        return Rescue()
    say(f"the speed layer is {behind:,} offsets behind the archive: this run takes them over")
    if not following:
        return Rescue(ends)
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    places = places_in_log(settings, admin, "the speed layer", following)
    for partition, place in places.items():
        end = ends[partition]
        # guard: the archive's epoch may have ended below what the speed layer has read
        counted = replace(end, next_offset=place + end.shift, leader_epoch=following[partition].leader_epoch)
        # guard: the speed layer does not go back in a log
        ends[partition] = max(end, counted, key=lambda at: at.next_offset)
    return Rescue(ends, frozenset(partition for partition, at in following.items() if places[partition] == at.log_offset))
