"""The statements of what is forgotten, on HDFS: who says something adds a file, and nobody changes one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from contract.forgotten import KEY, Done, Rules, Said, Statement
from contract.forgotten_files import done_name, folder, last_number, said, statement_name
from contract.settings import Settings
from ingest.hdfs import FileStore


def now() -> str:
    """As statements say it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class ForgottenLog:
    """Below one root of a file store. Raises EngineUnavailable, and ArchiveDamaged where a file is no statement."""

    store: FileStore
    settings: Settings
    _rules: Rules = field(default_factory=Rules)

    def said(self) -> Said:
        """All statements there are now."""
        root = self.settings.archive_root
        return said(root, self._names(), self.store.read)

    def rules(self) -> Rules:
        """What follows from them, as of now; only what is new is read. Raises ForgottenKeyLost."""
        if last_number(self._names()) != self._rules.version:
            self._rules = self.rules_of(self.said())
        return self._rules

    def rules_of(self, known: Said) -> Rules:
        """What follows from these. Without any no key is needed."""
        return Rules(known.statements, self.settings.secret(KEY)) if known.statements else Rules()

    def add(self, statement: Statement) -> Statement:
        """The statement with the number that it got: of two that are said at once each gets one of its own."""
        while True:
            numbered = msgspec.structs.replace(statement, number=last_number(self._names()) + 1)
            # guard: no statement takes another one's place
            if self._put(statement_name(numbered.number), msgspec.json.encode(numbered)):
                return numbered

    def restate(self, known: Said) -> int:
        """What of these is not here is written down again, with its number; returns how many that were."""
        here = {one.number for one in self.said().statements}
        lacking = [one for one in known.statements if one.number not in here]
        for one in lacking:
            self._put(statement_name(one.number), msgspec.json.encode(one))
        return len(lacking)

    def finish(self, number: int) -> None:
        """All files of the archive keep to the statement."""
        self._put(done_name(number), msgspec.json.encode(Done(now())))

    def _put(self, name: str, content: bytes) -> bool:
        place = folder(self.settings.archive_root)
        temporary = f"{place}/.{uuid.uuid4().hex}.tmp"
        self.store.write(temporary, content)
        if self.store.rename(temporary, f"{place}/{name}"):
            return True
        self.store.delete(temporary)
        return False

    def _names(self) -> list[str]:
        return [file.name for file in self.store.list(folder(self.settings.archive_root))]
