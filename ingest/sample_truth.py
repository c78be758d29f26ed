"""What a right count of a sample log gives: views, visitors, bytes, errors and median latency, in all and by group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

FACTS = {
    "site": pl.UInt8,
    "page": pl.UInt16,
    "day": pl.UInt16,
    "visitor": pl.UInt32,
    "bytes_sent": pl.Int64,
    "is_error": pl.Boolean,
    "duration_ms": pl.UInt32,
}
"""Of one view. Site, page, day and visitor are numbers; `duration_ms` is null where its line does not tell."""

_GROUPS = {
    "by_site": ("site",),
    "by_day": ("site", "day"),
    "by_page": ("site", "page"),
    "by_page_and_day": ("site", "page", "day"),
}
_COUNTS = (
    pl.len().alias("views"),
    pl.col("visitor").n_unique().alias("visitors"),
    pl.col("bytes_sent").sum(),
    pl.col("is_error").sum().alias("errors"),
    # The least duration that half of them do not exceed.
    pl.col("duration_ms").quantile(0.5, "lower").cast(pl.Int64).alias("p50_ms"),
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """Of a whole log. A view is a line that is a request, each of them, also one that repeats another."""

    lines: int
    not_requests: int
    total: Row
    by_site: list[Row]
    by_day: list[Row]
    by_page: list[Row]
    by_page_and_day: list[Row]

    @classmethod
    def of(cls, lines: int, sites: Sequence[str], pages: Sequence[str], first_day: date, facts: pl.DataFrame) -> Truth:
        """Of views with the columns FACTS; a group's row has its names, then its counts, in the order of the names."""
        names = {"site": pl.Series(sites), "page": pl.Series(pages)}
        groups = {}
        for name, keys in _GROUPS.items():
            rows = facts.group_by(keys).agg(_COUNTS).sort(keys)
            texts = [names[key].gather(rows[key]).alias(key) for key in keys if key in names]
            if "day" in keys:
                days = [(first_day + timedelta(days=number)).isoformat() for number in rows["day"]]
                texts.append(pl.Series("day", days, pl.String))
            groups[name] = rows.with_columns(texts).to_dicts()
        return cls(lines, lines - len(facts), facts.select(_COUNTS).row(0, named=True), **groups)

    def text(self) -> str:
        """For people, on one line."""
        total = self.total
        return (
            f"{self.lines:,} lines, {self.not_requests:,} of them no request: {total['views']:,} views of "
            f"{total['visitors']:,} visitors, {total['errors']:,} errors, {total['bytes_sent']:,} bytes"
        )

    def json(self) -> str:
        """A line for each row."""
        parts = []
        for name, value in asdict(self).items():
            text = json.dumps(value, ensure_ascii=False)
            parts.append(f"{json.dumps(name)}: " + (text.replace("}, {", "},\n  {") if isinstance(value, list) else text))
        return "{\n " + ",\n ".join(parts) + "\n}\n"
