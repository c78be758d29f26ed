"""A log's files by what they are: one that is open whatever its name is by now, and those that were rotated away."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contract.errors import InputError
from ingest.counting import Counting, Intake, ReaderOf
from ingest.lines import InputFile
from ingest.tally import Tally

_DATE_OR_NUMBER = r"[.-][0-9][0-9T:._-]*"
_PACKED = r"(\.(?:gz|zst|bz2|xz))?"
_MOST_ROTATED = 100


@dataclass(frozen=True)
class RotatedFile:
    """One that rotation has made of a log; packing it keeps `modified_s`."""

    path: Path
    identity: tuple[int, int]
    modified_s: int
    is_packed: bool


def rotated(path: Path) -> list[RotatedFile]:
    """The files beside a log that its rotation has made, as their names say, the one that was written last first.

    They are named like access.log.1, access.log-20250131.gz or access-20250131.log.
    """
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    name = re.compile(f"{stem}(?:{suffix}{_DATE_OR_NUMBER}|{_DATE_OR_NUMBER}{suffix}){_PACKED}")
    found: list[tuple[int, RotatedFile]] = []
    for entry in os.scandir(path.parent):
        if not (named := name.fullmatch(entry.name)):
            continue
        # It may go while it is looked at.
        with suppress(FileNotFoundError):
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                file = RotatedFile(Path(entry.path), (status.st_dev, status.st_ino), int(status.st_mtime), bool(named[1]))
                found.append((status.st_mtime_ns, file))
    found.sort(key=lambda one: (one[0], one[1].path), reverse=True)
    return [file for _, file in found[:_MOST_ROTATED]]


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file the name means now, None if none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return status.st_dev, status.st_ino


class OpenLog:
    """A plain file that grows, from its first line on."""

    def __init__(self, path: Path, intake: Intake, site: str | None, reader_of: ReaderOf, now_s: float) -> None:
        self.file = InputFile(path, live=True)
        status = os.fstat(self.file.fileno())
        self.identity = status.st_dev, status.st_ino
        self.moved_s = now_s
        """When there was something new."""
        self._path, self._site, self._reader_of = path, site, reader_of
        self._earlier = Tally()
        self.renew(intake)

    @property
    def counted(self) -> Tally:
        """What was counted of it, as far as it is settled."""
        return self._earlier + self.counting.counted

    def renew(self, intake: Intake) -> None:
        """Begin again with what the register has: after an error, or because it is another text now."""
        if hasattr(self, "counting"):
            self._earlier = self.counted
        self.file.restart()
        self.counting = Counting(intake, self.file, self._path.name, self._site, self._reader_of)
        self._looked: tuple[int, int] | None = None

    def has_changed(self) -> bool:
        """Whether it was written to since it was counted."""
        status = os.fstat(self.file.fileno())
        return (status.st_size, status.st_mtime_ns) != self._looked

    def is_another(self) -> bool:
        """Whether what was read of it is no more there: it was truncated, and may have grown again."""
        descriptor, file = self.file.fileno(), self.file
        first = os.pread(descriptor, len(file.first_bytes), 0)
        last = os.pread(descriptor, len(file.last_bytes), file.read_bytes - len(file.last_bytes))
        return first != file.first_bytes or last != file.last_bytes

    def count(self, now_s: float, final: bool = False) -> None:
        """Count what is new."""
        status = os.fstat(self.file.fileno())
        self.counting.run(final)
        # What came meanwhile is looked at once more.
        self._looked, self.moved_s = (status.st_size, status.st_mtime_ns), now_s
