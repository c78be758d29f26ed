"""What was taken back in a world: which records it names, by what a person has asked for, and not by digests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from contract.forgotten import Kind
from tests.fixtures.memory import MemoryStore
from tests.simulate.logs import Logs, Sent

_NAME = re.compile(r"([0-9]{10})\.json")


@dataclass(frozen=True)
class Statement:
    """The `number`-th: all of a site or visitor before `until_us`, or of a source; or that statement `lifts` is lifted.

    Records of later times than `last_sent_ms` were sent after it was said.
    """

    number: int
    kind: str
    what: str
    until_us: int
    lifts: int | None
    last_sent_ms: int

    def names(self, sent: Sent) -> bool:
        """Whether the record is one of those that it is about."""
        fields = _fields(sent.value)
        if self.kind == "source":
            return str(fields.get("event_id", "")).rpartition(":")[0] == self.what
        if fields.get({"site": "site", "visitor": "visitor_id"}.get(self.kind, "")) != self.what:
            return False
        happened_us = _time_us(fields.get("event_time", ""))
        if happened_us is not None and sent.day is None:
            # What is no event did not happen after it came.
            happened_us = min(happened_us, sent.time_ms * 1_000)
        # What is no event, and has no time, is forgotten whenever it comes.
        return happened_us is None or happened_us < self.until_us


class Statements:
    """What was said in a world, as its store has it."""

    def __init__(self, store: MemoryStore, root: str, logs: Logs) -> None:
        self._store, self._folder, self._logs = store, f"{root}/forgotten/", logs
        self.said: dict[int, Statement] = {}
        self.asked = ("", "")
        """What the command is about that says something now: kind and name."""
        self._known: dict[tuple[int, int], bool] = {}

    def look(self) -> None:
        """After each step: what was said in it."""
        for path in self._store.files:
            found = _NAME.fullmatch(path.removeprefix(self._folder))
            if found and int(found[1]) not in self.said:
                said = json.loads(self._store.files[path][0])
                asked = ("lift", "") if said["kind"] == "lift" else self.asked
                assert said["kind"] == asked[0], f"{said} was said, but {asked} was asked"
                number = int(found[1])
                self.said[number] = Statement(
                    number, *asked, said["until_us"], said["lifts"], max(self._logs.sent, default=0)
                )

    def naming(self, time_ms: int) -> list[Statement]:
        """All that name the record of this time, whether they are lifted or not."""
        return [one for one in self.said.values() if self._names(one, time_ms)]

    def forgets(self, time_ms: int, version: int | None = None) -> bool:
        """Whether one that names the record stands; to those who know what was said up to `version`."""
        return any(self.stands(one.number, version) for one in self.naming(time_ms))

    def lifts_of(self, time_ms: int) -> list[Statement]:
        """What has lifted a statement that names the record."""
        return [lift for one in self.naming(time_ms) if (lift := self._lift(one.number))]

    def stands(self, number: int, version: int | None = None) -> bool:
        """Whether it is said and not lifted, to those who know what was said up to `version`."""
        lift = self._lift(number)
        if version is not None:
            return number <= version and (lift is None or lift.number > version)
        return lift is None

    @property
    def standing(self) -> list[Statement]:
        """Those that something is forgotten by."""
        return [one for one in self.said.values() if one.kind != "lift" and self.stands(one.number)]

    @property
    def unfinished(self) -> list[Statement]:
        """Those that files of the archive may not keep to."""
        return [one for one in self.said.values() if one.kind != "lift" and not self.is_done(one)]

    def is_done(self, one: Statement) -> bool:
        """Whether the archive's files keep to it."""
        return f"{self._folder}{one.number:010}.done.json" in self._store.files

    def may_be_marked(self, time_ms: int) -> bool:
        """Whether a file may say that the record is forgotten: what came after a lift is not, by what that has lifted."""
        lifts = [self._lift(one.number) for one in self.naming(time_ms)]
        return any(lift is None or time_ms <= lift.last_sent_ms for lift in lifts)

    def may_be_held(self, time_ms: int) -> bool:
        """Whether a file may hold the record: not what files keep to, nor what came after it was said."""
        standing = [one for one in self.naming(time_ms) if self.stands(one.number)]
        return not any(self.is_done(one) or time_ms > one.last_sent_ms for one in standing)

    def may_be_half_done(self, time_ms: int) -> bool:
        """Whether one file of a pair may hold the record while the other one says that it is forgotten."""
        return any(not self.is_done(one) for one in self.naming(time_ms))

    def _names(self, one: Statement, time_ms: int) -> bool:
        place = one.number, time_ms
        if place not in self._known:
            self._known[place] = one.names(self._logs.sent[time_ms])
        return self._known[place]

    def _lift(self, number: int) -> Statement | None:
        return next((one for one in self.said.values() if one.lifts == number), None)


def names_of(value: bytes | None) -> list[tuple[Kind, str]]:
    """What a statement can be about that forgets the record; visitors are more often asked for than sites and sources."""
    fields = _fields(value)
    if "event_time" not in fields:
        return []
    visitor: tuple[Kind, str] = ("visitor", fields["visitor_id"])
    return [visitor, visitor, visitor, ("site", fields["site"]), ("source", fields["event_id"].rpartition(":")[0])]


@lru_cache(maxsize=10_000)
def _fields(value: bytes | None) -> dict[str, Any]:
    """Those of a record of the simulation: an event, one without its end, or something else, which names nothing."""
    for text in (value or b"", (value or b"") + b"}"):
        try:
            found = json.loads(text)
        except ValueError:
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _time_us(text: str) -> int | None:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e6)
    except ValueError:
        return None
