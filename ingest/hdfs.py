"""Files on HDFS over WebHDFS: whole files in, whole files out, and a rename that never overwrites."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from hdfs import HdfsError
from requests import RequestException

from contract import webhdfs
from contract.errors import EngineUnavailable

_CONNECT_S, _READ_S = 5, 60
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 5.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class FileInfo:
    """One entry of a listing."""

    name: str
    size_bytes: int
    modified_ms: int


class FileStore(Protocol):
    """What the archive needs of a file system. Every method raises EngineUnavailable if it cannot tell the outcome."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder; none if there is no such folder."""

    def list(self, folder: str) -> list[FileInfo]:
        """The files of a folder, temporary ones too; none if there is no such folder."""

    def read(self, path: str, first_byte: int = 0) -> bytes:
        """The content of a file, from a byte on."""

    def write(self, path: str, content: bytes) -> None:
        """Make or replace a file; its folder is made too."""

    def rename(self, source: str, target: str) -> bool:
        """Whether `source` is now `target`, in one step; False if there was a target already, which then stays as it is."""

    def replace(self, source: str, target: str) -> None:
        """`source` is now `target`, in one step, in place of the file that was there: at each moment one of both is."""

    def delete(self, path: str) -> None:
        """No file is at `path` any more, whether there was one or not."""


class Hdfs:
    """FileStore on a real NameNode. WebHDFS redirects to DataNodes by host name, so those must resolve here."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = webhdfs.connect(url, (_CONNECT_S, _READ_S))

    # Before `list`, whose name means the method from there on.
    def folders(self, folder: str) -> list[str]:
        return [name for name, status in self._entries(folder).items() if status["type"] == "DIRECTORY"]

    def _entries(self, folder: str) -> dict[str, dict[str, Any]]:
        with self._failures_named():
            return webhdfs.entries(self._client, folder)

    def list(self, folder: str) -> list[FileInfo]:
        return [
            FileInfo(name, status["length"], status["modificationTime"])
            for name, status in self._entries(folder).items()
            if status["type"] == "FILE"
        ]

    def read(self, path: str, first_byte: int = 0) -> bytes:
        with self._failures_named(), self._client.read(path, offset=first_byte) as reader:
            return bytes(reader.read())

    def write(self, path: str, content: bytes) -> None:
        with self._failures_named():
            self._client.write(path, data=content, overwrite=True)

    def rename(self, source: str, target: str) -> bool:
        with self._failures_named():
            try:
                self._client.rename(source, target)
                return True
            except HdfsError:
                # The NameNode says only "no". A target that is there is the one good reason.
                if self._client.status(target, strict=False) is None:
                    raise
                return False

    def replace(self, source: str, target: str) -> None:
        with self._failures_named():
            # The library has no method for this option of the NameNode's, with which it renames over a file at once.
            self._client._rename(source, destination=target, renameoptions="OVERWRITE")

    def delete(self, path: str) -> None:
        with self._failures_named():
            self._client.delete(path)

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except (HdfsError, RequestException) as error:
            raise EngineUnavailable.at("HDFS", self._url, str(error).partition("\n")[0]) from error


def until_available(action: Callable[[], _T], wait: Callable[[float], bool], log: Callable[[str], None]) -> _T | None:
    """The action's result, tried again for as long as an engine is unavailable; None if `wait` says to stop."""
    pause_s = _FIRST_WAIT_S
    while True:
        try:
            return action()
        except EngineUnavailable as error:
            log(f"{error}; trying again in {pause_s:.1f} s")
        if wait(pause_s * random.uniform(0.8, 1.0)):
            return None
        pause_s = min(2 * pause_s, _LONGEST_WAIT_S)
