"""A log that grows, for ever: through rotation by rename or by copy, and through restarts of whoever writes or follows it.

It is the counting of a file, over and over. A file that was renamed is read on until it has been quiet for long. Of one that
was truncated the copy is looked for beside it; so are, at the start, files that were rotated while nobody followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contract.errors import BraidError, DeliveryFailed, EngineUnavailable, InputError
from contract.settings import Settings
from contract.sources import CountedSource
from ingest.counting import Counting, Intake
from ingest.formats.detect import WantedLog
from ingest.hdfs import FileStore
from ingest.lines import InputFile
from ingest.produce import SETTLE_EVERY_S, now_ms, reader_of_lines, register_of
from ingest.progress import LineProgress
from ingest.readers import require_usable
from ingest.rotation import OpenLog, RotatedFile, identity_of, rotated
from ingest.sender import Sender, connect
from ingest.stop import Stop
from ingest.tally import Tally

LOOK_EVERY_S = 0.2
_QUIET_S = 600.0
"""A server that was told of a rotation writes the last lines of what is under way to the old file."""
_RETRY_S = 2.0


class Follower:
    """Follows one log; `step` does what there is to do now. `say` hears what people should know."""

    def __init__(
        self,
        path: Path,
        intake: Intake,
        wanted: WantedLog,
        say: Callable[[str], None],
        clock_s: Callable[[], float],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._intake, self._site = path, intake, wanted.site
        self._say, self._clock_s, self._now_s = say, clock_s, now_s
        self._current: OpenLog | None = None
        self._leaving: list[OpenLog] = []
        self._seen: set[tuple[tuple[int, int], int]] = set()
        self._reader_of = reader_of_lines(path.name, wanted, intake.key, say)
        self._total = Tally()
        self._said = ""

    @property
    def counted(self) -> Tally:
        """What was counted since the start, as far as it is settled."""
        total = self._total
        for log in self._logs():
            total += log.counted
        return total

    @property
    def sent_lines(self) -> int:
        """How many lines of the open files were sent."""
        return sum(log.counting.sent_lines for log in self._logs())

    def start(self) -> None:
        """Open the log; and if it is not one that is known, count what was rotated away since a file that is."""
        if self._current is None:
            self._current = self._opened(self._path)
        self._count(self._current)
        self._has_new_files()
        if not self._current.counting.is_known:
            self._count_rotated(is_copy=False)

    def step(self) -> None:
        """Count what is new in the files that are open, and notice rotation."""
        # guard: a truncated log is another text
        truncated = [log for log in self._logs() if log.has_changed() and log.is_another()]
        if truncated:
            self.settle()
            self._say(f"{self._path.name} was truncated: it is read from its beginning")
        for log in truncated:
            log.renew(self._intake)
        self._notice_rename()
        found = False
        if self._has_new_files():
            self.settle()
            found = self._count_rotated(is_copy=bool(truncated))
        if truncated and not found:
            lost = f"what was written after the last look, {LOOK_EVERY_S} s before, is in no file any more"
            self._say(f"no copy of {self._path.name} is beside it: {lost}")
        for log in self._logs():
            if log.has_changed() and not log.is_another():
                self._count(log)
        self._leave_quiet_ones()

    def settle(self) -> None:
        """The register has all that was sent."""
        for log in self._logs():
            log.counting.settle()

    def renew(self, intake: Intake) -> None:
        """After an error: go on from what the register has."""
        self._intake = intake
        for log in self._logs():
            log.renew(intake)

    def close(self) -> None:
        """Nothing is open any more."""
        for log in self._logs():
            log.file.close()

    def _logs(self) -> list[OpenLog]:
        return [*self._leaving, *([self._current] if self._current else [])]

    def _opened(self, path: Path) -> OpenLog:
        return OpenLog(path, self._intake, self._site, self._reader_of, self._clock_s())

    def _opened_if_readable(self, path: Path) -> OpenLog | None:
        """None if it is not readable now; it is tried again, and people are told once."""
        try:
            opened, self._said = self._opened(path), ""
            return opened
        except InputError as error:
            if self._said != str(error):
                self._say(f"{error}; trying again")
            self._said = str(error)
            return None

    def _count(self, log: OpenLog, final: bool = False) -> None:
        log.count(self._clock_s(), final)
        source = log.counting.source
        # What comes after a rotation is of the same site.
        if self._site is None and source is not None and source.site:
            self._site = source.site

    def _leave_quiet_ones(self) -> None:
        for log in [log for log in self._leaving if self._clock_s() - log.moved_s > _QUIET_S]:
            self._count(log, final=True)
            log.counting.settle()
            self._total += log.counted
            log.file.close()
            self._leaving.remove(log)

    def _notice_rename(self) -> None:
        there = identity_of(self._path)
        # Until there is a new one the server writes to the old file.
        if there is None or (self._current is not None and there == self._current.identity):
            return
        if self._current is not None:
            self._say(f"{self._path.name} was rotated: the old file is read to its end, and the new one beside it")
            self._leaving.append(self._current)
        self._current = self._opened_if_readable(self._path)

    def _has_new_files(self) -> bool:
        """Whether rotation has made files since it was asked last; one that was only packed is none."""
        files = set(rotated(self._path))
        # Another file may have the inode of one that is gone, but not its time too; and a new name is no new file.
        new = {file for file in files if (file.identity, file.modified_s) not in self._seen}
        known_times = {modified_s for _, modified_s in self._seen}
        self._seen |= {(file.identity, file.modified_s) for file in files}
        return any(not (file.is_packed and file.modified_s in known_times) for file in new)

    def _count_rotated(self, is_copy: bool) -> bool:
        """Count the files beside the log that were written since one that is known, and that one; whether there is one."""
        files: list[RotatedFile] = []
        opened = {log.identity for log in self._logs()}
        for file in rotated(self._path):
            if file.identity in opened:
                # What is older than one that was followed to its end has been counted; a copy may be older than that.
                if is_copy:
                    continue
                break
            known = self._is_known(file.path)
            if known is not None:
                files.append(file)
            if known:
                break
        else:
            if files and not is_copy:
                self._say(
                    f"{len(files)} older files beside {self._path.name} are not counted: `make replay LOG=` counts one"
                )
            return False
        for file in reversed(files):
            if file.is_packed or is_copy or self._now_s() - file.modified_s > _QUIET_S:
                self._count_finished(file.path)
            elif log := self._opened_if_readable(file.path):
                # A server may still write to it.
                self._leaving.append(log)
                self._count(log)
        return True

    def _is_known(self, path: Path) -> bool | None:
        """Whether the beginning of the file was counted; None if nobody can tell."""
        try:
            with InputFile(path) as file:
                counting = self._counting(path, file)
                counting.recognise()
                return counting.is_known
        except InputError:  # empty, or being compressed: then the file that it is made of is there too
            return None

    def _count_finished(self, path: Path) -> None:
        try:
            with InputFile(path) as file:
                counting = self._counting(path, file)
                try:
                    counting.run(final=True)
                finally:
                    self._total += counting.counted
                if lines := counting.counted.lines:
                    self._say(f"{path.name}: {lines:,} lines that had not been counted before it was rotated")
        except InputError as error:
            self._say(str(error))

    def _counting(self, path: Path, file: InputFile) -> Counting:
        return Counting(self._intake, file, path.name, self._site, self._reader_of)


def follow(
    settings: Settings,
    path: Path,
    wanted: WantedLog,
    stop: Stop,
    say: Callable[[str], None],
    told: Callable[[CountedSource], None],
    store: FileStore | None = None,
) -> Tally:
    """Follow a log until it is asked to stop; what it counted. Servers that do not answer are waited for.

    `told` hears of each source as it is settled.
    """
    require_usable(wanted)
    key = settings.secret("visitor_key")
    # A signal ends the loop, between two steps: what was read by then is sent.
    intake = Intake(register_of(settings, store), Sender(settings, connect(settings), Stop()), key, now_ms, told)
    follower = Follower(path, intake, wanted, say, time.monotonic)
    try:
        follower.start()
        settled_s = time.monotonic()
        with LineProgress(path.name) as progress:
            while not stop.wait(LOOK_EVERY_S):
                try:
                    follower.step()
                    progress.update(follower.sent_lines)
                    if time.monotonic() - settled_s > SETTLE_EVERY_S:
                        settled_s = time.monotonic()
                        _settle(follower, say)
                except (EngineUnavailable, DeliveryFailed, InputError) as error:
                    say(f"{error}; trying again")
                    stop.wait(_RETRY_S)
                    intake = _connected(settings, intake, error)
                    follower.renew(intake)
        follower.step()
        follower.settle()
        return follower.counted
    finally:
        follower.close()


def _settle(follower: Follower, say: Callable[[str], None]) -> None:
    """While HDFS does not answer lines go on to be counted: after a crash those that the register lacks are sent again."""
    try:
        follower.settle()
    except EngineUnavailable as error:
        say(f"{error}; the register is brought up to date later")


def _connected(settings: Settings, intake: Intake, error: BraidError) -> Intake:
    """With a sender that has not failed, if Kafka answers."""
    if not isinstance(error, DeliveryFailed):
        return intake
    try:
        return replace(intake, sender=Sender(settings, connect(settings), Stop()))
    except BraidError:
        return intake
