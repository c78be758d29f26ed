"""python -m tests.age: how long readers wait for answers from a database as years leave it.

Of the database that the environment names, which is made if it is not there; one that is there is asked as it is. Given
several names, all are asked in turn, so that two versions of the schema are compared in one run: `python -m tests.age before
after`, of which an older checkout has made the first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from contract.settings import Settings
from serving.database import Connection, connect
from serving.migrate import migrate
from tests.age.database import dense_day, thin_history

_DAYS, _EVENTS_A_DAY = 1_070, 1_093
QUESTIONS = {
    "a site's total and visitors, all history": (
        "SELECT sum(views), merged_count(visitors) FROM site_traffic_sketches WHERE site = 'site-3'"
    ),
    "its top pages with visitors and p95, all history": (
        "SELECT page, sum(views) AS views, merged_count(visitors), merged_percentile(0.95, latency) "
        "FROM page_traffic_sketches WHERE site = 'site-3' GROUP BY page ORDER BY views DESC LIMIT 10"
    ),
    "its rows of the last hour": ("SELECT * FROM page_traffic WHERE site = 'site-3' AND bucket > now() - interval '1 hour'"),
    "the newest five rows of all pages": "SELECT * FROM page_traffic ORDER BY bucket DESC LIMIT 5",
    "the newest five, by day": "SELECT * FROM page_traffic_by_day ORDER BY day DESC LIMIT 5",
    "views a day, 30 days, all sites": (
        "SELECT day, sum(views) FROM site_traffic_by_day WHERE day > current_date - 30 GROUP BY day"
    ),
    "p95 a day, all history, all sites": (
        "SELECT day, merged_percentile(0.95, latency) FROM site_traffic_by_day_sketches GROUP BY day"
    ),
}


def main() -> None:
    """Prints p50, p99 and, in brackets, the first answer of a session, of each question and database, in ms."""
    parser = argparse.ArgumentParser(prog="python -m tests.age", description=__doc__)
    parser.add_argument("databases", nargs="*", help="names of databases (default: the environment's)")
    parser.add_argument("--asked", type=int, default=20, help="times that each question is asked (default: %(default)s)")
    arguments = parser.parse_args()
    settings = Settings.from_env()
    databases = [replace(settings, database_name=name) for name in arguments.databases or [settings.database_name]]
    for one in databases:
        if not _is_there(one):
            migrate(one)
            _age(one)
    for name, question in QUESTIONS.items():
        taken_ms = [_taken_ms(one, question, arguments.asked) for one in databases]
        figures = "  ".join(f"{np.median(ms):9.1f} {np.percentile(ms, 99):9.1f} ({ms[0]:.1f})" for ms in taken_ms)
        print(f"{name:50} {figures}", flush=True)


def _is_there(settings: Settings) -> bool:
    with connect(settings, "postgres", "postgres") as server:
        return bool(server.execute("SELECT FROM pg_database WHERE datname = %s", [settings.database_name]).rowcount)


def _age(settings: Settings) -> None:
    thin_history(settings, _DAYS, _EVENTS_A_DAY)
    dense_day(settings, 400_000, 2_000, 2_500, merged=False, fresh=20_000)
    with connect(settings, "postgres") as owner:
        owner.execute("ANALYZE")


def _taken_ms(settings: Settings, question: str, asked: int) -> Sequence[float]:
    with connect(settings, "reader") as reader:
        return [_once_ms(reader, question) for _ in range(asked)]


def _once_ms(reader: Connection, question: str) -> float:
    started_s = time.monotonic()
    assert reader.execute(question.encode()).fetchall(), f"no rows: {question}"
    return 1_000 * (time.monotonic() - started_s)


if __name__ == "__main__":
    main()
