"""What a shipper, a container engine or a logging library writes before each line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import msgspec

from ingest.formats.json_form import NOT_JSON

_MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})"
# An IPv6 address begins like a tag with nothing behind it. Before a tag are two hosts where nginx writes to a local syslog,
# which expects none and puts its own before it.
_HOSTS_AND_TAG = r"(?:\S+ ){0,2}(?![0-9A-Fa-f]{1,4}:\S)[^\s:\[]+(?:\[[0-9]+\])?: ?"
_HALF = 0.5

Strip = Callable[[str], str | None]
"""A line without its prefix, or None if it has none."""


@dataclass(frozen=True)
class Prefix:
    """A prefix and who writes it. One `of_logger` stands before all that a server says, not before requests alone."""

    name: str
    strip: Strip
    of_logger: bool = False


class _DockerLine(msgspec.Struct):
    log: str
    stream: str
    time: str


_decode_docker = msgspec.json.Decoder(_DockerLine).decode


def _docker_file(text: str) -> str | None:
    try:
        return _decode_docker(text.encode()).log.rstrip("\n") if text.startswith('{"') else None
    except NOT_JSON:
        return None


class _TwistedRecord(msgspec.Struct):
    log_io: str


_decode_twisted = msgspec.json.Decoder(_TwistedRecord).decode


def _twisted_json(text: str) -> str | None:
    try:
        return _decode_twisted(text.removeprefix("\x1e").encode()).log_io.rstrip() if '"log_io"' in text else None
    except NOT_JSON:
        return None


def _without(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.match(text)
    return text[match.end() :] if match else None


def _prefix(name: str, pattern: str, of_logger: bool = False) -> Prefix:
    return Prefix(name, partial(_without, re.compile(pattern)), of_logger)


_OUTER = (
    _prefix("Docker Compose's prefix", rf"[\w.-]+ +\| (?:{_MOMENT} )?"),
    _prefix("kubectl's prefix", r"\[pod/[^\]]+\] "),
    _prefix("the prefix of a container's log", rf"{_MOMENT} (?:stdout|stderr) [FP] "),
    Prefix("Docker's JSON", _docker_file),
    Prefix("Twisted's JSON", _twisted_json, of_logger=True),
)
_INNER = (
    _prefix("syslog's prefix", rf"(?:<[0-9]{{1,3}}>)?[A-Z][a-z]{{2}} [ 0-9][0-9] [0-9:]{{8}} {_HOSTS_AND_TAG}"),
    _prefix("syslog's prefix", rf"(?:<[0-9]{{1,3}}>)?{_MOMENT} {_HOSTS_AND_TAG}"),
    _prefix("syslog's prefix", rf"<[0-9]{{1,3}}>1 (?:{_MOMENT}|-) \S+ \S+ \S+ \S+ (?:-|\[.*?\]) ?\ufeff?"),
    _prefix("a logger's prefix", r"\[[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} [+-][0-9]{4}\] \[[0-9]+\] \[[A-Z]+\] ", True),
    _prefix("a logger's prefix", r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):[\w.]+:", True),
    _prefix("twistd's prefix", r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}[+-][0-9]{4} \[[^\]]+\] ", True),
    _prefix("Docker's time", rf"{_MOMENT} "),
)


@dataclass(frozen=True)
class Prefixes:
    """Some prefixes, one behind the other."""

    of: tuple[Prefix, ...] = ()

    @property
    def of_logger(self) -> bool:
        """Whether what stands behind them may be anything that a server says."""
        return any(prefix.of_logger for prefix in self.of)

    def strip(self, text: str) -> str | None:
        """A line without them, or None if it has not all."""
        stripped: str | None = text
        for prefix in self.of:
            stripped = prefix.strip(stripped) if stripped is not None else None
        return stripped

    def text(self) -> str:
        """For people, to be put behind a format."""
        return "".join(f" behind {prefix.name}" for prefix in self.of)


def candidates(sample: Sequence[str]) -> list[Prefixes]:
    """No prefix, and all that most of the lines have; the fewest first."""
    choices = (Prefixes(tuple(filter(None, pair))) for pair in product((None, *_OUTER), (None, *_INNER)))
    chosen = [
        one for one in choices if not one.of or sum(one.strip(text) is not None for text in sample) > _HALF * len(sample)
    ]
    return sorted(chosen, key=lambda one: len(one.of))
