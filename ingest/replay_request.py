"""What somebody wants replayed: words from a command line become a checked request, or InputError that names the word."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date

from contract.errors import InputError
from contract.event import SITE_LENGTH
from contract.settings import Settings
from ingest.replay_selection import Days

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SPEED = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)x")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True)
class ReplayRequest:
    """Which events go where, and how: `speed` times as fast as they happened, None for as fast as possible."""

    days: Days
    site: str | None
    speed: float | None
    shift: bool
    topic: str
    dry_run: bool

    @classmethod
    def of(
        cls,
        settings: Settings,
        first: str,
        last: str | None = None,
        site: str | None = None,
        speed: str = "max",
        shift: str | None = None,
        topic: str | None = None,
        dry_run: bool = False,
    ) -> ReplayRequest:
        """The request in these words; without `last` it is of one day, without `topic` for the topic of all layers."""
        first_day = _day("FROM", first)
        last_day = first_day if last is None else _day("TO", last)
        if first_day > last_day:
            raise InputError(f"FROM={first} is after TO={last}; both days are replayed, and those between them")
        if site is not None and not 1 <= len(site) <= SITE_LENGTH:
            raise InputError(f"SITE={site!r} is not a text of 1 to {SITE_LENGTH} characters, so no event has it")
        if shift not in (None, "now"):
            raise InputError(f"SHIFT={shift!r} is not now; without SHIFT events keep their ids and times")
        if topic is not None and (not _TOPIC.fullmatch(topic) or topic in (".", "..")):
            raise InputError(f"TOPIC={topic!r} is no name of a topic: 1 to 249 of the characters A-Z a-z 0-9 . _ -")
        return cls(Days(first_day, last_day), site, _speed(speed), shift == "now", topic or settings.topic, dry_run)

    def repeats_in(self, topic: str) -> bool:
        """Whether the events come into the topic once more, as the same ones."""
        return self.topic == topic and not self.shift

    def text(self) -> str:
        """Which events, for people."""
        return f"{self.days}" if self.site is None else f"{self.days} of site {self.site}"


def _day(name: str, text: str) -> date:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        day = date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{name}={text!r} is not a date such as 2015-05-18") from None
    if not 1970 <= day.year < 9999:
        raise InputError(f"{name}={text} is not a day that an event can have: they are of 1970 or later")
    return day


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    match = _SPEED.fullmatch(text)
    speed = float(match[1]) if match else math.nan
    if not speed > 0:
        raise InputError(f"SPEED={text!r} is neither max nor a multiple of the original pace such as 60x")
    return speed
