"""What the archive lacks and what of it is lost for good: JSON that one command prints and others read."""

from __future__ import annotations

import msgspec


class Loss(msgspec.Struct, frozen=True):
    """Offsets of one partition that no reader gets any more.

    `is_gap`: the master dataset has nothing of them, also where runs have counted them. Otherwise only the speed layer had.
    """

    partition: int
    first_offset: int
    next_offset: int
    reason: str
    is_gap: bool = False


class Kept(msgspec.Struct, frozen=True):
    """Offsets of one partition that no file of the archive has, and Kafka still has."""

    partition: int
    first_offset: int
    next_offset: int


class Losses(msgspec.Struct, frozen=True):
    """What is to be written down as lost; and what is not, because Kafka still has it.

    `topic_id` is that of the topic whose log lacks what is lost, None if nothing is or it is of earlier ones.
    """

    lost: tuple[Loss, ...] = ()
    kept: tuple[Kept, ...] = ()
    topic_id: str | None = None
