"""Quarantined records once more, as they were received: those that are events by now are sent, the others stay.

A record is judged here by the decoder that all layers use, so what is sent is counted. What would only be rejected again is
not sent; its reason may have changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import polars as pl
from confluent_kafka import KafkaError, Message
from numpy.typing import NDArray

from contract.event import decode
from contract.master import QUARANTINE
from contract.replays import Judged, Wanted
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles
from ingest.archive_plan import current
from ingest.hdfs import Hdfs
from ingest.sender import Sender, connect
from ingest.stop import Stop


def replay_quarantined(settings: Settings, parts: Iterable[Wanted], stop: Stop, tell: Callable[[Judged], None]) -> None:
    """Judge and send part by part; `tell` hears of each when Kafka has all that is sent of it.

    After Ctrl-C, or an error, it also hears what was done of the last one.
    """
    sender = Sender(settings, connect(settings, report_all=True), stop)
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    sent = 0
    for wanted in parts:
        judged = Judged()
        try:
            _judge_part(files, wanted, sender, judged)
        except KeyboardInterrupt:
            sender.abandon()
            sent += len(judged.sent)
            raise KeyboardInterrupt(
                f"interrupted: {sent:,} records are in Kafka once more; the same command again goes on with the rest"
            ) from None
        finally:
            # What was sent is resolved, whatever came then.
            tell(judged)
        sent += len(judged.sent)


def _judge_part(files: ArchiveFiles, wanted: Wanted, sender: Sender, judged: Judged) -> None:
    for partition, offsets in sorted(wanted.offsets.items()):
        found = 0
        for rejects in _rejects(files, partition, np.array(sorted(offsets), np.int64)):
            _judge(partition, rejects, sender, judged)
            found += len(rejects)
        judged.unread += len(offsets) - found
    sender.finish()


def _rejects(files: ArchiveFiles, partition: int, offsets: NDArray[np.int64]) -> Iterator[pl.DataFrame]:
    """The rejects at these offsets, file by file."""
    quarantined = files.ranges(partition, QUARANTINE)
    for part in current(partition, files.ranges(partition)):
        inside = offsets[np.searchsorted(offsets, part.first_offset) : np.searchsorted(offsets, part.next_offset)]
        if part.file in quarantined and len(inside):
            yield files.read(QUARANTINE, [part]).filter(pl.col("offset").is_in(inside.tolist()))


def _judge(partition: int, rejects: pl.DataFrame, sender: Sender, judged: Judged) -> None:
    """Send those of the records that are events if they come to Kafka now."""
    offsets, values = rejects["offset"].to_list(), rejects["value"].to_list()
    decoded = decode(partition, offsets, [time.time_ns() // 1_000_000] * len(offsets), values)
    judged.kept += [(partition, *row) for row in decoded.rejects.select("offset", "reason", "detail").iter_rows()]
    value_at = dict(zip(offsets, values, strict=True))
    good = decoded.events["offset"].to_list()

    def arrived(offset: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            judged.sent.append((partition, offset, message.partition() or 0, message.offset() or 0))
        else:
            sender.on_failure(error, message)

    sender.send(
        zip(decoded.events["visitor_id"].to_list(), map(value_at.__getitem__, good), strict=True),
        reports=(partial(arrived, offset) for offset in good),
    )
    sender.poll()
