"""The register of sources, beside the master dataset: a file for each group of sources, replaced whole or not at all.

Each change is a new version of the file, made by a rename that never overwrites. Who has not seen the newest version makes
none: of two replays that change a group at once one reads it again, and thinks again.

Nothing is wrong without the register, or with an old one: what was sent is sent again, with the same ids.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from contract.errors import EngineUnavailable, RegisterDamaged
from contract.sources import CountedSource
from ingest.hdfs import FileStore
from ingest.source import Group, Source

FOLDER = "sources"
_VERSION = re.compile(r"([0-9]{10})\.json")
_ABANDONED_MS = 3_600_000
_AT_ONCE = 8
_decode = msgspec.json.Decoder(tuple[Source, ...]).decode


class Register:
    """Below one root of a file store. Its methods raise EngineUnavailable, and RegisterDamaged where a file is damaged."""

    def __init__(self, store: FileStore, root: str, now_ms: Callable[[], int]) -> None:
        self._store, self._root, self._now_ms = store, f"{root}/{FOLDER}", now_ms

    def load(self, name: str) -> Group:
        """The group as it is now."""
        newest = 0
        while True:
            listing = self._store.list(f"{self._root}/{name}")
            versions = {int(found[1]): file.name for file in listing if (found := _VERSION.fullmatch(file.name))}
            if not versions:
                return Group(name)
            last, newest = newest, max(versions)
            try:
                content = self._store.read(f"{self._root}/{name}/{versions[newest]}")
            except EngineUnavailable:
                # A newer one may have taken its place meanwhile.
                if last == newest:
                    raise
                continue
            begun = [file.name for file in listing if file.name.endswith(".tmp") and self._is_abandoned(file.modified_ms)]
            stale = (*(file for version, file in versions.items() if version < newest), *begun)
            return Group(name, newest, {one.number: one for one in self._sources(name, content)}, stale)

    def save(self, group: Group, source: Source) -> bool:
        """Whether the group, with this source as it is now, has taken the place of the version that was loaded.

        If so it is one version further; if not somebody else's has, and nothing is changed.
        """
        return self.replace(group, group.sources | {source.number: source})

    def replace(self, group: Group, sources: dict[int, Source]) -> bool:
        """The same with these sources in place of all that the group has."""
        folder, version = f"{self._root}/{group.name}", group.version + 1
        temporary = f"{folder}/.{uuid.uuid4().hex}.tmp"
        self._store.write(temporary, msgspec.json.encode(tuple(sources.values())))
        # guard: of two versions one is made
        if not self._store.rename(temporary, f"{folder}/{_file(version)}"):
            self._store.delete(temporary)
            return False
        # Its place may have been free because it is so old that those after it are deleted by now.
        # guard: an old version is no newest one
        if any((found := _VERSION.fullmatch(file.name)) and int(found[1]) > version for file in self._store.list(folder)):
            self._store.delete(f"{folder}/{_file(version)}")
            return False
        self.tidy(group)
        group.sources, group.stale = sources, (_file(group.version),) if group.version else ()
        group.version = version
        return True

    def tidy(self, group: Group) -> None:
        """No file says any more what the group was before; else the version before stays for a while."""
        for name in group.stale:
            self._store.delete(f"{self._root}/{group.name}/{name}")
        group.stale = ()

    def groups(self) -> list[str]:
        """The names of all groups there are."""
        return self._store.folders(self._root)

    def rows(self) -> list[CountedSource]:
        """Every source that has lines which are counted, those that were counted last at the end."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            groups = threads.map(self.load, self.groups())
        found = [one.row(group.name) for group in groups for one in group.sources.values() if one.counted.end]
        return sorted(found, key=lambda row: (row.counted_at, row.source))

    def _is_abandoned(self, modified_ms: int) -> bool:
        return modified_ms < self._now_ms() - _ABANDONED_MS

    def _sources(self, name: str, content: bytes) -> tuple[Source, ...]:
        try:
            return _decode(content)
        except msgspec.MsgspecError as error:
            raise RegisterDamaged.of(f"{self._root}/{name}", error) from error


def _file(version: int) -> str:
    return f"{version:010}.json"
