"""Page views: the event, and the views of it. A view or a field is added here and nowhere else.

A new field comes last, and is optional, or no event of before is one any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from contract.fields import Double, Integer, Text, Timestamp
from contract.keys import Host
from contract.measures import Count, Distinct, Measure, Quantiles, Sum
from contract.stream import Stream
from contract.view import View

MAX_PAGE_LENGTH = 2_048
MAX_BYTES_SENT = 1 << 40  # so that 8 million of the largest responses fit the 64-bit sum of one bucket
MAX_DURATION_MS = 86_400_000
EVENT_ID_LENGTH, SITE_LENGTH, VISITOR_ID_LENGTH = 256, 253, 128

# What several views have is worked out of the events once, if it is one object.
_COUNTED, _VISITORS = Count("views"), Distinct("visitors", of="visitor_id")
TRAFFIC: Sequence[Measure] = (
    _COUNTED,
    Count("errors", where=pl.col("status") >= 500),
    Sum("bytes_sent"),
    _VISITORS,
    Quantiles("latency", of="duration_ms"),
)

VIEWS: tuple[View, ...] = (
    View("site_traffic", keys=("site",), bucket=timedelta(minutes=1), measures=tuple(TRAFFIC), by_day=True),
    View("page_traffic", keys=("site", "page"), bucket=timedelta(hours=1), measures=tuple(TRAFFIC), by_day=True),
    View(
        "referrers", keys=("site", "referrer_host"), bucket=timedelta(hours=1), measures=(_COUNTED, _VISITORS), by_day=True
    ),
)
REFERRER_HOST = Host(
    "referrer_host",
    "referrer",
    meaning="the host name in the referrer, in lower case; empty if there is none, as of a direct visit, and the site "
    "itself where somebody went on from one of its pages to another",
)

PAGE_VIEWS = Stream(
    "page_views",
    "One page view",
    topic="pageviews",
    fields=(
        Text("event_id", "source + position; the same id on one day counts once", EVENT_ID_LENGTH, repeats=False),
        Timestamp("event_time", "RFC 3339 with offset, 1970 or later, at most one day ahead of the broker"),
        Text("site", "the web site, e.g. its host name", SITE_LENGTH),
        Text("page", "the request target", MAX_PAGE_LENGTH),
        Text("visitor_id", "a pseudonym; also the Kafka key", VISITOR_ID_LENGTH),
        Integer("status", "HTTP status", 100, 599, repeats=True),
        Integer("bytes_sent", "size of the response body", 0, MAX_BYTES_SENT),
        Double("duration_ms", "time to serve it, if known", 0, MAX_DURATION_MS, optional=True),
        Text("referrer", "where the visitor came from, if known", MAX_PAGE_LENGTH, optional=True),
        Text("user_agent", "the client's own name, if known", MAX_PAGE_LENGTH, optional=True),
    ),
    identity=("event_id",),
    time="event_time",
    key="visitor_id",
    derived=(REFERRER_HOST,),
    views=VIEWS,
)
