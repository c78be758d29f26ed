"""What is worth watching and only the database knows, beside what `status` shows: quarantine, runs, publications, drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg.rows import dict_row

from serving.database import Connection, answering


@dataclass(frozen=True)
class Facts:
    """`quarantined` is by reason, `runs` by kind and state. Times are seconds since 1970, as Prometheus has them.

    None is what there has never been.
    """

    quarantined: dict[str, int]
    runs: dict[tuple[str, str], int]
    live_run_id: int | None
    published_s: float | None
    last_run: dict[str, Any] | None
    wrong_views: int


def quarantined(connection: Connection) -> dict[str, int]:
    """Records that are no events, by reason, most of them first. It takes as long as the quarantine is large."""
    return dict(
        connection.execute(
            "SELECT reason, count(*) AS records FROM quarantine GROUP BY reason ORDER BY records DESC, reason"
        ).fetchall()
    )


def read_facts(connection: Connection) -> Facts:
    """Role reader. It counts the quarantine, which takes as long as that is large."""
    with answering(connection), connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        by_reason = quarantined(connection)
        runs = cursor.execute("SELECT kind, state, count(*) AS runs FROM runs GROUP BY kind, state").fetchall()
        live = cursor.execute(
            "SELECT run_id, extract(epoch FROM published_at)::float8 AS published_s FROM runs WHERE is_live"
        ).fetchone()
        last_run = cursor.execute(
            "SELECT run_id, kind, state, extract(epoch FROM duration)::float8 AS duration_s, days, rows, events "
            "FROM runs WHERE kind <> 'audit' AND state <> 'running' ORDER BY run_id DESC LIMIT 1"
        ).fetchone()
        wrong = cursor.execute(
            "SELECT count(*) AS views FROM drift_summary "
            "WHERE verdict = 'wrong' AND run_id = (SELECT max(run_id) FROM drift_summary)"
        ).fetchone()
    return Facts(
        quarantined=by_reason,
        runs={(row["kind"], row["state"]): row["runs"] for row in runs},
        live_run_id=live["run_id"] if live else None,
        published_s=live["published_s"] if live else None,
        last_run=last_run,
        wrong_views=wrong["views"] if wrong else 0,
    )
