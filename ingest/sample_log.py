"""A made-up access log, the same bytes for the same request on any machine, and its truth: what a right count of it gives.

It has what real logs have and invented ones often lack: lines out of order by up to a minute, lines that repeat an earlier
one and are requests of their own, a cut last field, `-` for a size, quotes in user agents, IPv6 beside IPv4, long and
percent-encoded targets, HEAD, 304, bots, and a few lines that are no request. All is drawn line by line from PCG64's raw
numbers, which NumPy promises never to change, and by arithmetic of integers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum, auto
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from contract.errors import InputError
from ingest import sample_texts
from ingest.sample_texts import AGENTS, METHODS, NO_REQUESTS, REFERRERS, STATUSES, Choice, Draws, Numbers, below, few_often
from ingest.sample_truth import FACTS, Truth

LOG_NAME, TRUTH_NAME = "access.log", "truth.json"
FORMATS = ("combined", "common", "timed", "vhost")
"""Combined and Common Log Format; Combined and then nginx's $request_time; Combined behind `host:port`, as Debian's Apache
writes it for virtual hosts."""
ENDS = datetime(2026, 1, 15, tzinfo=UTC)
"""No line is of this moment or later."""

_HOSTS = ("www", "shop", "blog", "docs", "static", "api", "wiki", "forum", "status", "mail", "media", "lists")
_BLOCK_LINES = 1 << 17
# So many lines come at once. The last of so many may repeat one that came with it, so both are always in one block.
_BURST, _MAY_REPEAT = 4, 16
_DISORDER_S = 60
_MOST_VISITORS, _LINES_OF_A_VISITOR = 100_000, 6
# One line of about so many.
_NO_REQUEST, _CUT = 700, 900


class _Draw(IntEnum):
    """What a line draws, a column each."""

    VISITOR = 0
    PAGE = auto()
    HOST = auto()
    METHOD = auto()
    STATUS = auto()
    SIZE = auto()
    DURATION = auto()
    REFERRER = auto()
    AGENT = auto()
    DISORDER = auto()
    ODDITY = auto()
    REPEAT = auto()


@dataclass(frozen=True)
class SampleLog:
    """What is wanted; `site` is that of a log whose lines name no host. InputError if it cannot be had."""

    lines: int = 10_000
    days: int = 3
    seed: int = 1
    hosts: int = 1
    format: str = "combined"
    site: str = "demo"

    def __post_init__(self) -> None:
        limits = {"lines": (1, 1_000_000_000), "days": (1, 10_000), "seed": (0, (1 << 63) - 1), "hosts": (1, len(_HOSTS))}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name.upper()}={getattr(self, name)} is not a number from {least} to {most}")
        if self.format not in FORMATS:
            raise InputError(f"FORMAT={self.format!r} is none of {', '.join(FORMATS)}")
        if self.hosts > 1 and self.format != "vhost":
            raise InputError(f"a line of format {self.format} names no host; HOSTS={self.hosts} needs FORMAT=vhost")

    @property
    def sites(self) -> list[str]:
        """The sites of its views, in the order of their numbers."""
        return [f"{host}.example.com" for host in _HOSTS[: self.hosts]] if self.format == "vhost" else [self.site]

    @property
    def starts(self) -> datetime:
        """The first moment that a line may be of."""
        return ENDS - timedelta(days=self.days)

    def write(self, folder: Path) -> Truth:
        """LOG_NAME and TRUTH_NAME into this folder; a log that is broken off has another name."""
        folder.mkdir(parents=True, exist_ok=True)
        log, new = folder / LOG_NAME, folder / f"{LOG_NAME}.new"
        with new.open("wb") as file:
            truth = self.write_lines(file)
        (folder / TRUTH_NAME).write_text(truth.json(), encoding="utf-8")
        os.replace(new, log)
        return truth

    def write_lines(self, file: BinaryIO) -> Truth:
        """The lines into an open file; their truth. Takes 30 bytes of memory a line, and 100 MB."""
        facts = []
        maker = _Maker(self)
        for text, views in maker.blocks():
            file.write(text)
            facts.append(views)
        return Truth.of(self.lines, self.sites, maker.pages, self.starts.date(), pl.concat(facts))


class _Maker:
    """Makes the lines of one log."""

    def __init__(self, wanted: SampleLog) -> None:
        self._wanted = wanted
        self.pages = sample_texts.pages()
        self._hosts = pl.Series([f"{site}:80 " for site in wanted.sites])
        self._clients = sample_texts.clients(min(_MOST_VISITORS, wanted.lines // _LINES_OF_A_VISITOR + 1))
        self._days, self._times = sample_texts.days(wanted.starts, wanted.days), sample_texts.seconds_of_day()
        self._requests, self._readers = sample_texts.requests(self.pages), sample_texts.readers()
        self._methods, self._statuses = Choice(METHODS), Choice(STATUSES)
        self._referrers, self._agents = Choice(REFERRERS), Choice(AGENTS)
        self._is_error = np.array([status >= "500" for status in self._statuses.texts])

    def blocks(self) -> Iterator[tuple[bytes, pl.DataFrame]]:
        """Some lines, and the FACTS of those that are views."""
        bits = np.random.PCG64(self._wanted.seed)
        for first in range(0, self._wanted.lines, _BLOCK_LINES):
            count = min(_BLOCK_LINES, self._wanted.lines - first)
            draws = bits.random_raw(count * len(_Draw)).reshape(count, len(_Draw))
            taken = np.arange(count)
            last = taken[_MAY_REPEAT - 1 :: _MAY_REPEAT]
            back = below(draws[last, _Draw.REPEAT], 16)
            taken[last] -= np.where(back < _BURST, back, 0)
            yield self._block(first + taken, draws[taken])

    def _block(self, numbers: Numbers, draws: Draws) -> tuple[bytes, pl.DataFrame]:
        wanted = self._wanted
        second = numbers // _BURST * _BURST * (wanted.days * 86_400) // wanted.lines
        # Every other line waited before it was written.
        waited_s = below(draws[:, _Draw.DISORDER], 2 * _DISORDER_S)
        second = np.maximum(second - np.where(waited_s <= _DISORDER_S, waited_s, 0), 0)
        oddity = below(draws[:, _Draw.ODDITY], _NO_REQUEST * _CUT)
        no_request = oddity % _NO_REQUEST == 0
        cut = (oddity % _CUT == 1) & (wanted.format != "common")
        page, visitor = (
            few_often(draws[:, _Draw.PAGE], len(self.pages)),
            few_often(draws[:, _Draw.VISITOR], len(self._clients)),
        )
        host = below(draws[:, _Draw.HOST], len(wanted.sites))
        method, status = self._methods.number(draws[:, _Draw.METHOD]), self._statuses.number(draws[:, _Draw.STATUS])
        referrer, agent = self._referrers.number(draws[:, _Draw.REFERRER]), self._agents.number(draws[:, _Draw.AGENT])
        size = np.int64(1) << (6 + below(draws[:, _Draw.SIZE], 14))
        size += (draws[:, _Draw.SIZE] >> np.uint64(40)).astype(np.int64) % size
        # No body is sent in answer to HEAD, nor with 304.
        no_body = (method == self._methods.texts.index("HEAD")) | (status == self._statuses.texts.index("304")) | no_request
        duration_ms = (3 + below(draws[:, _Draw.DURATION], 90)) << (draws[:, _Draw.DURATION] >> np.uint64(62)).astype(
            np.int64
        )
        tells_duration = (wanted.format == "timed") & ~cut

        request = (method * len(self.pages) + page) * len(STATUSES) + status
        request = np.where(no_request, len(self._requests) - 1 - oddity // _NO_REQUEST % len(NO_REQUESTS), request)
        reader = (cut * len(REFERRERS) + referrer) * len(AGENTS) + agent
        parts = [
            self._clients.gather(visitor),
            self._days.gather(second // 86_400),
            self._times.gather(second % 86_400),
            self._requests.gather(request),
            pl.Series(size).cast(pl.String).set(pl.Series(no_body), "-"),
        ]
        if wanted.format == "vhost":
            parts.insert(0, self._hosts.gather(host))
        if wanted.format != "common":
            parts.append(self._readers.gather(reader))
        if wanted.format == "timed":
            parts.append(_seconds(duration_ms).set(pl.Series(cut), ""))
        lines = pl.DataFrame([part.alias(str(number)) for number, part in enumerate(parts)]).select(pl.concat_str(pl.all()))
        facts = {
            "site": host,
            "page": page,
            "day": second // 86_400,
            "visitor": visitor,
            "bytes_sent": np.where(no_body, 0, size),
            "is_error": self._is_error[status],
            "duration_ms": pl.Series(duration_ms).set(pl.Series(~tells_duration), None),
        }
        text = lines.to_series().str.join("\n").item() + "\n"
        return text.encode(), pl.DataFrame(facts, schema=FACTS).filter(~pl.Series(no_request))


def _seconds(duration_ms: Numbers) -> pl.Series:
    """As nginx writes $request_time, and a blank before it."""
    thousandths = pl.Series(duration_ms % 1_000).cast(pl.String).str.zfill(3)
    return " " + pl.Series(duration_ms // 1_000).cast(pl.String) + "." + thousandths
