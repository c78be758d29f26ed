"""What every client is asked: one value of each type that readers have, of rows that are known to the last digit."""

from __future__ import annotations

from dataclasses import dataclass

MANY, QUIET = "many", "quiet"
"""Sites: one whose sum of bytes has 16 digits, and one whose only event has no duration."""


@dataclass(frozen=True)
class Question:
    """One column of the view's only row of a site."""

    kind: str
    view: str
    column: str
    site: str = MANY

    @property
    def sql(self) -> str:
        return f"select {self.column} as answer from {self.view} where site = '{self.site}'"


QUESTIONS = (
    Question("bigint", "site_traffic", "bytes_sent"),
    Question("double precision", "site_traffic", "latency_p95"),
    Question("timestamptz", "site_traffic", "bucket"),
    Question("date", "site_traffic_by_day", "day"),
    Question("text", "page_traffic", "page"),
    Question("null", "site_traffic", "latency_p95", QUIET),
    Question("numeric", "site_traffic", "sum(bytes_sent)"),
    Question("hll", "site_traffic_sketches", "visitors"),
    Question("histogram", "site_traffic_sketches", "latency"),
)
