"""The master dataset into Kafka once more, in bounded memory.

The same values: in the topic of all layers nothing counts twice, however often. SHIFT=now: as new events of today.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from contract.columns import integers
from contract.errors import InputError, TopicUnusable
from contract.replays import Cover
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles
from ingest.background import ahead
from ingest.hdfs import Hdfs
from ingest.history import History
from ingest.progress import ReplayProgress
from ingest.replay_cover import require_cover
from ingest.replay_request import ReplayRequest
from ingest.replay_result import Replayed
from ingest.replay_selection import Piece, Selection, select, time_of
from ingest.schedule import MOST_ROWS, Schedule, paced
from ingest.sender import Sender, connect
from ingest.shifted import Shift
from ingest.stop import Stop
from ingest.time_order import in_time_order, window_us
from ingest.topics import next_offsets

_PORTION_ROWS = 20_000_000
"""Days are read together up to so many rows of the files that may hold them: bounds memory, and how often a file is read."""
_SAY_EVERY_FILES = 100
_SECOND_US = 1_000_000


def replay(settings: Settings, request: ReplayRequest, cover: Cover, stop: Stop, log: Callable[[str], None]) -> Replayed:
    """Send the events; returns when Kafka has all of them. Ctrl-C says how far it came; the same command sends the rest."""

    def looked(count: int) -> None:
        stop.raise_if_interrupted()
        if count % _SAY_EVERY_FILES == 0:
            log(f"{count:,} files of the archive looked into")

    target = replace(settings, topic=request.topic)
    try:
        sender = Sender(target, connect(target), stop)
    except TopicUnusable:
        if request.topic == settings.topic:
            raise
        raise TopicUnusable.unknown(request.topic, settings.kafka_bootstrap) from None
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    selection = select(files, files.partitions(), request.days, looked)
    if not selection.pieces:
        raise _nothing(request, selection)
    repeats = request.repeats_in(settings.topic)
    if repeats:
        own = {int(partition): offset for partition, offset in next_offsets(settings).items()}
        # The archive's offsets may be others than the log's own.
        ends = {partition: offset + files.position(partition).shift for partition, offset in own.items()}
        require_cover(settings, selection, cover, ends)
    result = _Replay(request, files, selection, sender, stop, repeats).run()
    if not result.events:
        raise _nothing(request, selection)
    result.next_offsets = next_offsets(target)
    return result


def _nothing(request: ReplayRequest, selection: Selection) -> InputError:
    if selection.first_time_us is None or selection.last_time_us is None:
        return InputError("the archive has no event yet, so nothing was sent; is the archiver running? `make status`")
    times = " to ".join(f"{time_of(time):%Y-%m-%d %H:%M:%S}Z" for time in (selection.first_time_us, selection.last_time_us))
    return InputError(f"the archive has no event of {request.text()}, so nothing was sent; its events are of {times}")


@dataclass
class _Replay:
    """One replay under way. `keep_partitions`: each event goes to the partition that it came from."""

    request: ReplayRequest
    files: ArchiveFiles
    selection: Selection
    sender: Sender
    stop: Stop
    keep_partitions: bool

    def __post_init__(self) -> None:
        pieces = self.selection.pieces
        self._first_us = min(piece.span.first_time_us for piece in pieces)
        self._last_us = max(piece.span.last_time_us for piece in pieces)
        self._position_us: int | None = None
        self._shift: Shift | None = None
        self._result = Replayed(self.request.topic, self.request.dry_run)

    def run(self) -> Replayed:
        started_s = time.monotonic()
        try:
            with ReplayProgress("replay") as progress, TemporaryDirectory(prefix="braid-replay-") as folder:
                if self.request.speed is None or self.request.dry_run:
                    self._send_at_once(progress)
                else:
                    self._send_paced(progress, self.request.speed, Path(folder))
            self.sender.finish()
        except KeyboardInterrupt:
            self.sender.abandon()
            raise KeyboardInterrupt(self._interrupted()) from None
        self._result.seconds = time.monotonic() - started_s
        if self.request.dry_run:
            span_us = self._last_us - self._first_us
            self._result.seconds = 0.0 if self.request.speed is None else span_us / _SECOND_US / self.request.speed
        return self._result

    def _send_at_once(self, progress: ReplayProgress) -> None:
        portions = list(self.selection.portions(_PORTION_ROWS))
        done_rows, total_rows = 0, sum(portion.rows for portion in portions)
        for portion in portions:
            history = self._history(portion)
            with closing(ahead((piece, self._read(history, piece)) for piece in portion.pieces)) as frames:
                for piece, frame in frames:
                    for number, part in enumerate(frame.iter_slices(MOST_ROWS), 1):
                        self._send(part)
                        share = min(1, number * MOST_ROWS / len(frame))
                        done = (done_rows + share * piece.span.rows) / total_rows
                        progress.update(self._result.events, time_of(self._position_us or 0), done)
                    done_rows += piece.span.rows
            self._result.copies += history.copies

    def _send_paced(self, progress: ReplayProgress, speed: float, folder: Path) -> None:
        schedule = Schedule(speed)
        for portion in self.selection.portions(_PORTION_ROWS):
            history = self._history(portion)
            read = partial(self._read, history)
            with closing(ahead(in_time_order(portion.pieces, read, window_us(portion.pieces), folder))) as frames:
                for part in paced(frames, schedule, self._wait):
                    if len(part):
                        self._send(part)
                    position_us = self._first_us if self._position_us is None else self._position_us
                    left_us = self._last_us - position_us
                    share = 1 - left_us / (self._last_us - self._first_us or 1)
                    late_s = -schedule.seconds_until(position_us) if len(part) else 0.0
                    left_s = left_us / _SECOND_US / speed
                    progress.update(self._result.events, time_of(position_us), share, late_s, left_s)
            self._result.copies += history.copies

    def _history(self, portion: Selection) -> History:
        return History(self.files, portion.days, self.request.site, portion.rows)

    def _read(self, history: History, piece: Piece) -> pl.DataFrame:
        self._raise_if_stopped()
        return history.read(piece)

    def _wait(self, seconds: float) -> None:
        self.stop.wait(seconds)
        self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        # What SIGTERM stops is as unfinished as what Ctrl-C stops.
        if self.stop.is_set():
            raise KeyboardInterrupt

    def _send(self, events: pl.DataFrame) -> None:
        self._raise_if_stopped()
        times_us = integers(events["event_time"])
        if not self.request.dry_run:
            from ingest.as_received import values_of, values_of_shifted  # takes a second: what is refused does without

            partitions = events["partition"].to_list() if self.keep_partitions else None
            if self.request.shift:
                values = values_of_shifted(events, self._shifted(events, int(times_us[0])))
            else:
                values = values_of(events)
            self.sender.send(zip(events["visitor_id"].to_list(), values, strict=True), partitions)
        self._position_us = int(times_us[-1])
        self._result.add(events)
        self.sender.poll()

    def _shifted(self, events: pl.DataFrame, first_us: int) -> pl.DataFrame:
        if self._shift is None:
            now_us = time.time_ns() // 1_000
            # Paced, an event happens when it is sent; otherwise the last one happens now and none later.
            if self.request.speed is None:
                self._shift = Shift(self._last_us, now_us)
            else:
                self._shift = Shift(first_us, now_us, self.request.speed)
        return self._shift.apply(events)

    def _interrupted(self) -> str:
        if self._position_us is None or self.request.dry_run:
            return f"interrupted before anything of {self.request.text()} was sent"
        again = "the others, and these once more with the same ids"
        if self.request.shift:
            again = "all of them, as further new events"
        return (
            f"interrupted at {time_of(self._position_us):%Y-%m-%d %H:%M:%S}Z: {self.sender.delivered:,} events of "
            f"{self.request.text()} are in topic {self.request.topic}; the same command again sends {again}"
        )
