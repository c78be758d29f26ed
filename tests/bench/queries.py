"""How fast SQL answers, and what the answers need on disk, as history grows a hundredfold."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from hdfs import InsecureClient

from contract.master import MASTER
from contract.views import VIEWS, with_rollups
from serving.database import connect
from tests.bench.place import Place
from tests.bench.report import Row
from tests.bench.rounds import Spread

_EVENTS, _TIMES, _DAYS = 50_000, 100, 90
# As many events once more, in so few days that a row stands for many.
_DENSE_DAYS = 3
_ASKED = 200
_SITE, _PAGE = "www.example.com", "/news/8"
_ONE_PAGE = f"""
SELECT day, visitors, latency_p95 FROM page_traffic_by_day
WHERE site = '{_SITE}' AND page = '{_PAGE}' AND day > current_date - {_DAYS} ORDER BY day"""
_ONE_PAGE_OF_HOURS = f"""
SELECT time_bucket('1 day', bucket) AS day, merged_count(visitors), merged_percentile(0.95, latency)
FROM page_traffic_sketches WHERE site = '{_SITE}' AND page = '{_PAGE}' AND bucket >= now() - interval '{_DAYS} days'
GROUP BY day ORDER BY day"""
_TOP_PAGES = """
SELECT page, sum(views) AS views, merged_count(visitors) FROM {view}
WHERE site = '{site}' AND {recent} GROUP BY page ORDER BY views DESC LIMIT 20"""


def queries(place: Place, rounds: int) -> Iterator[Row]:
    """History a hundredfold: a run after 1 % new events; p99 of a page in 90 days and of a week's top 20; bytes an event.

    Queries come after those runs: the first of them still keep, for a rollback, the speed rows of all history, which nobody
    has who does not send it at once.
    """
    place.start_anew()
    small = _history(place, _EVENTS)
    few, few_s = _after_new_events(place, rounds)
    one_page = _p99_ms(place, _ONE_PAGE, rounds)
    large = _history(place, _EVENTS * (_TIMES - 1))
    at_once = _p99_ms(place, _ONE_PAGE, rounds)
    many, many_s = _after_new_events(place, rounds)
    one_page_of_many, of_hours = _p99_ms(place, _ONE_PAGE, rounds), _p99_ms(place, _ONE_PAGE_OF_HOURS, rounds)
    top_pages, top_pages_of_hours = (
        _p99_ms(place, _TOP_PAGES.format(site=_SITE, view=view, recent=recent), rounds)
        for view, recent in (
            ("page_traffic_by_day_sketches", "day >= current_date - 7"),
            ("page_traffic_sketches", "bucket >= now() - interval '7 days'"),
        )
    )
    value = Spread.of([of_many / of_few for of_many, of_few in zip(many_s, few_s, strict=True)])
    yield Row("batch after 1 % new: growth", value, "x", "<= 1.5", value.median <= 1.5)
    yield Row("batch after 1 % new", Spread.of(many_s), "s")
    growth = Spread.of([of_many / of_few for of_many, of_few in zip(one_page_of_many, one_page, strict=True)])
    yield Row("one page, 90 days: growth", growth, "x", "<= 1.3", growth.median <= 1.3)
    value = Spread.of(one_page_of_many)
    yield Row("one page, 90 days: p99", value, "ms", "<= 30", value.median <= 30)
    yield Row("the same after the run that took it all", Spread.of(at_once), "ms")
    yield Row("the same from rows of hours", Spread.of(of_hours), "ms")
    value = Spread.of(top_pages)
    yield Row("top 20 pages, 7 days: p99", value, "ms", "<= 250", value.median <= 250)
    yield Row("top 20 pages from rows of hours", Spread.of(top_pages_of_hours), "ms")
    events = small + few + large + many
    on_hdfs = InsecureClient(place.stack.settings.webhdfs_url, user="braid").content(
        f"{place.stack.settings.archive_root}/{MASTER}"
    )["length"]
    in_views = _bytes_in_views(place)
    for name, stored, most in (("bytes an event on HDFS", on_hdfs, 40), ("bytes an event in views", in_views, 8)):
        each = stored / events
        yield Row(name, Spread.of([each]), "bytes", f"<= {most}", each <= most)
    dense = _history(place, _EVENTS * _TIMES, _DENSE_DAYS)
    value = Spread.of([(_bytes_in_views(place) - in_views) / dense])
    yield Row(f"the same of events {_DAYS // _DENSE_DAYS} x as dense", value, "bytes")


def _bytes_in_views(place: Place) -> int:
    """Rows, indexes and what is kept for a rollback."""
    return sum(
        place.stack.ask(f"SELECT hypertable_size('serving.batch_{view.name}')", role="postgres")[0][0]
        for view in with_rollups(VIEWS)
    )


def _history(place: Place, events: int, days: int = _DAYS) -> int:
    """Send that many, wait until they are everywhere, and let a batch run take them over; returns how many were sent."""
    sent = place.send(events, days)
    place.batch_run_s()
    return sent


def _after_new_events(place: Place, rounds: int) -> tuple[int, list[float]]:
    """How many events were sent, and the seconds of the batch run after each hundredth part of the large history."""
    sent, seconds = 0, []
    for _ in range(rounds):
        sent += place.send(_EVENTS * _TIMES // 100, 1)
        seconds.append(place.batch_run_s())
    return sent, seconds


def _p99_ms(place: Place, query: str, rounds: int) -> list[float]:
    """Of each round; the first answers of a session, which plan and warm up, are in it.

    Asked when autovacuum has done its work: what comes right after a run that has written all of history is no rule.
    """
    vacuuming = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    place.until(lambda: not place.stack.ask(vacuuming, role="postgres"))
    worst_ms = []
    for _ in range(rounds):
        with connect(place.stack.settings, "reader") as reader:
            taken_ms = []
            for _ in range(_ASKED):
                started_s = time.monotonic()
                assert reader.execute(query).fetchall(), f"no rows: {query}"  # type: ignore[arg-type]
                taken_ms.append(1_000 * (time.monotonic() - started_s))
        worst_ms.append(float(np.percentile(taken_ms, 99)))
    return worst_ms
