"""The texts that lines of a sample log are put together from, and how often each is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

Draws = NDArray[np.uint64]
Numbers = NDArray[np.int64]

METHODS = (("GET", 96), ("HEAD", 2), ("POST", 2))
STATUSES = (("200", 880), ("304", 60), ("301", 20), ("404", 30), ("500", 7), ("503", 3))
REFERRERS = (
    ("-", 40),
    ("https://search.example.org/", 20),
    ("https://www.example.com/", 25),
    ("https://www.example.com/news/1?from=mail&x=%7Ba%7D", 10),
    ("https://news.example.net/item?id=" + "7" * 600, 1),
    ("", 1),
)
AGENTS = (
    ("Mozilla/5.0 (X11; Linux x86_64; rv:149.0) Gecko/20100101 Firefox/149.0", 30),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36", 30),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/604.1", 20),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", 10),
    ("curl/8.14.1", 4),
    ("-", 3),
    (r"Tiny \"Reader\" 1.0 (C:\\feeds)", 2),
    ("", 1),
)
# As servers log what was no HTTP request: a connection that sent nothing, TLS on a clear port, an empty line.
NO_REQUESTS = ('"-" 408 ', r'"\x16\x03\x01\x02" 400 ', '"" 400 ')

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Choice:
    """Texts of which each is chosen as often as its weight says."""

    def __init__(self, weighted: Sequence[tuple[str, int]]) -> None:
        self.texts = [text for text, _ in weighted]
        self._numbers = np.repeat(np.arange(len(weighted)), [weight for _, weight in weighted])

    def number(self, draws: Draws) -> Numbers:
        """The numbers of the texts that are chosen."""
        chosen: Numbers = self._numbers[below(draws, len(self._numbers))]
        return chosen


def below(draws: Draws, count: int) -> Numbers:
    """Numbers below `count`, each as often as another."""
    return (draws >> np.uint64(16)).astype(np.int64) % count


def few_often(draws: Draws, count: int) -> Numbers:
    """Numbers below `count`, low ones more often: the cube of an even draw, in integers."""
    even = (draws >> np.uint64(44)).astype(np.int64)
    cube = (even * even >> 20) * even >> 20
    return count * cube >> 20


def pages() -> list[str]:
    """600 targets, the most asked first."""
    sections, ends = ("news", "docs", "products", "static"), ("", "/", ".css?v=3", "?ref=mail&utm_source=a")
    targets = [f"/{sections[number % 4]}/{number}{ends[number % 7 % 4]}" for number in range(600)]
    targets[:6] = ["/", "/robots.txt", "/feed.xml", "/favicon.ico", "/index.html", "/search?q=%22caf%C3%A9%22+au+lait"]
    targets[20] = "/l%C3%A4nder/%E6%97%A5%E6%9C%AC/%2e%2e/%5B1%5D"
    targets[40] = "/api/items?ids=" + ",".join(str(number) for number in range(1_000, 1_380))
    targets[60] = "/path/" + "deep/" * 150 + "end"
    return targets


def clients(count: int) -> pl.Series:
    """An address of each visitor, from ranges that are set aside for tests and documentation; one in eight is IPv6."""

    def address(visitor: int) -> str:
        if visitor % 8 == 5:
            return f"2001:db8:{visitor % 9_973 + 1:x}::{visitor // 9_973 + 1:x}"
        # An odd factor scatters them, and no two share one.
        scattered = visitor * 40_503 % (1 << 17)
        return f"198.{scattered // 65_536 + 18}.{scattered // 256 % 256}.{scattered % 256}"

    return pl.Series(map(address, range(count)), dtype=pl.String)


def days(first: datetime, count: int) -> pl.Series:
    """What stands between a client and the time of day."""
    moments = [first + timedelta(days=number) for number in range(count)]
    return pl.Series([f" - - [{moment:%d}/{_MONTHS[moment.month - 1]}/{moment:%Y}:" for moment in moments])


def seconds_of_day() -> pl.Series:
    """The time of day up to the request, by seconds."""
    return pl.Series([f"{s // 3_600:02}:{s // 60 % 60:02}:{s % 60:02} +0000] " for s in range(86_400)])


def requests(targets: Sequence[str]) -> pl.Series:
    """Request and status, by method, target and status; after them, by themselves, what is no request."""
    asked = product((method for method, _ in METHODS), targets, (status for status, _ in STATUSES))
    return pl.Series([*(f'"{method} {target} HTTP/1.1" {status} ' for method, target, status in asked), *NO_REQUESTS])


def readers() -> pl.Series:
    """Referrer and user agent, whole ones and then those whose line is cut within the user agent, by both numbers."""
    whole = [f'{agent}"' for agent, _ in AGENTS]
    cut = [agent[: len(agent) // 2].rstrip("\\ ") for agent, _ in AGENTS]
    return pl.Series(
        [f' "{referrer}" "{agent}' for agents in (whole, cut) for (referrer, _), agent in product(REFERRERS, agents)]
    )
