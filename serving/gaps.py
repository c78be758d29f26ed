"""Offsets that no file of the archive has: whether Kafka still has them, and what is to be given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import requests
from confluent_kafka.admin import AdminClient
from hdfs import HdfsError

from contract.errors import ArchiveGap, EngineUnavailable
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.losses import Kept, Loss, Losses
from contract.settings import Settings
from serving.archive_ends import archive_extents
from serving.log_check import require_positions, topic_of
from serving.log_ends import LogEnds, log_ends

_ANSWER_S = 10.0


@dataclass(frozen=True, order=True)
class OpenGap:
    """Offsets [first_offset, next_offset) of a partition are in no file; is_lost: Kafka has none of them either, None if
    that is not known."""

    partition: int
    first_offset: int
    next_offset: int
    is_lost: bool | None

    @property
    def advice(self) -> str:
        """What to do."""
        if self.is_lost is None:
            return "not known whether Kafka has them: `make status` again when it answers"
        if self.is_lost:
            return "Kafka has them no more: put the file back, or `make accept-gap`"
        return "Kafka has them: `compose/engine compose restart archiver` archives them again"


def open_gaps(settings: Settings, extents: Mapping[int, Extent], ends: Mapping[int, LogEnds]) -> list[OpenGap]:
    """What is missing of each partition, apart by whether Kafka, whose log has these ends, has it.

    Raises EngineUnavailable, TopicUnusable.
    """
    # Asked after the ends, because ids never come back.
    topic_id = topic_of(AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0}), settings).topic_id
    return _gaps(extents, ends, topic_id)


def _gaps(extents: Mapping[int, Extent], ends: Mapping[int, LogEnds], topic_id: str) -> list[OpenGap]:
    return sorted(gap for partition, extent in extents.items() for gap in _gaps_of(extent, ends.get(partition), topic_id))


def with_empty(extents: Mapping[int, Extent], partitions: Iterable[int]) -> dict[int, Extent]:
    """Those of the partitions too of which the archive has no file yet."""
    # guard: what was lost before anything was archived is lost
    return {partition: Extent(partition, LogPosition(0)) for partition in partitions} | dict(extents)


def unjudged_gaps(extents: Mapping[int, Extent]) -> list[OpenGap]:
    """The same where Kafka cannot be asked."""
    return [gap for extent in extents.values() for gap in _unjudged(extent)]


def require_no_loss(settings: Settings, extents: Mapping[int, Extent], cut: Mapping[int, int]) -> None:
    """ArchiveGap if offsets below the cut are missing that Kafka has no more: to wait for them would be in vain.

    Raises EngineUnavailable, TopicUnusable too, unless nothing is missing.
    """
    behind = {partition: extents[partition] for partition, at in cut.items() if extents[partition].whole_next_offset < at}
    for gap in open_gaps(settings, behind, log_ends(settings)) if behind else ():
        # guard: a run does not wait for what is lost
        if gap.is_lost and gap.first_offset < cut[gap.partition]:
            raise ArchiveGap.lost(gap.partition, gap.first_offset, gap.next_offset)


def plan_acceptance(settings: Settings) -> Losses:
    """What `make accept-gap` gives up, and what it does not. Changes nothing; valid while no archiver runs.

    Raises PositionLost if Kafka has another log than the archive's: then that is to be settled first.
    """
    try:
        _, extents = archive_extents(settings, _ANSWER_S)
    except (HdfsError, requests.RequestException) as error:
        raise EngineUnavailable.at("HDFS", settings.webhdfs_url, error) from error
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    require_positions(settings, admin, "the archiver", {partition: extent.end for partition, extent in extents.items()})
    ends = log_ends(settings)
    # What is written down is of the topic that was judged, whatever is there a moment later.
    topic_id = topic_of(admin, settings).topic_id
    found = _gaps(with_empty(extents, ends), ends, topic_id)
    return Losses(
        tuple(
            Loss(gap.partition, gap.first_offset, gap.next_offset, "neither a file of the archive nor Kafka had them", True)
            for gap in found
            if gap.is_lost
        ),
        tuple(Kept(gap.partition, gap.first_offset, gap.next_offset) for gap in found if gap.is_lost is False),
        topic_id if any(gap.is_lost for gap in found) else None,
    )


def describe(losses: Losses) -> list[str]:
    """For people, a line for each range."""
    return [
        *(
            f"partition {lost.partition}: offsets [{lost.first_offset}, {lost.next_offset}) are in no file of the archive, "
            f"and Kafka has them no more: {lost.next_offset - lost.first_offset:,} offsets are lost"
            for lost in losses.lost
        ),
        *(
            f"partition {kept.partition}: offsets [{kept.first_offset}, {kept.next_offset}) are in no file of the archive, "
            "but Kafka has them, so they are not given up: `compose/engine compose restart archiver` archives them again"
            for kept in losses.kept
        ),
    ]


def _gaps_of(extent: Extent, ends: LogEnds | None, topic_id: str) -> list[OpenGap]:
    if extent.end.topic_id not in (None, topic_id) or (ends is None and extent.end.log_offset > 0):
        return _unjudged(extent)
    # One that the topic does not have may be added to it, and begins at its first offset then.
    low = ends.first_offset if ends else 0
    return [
        OpenGap(gap.partition, gap.first_offset, gap.next_offset, is_lost)
        for is_lost, found in ((True, extent.lost(low)), (False, extent.kept(low)))
        for gap in found
    ]


def _unjudged(extent: Extent) -> list[OpenGap]:
    return [OpenGap(gap.partition, gap.first_offset, gap.next_offset, None) for gap in extent.gaps]
