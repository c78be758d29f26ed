"""What the page asks the database, as role reader: plain views for sums, sketches where visitors or latency are merged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import sql
from psycopg.rows import dict_row

from contract.views import VIEWS
from serving.database import Connection
from serving.facts import quarantined
from serving.page.scope import Scope
from serving.page.series import Row

_TOP = 20
_RUNS = 12
_SAMPLES = 3


def series(connection: Connection, scope: Scope, since: datetime) -> list[Row]:
    """Rows of the range's step from `since` on, in order."""
    step = scope.range.step.total_seconds()
    statement: LiteralString = """
        SELECT floor(extract(epoch FROM {time}) / {step})::bigint * {step}::bigint, total(batch_views), total(speed_views),
            total(errors), merged_count(visitors), approx_percentile(0.5, sketch_merge(latency)),
            approx_percentile(0.95, sketch_merge(latency)), approx_percentile(0.99, sketch_merge(latency))
        FROM {view} WHERE {where} GROUP BY 1 ORDER BY 1"""
    return [Row(*row) for row in _scoped(connection, "site_traffic", statement, scope, since, step=sql.Literal(int(step)))]


def totals(connection: Connection, scope: Scope, since: datetime) -> dict[str, Any]:
    """Of the whole range, since rows share visitors."""
    statement: LiteralString = """
        SELECT merged_count(visitors), total(bytes_sent), approx_percentile(0.5, sketch_merge(latency)),
            approx_percentile(0.95, sketch_merge(latency)), approx_percentile(0.99, sketch_merge(latency))
        FROM {view} WHERE {where}"""
    (row,) = _scoped(connection, "site_traffic", statement, scope, since)
    return dict(zip(("visitors", "bytes_sent", "p50_ms", "p95_ms", "p99_ms"), row, strict=True))


def top_pages(connection: Connection, scope: Scope, since: datetime) -> list[dict[str, Any]]:
    """The pages with most views; visitors and latency are merged of these alone."""
    statement: LiteralString = """
        WITH top AS (
            SELECT site, page, total(views) AS views, total(errors) AS errors FROM {plain} WHERE {where}
            GROUP BY site, page ORDER BY views DESC, site, page LIMIT {top})
        SELECT top.site, top.page, top.views, top.errors, merged_count(s.visitors),
            approx_percentile(0.95, sketch_merge(s.latency))
        FROM top JOIN (SELECT * FROM {view} WHERE {where}) AS s ON s.site = top.site AND s.page = top.page
        GROUP BY top.site, top.page, top.views, top.errors ORDER BY top.views DESC, top.site, top.page"""
    rows = _scoped(connection, "page_traffic", statement, scope, since, top=sql.Literal(_TOP))
    names = ("site", "page", "views", "errors", "visitors", "p95_ms")
    return [dict(zip(names, row, strict=True)) for row in rows]


def referrer_view() -> str | None:
    """The view of the catalogue that counts by where visitors of a site came from; None if there is none."""
    return next((view.name for view in VIEWS if {"site", "referrer_host"} <= set(view.keys)), None)


def top_referrers(connection: Connection, scope: Scope, since: datetime) -> list[dict[str, Any]]:
    """The hosts that most views came from, without the site itself; the empty one stands for direct visits."""
    view = referrer_view()
    if view is None:
        return []
    # guard: a site is no referrer of its own
    statement: LiteralString = """
        SELECT referrer_host, total(views) AS views, merged_count(visitors)
        FROM {view} WHERE {where} AND referrer_host <> lower(site)
        GROUP BY referrer_host ORDER BY views DESC, referrer_host LIMIT {top}"""
    rows = _scoped(connection, view, statement, scope, since, top=sql.Literal(_TOP))
    return [dict(zip(("referrer_host", "views", "visitors"), row, strict=True)) for row in rows]


def sites(connection: Connection) -> list[str]:
    """Those that have views, the largest first."""
    rows = connection.execute(
        "SELECT site FROM site_traffic_by_day GROUP BY site ORDER BY total(views) DESC, site LIMIT 200"
    ).fetchall()
    return [site for (site,) in rows]


def positions(connection: Connection) -> dict[int, tuple[int, int]]:
    """By partition how far the speed layer is, as Braid counts, and how much more that is than Kafka's own offset."""
    rows = connection.execute("SELECT partition, next_offset, shift FROM log_positions").fetchall()
    return {partition: (next_offset, shift) for partition, next_offset, shift in rows}


def ledger(connection: Connection) -> dict[str, Any]:
    """Of each partition where its records went, and how many of those that are counted a batch run has counted."""
    partitions = _dicts(connection, "SELECT * FROM ledger ORDER BY partition")
    (batch,) = _dicts(connection, "SELECT coalesce(total(batch_views), 0) AS counted FROM site_traffic_by_day")
    return {"partitions": partitions, "batch_counted": batch["counted"]}


def runs(connection: Connection) -> dict[str, Any]:
    """The last runs, and the one that the views answer from, whose beginning is the seam."""
    rows = _dicts(
        connection,
        "SELECT run_id, kind, state, extract(epoch FROM started_at)::float8 AS started_s, "
        "extract(epoch FROM duration)::float8 AS duration_s, days, events, error, is_live, is_kept, step, tasks_done, tasks "
        f"FROM runs ORDER BY run_id DESC LIMIT {_RUNS}",
    )
    live = _dicts(connection, "SELECT run_id, extract(epoch FROM started_at)::float8 AS started_s FROM runs WHERE is_live")
    return {"runs": rows, "live": live[0] if live else None}


def quarantine(connection: Connection) -> list[dict[str, Any]]:
    """How many records are no events, by reason, and the last ones of each."""
    found: list[dict[str, Any]] = [
        {"reason": reason, "records": records} for reason, records in quarantined(connection).items()
    ]
    for reason in found:
        reason["samples"] = _dicts(
            connection,
            'SELECT partition, "offset", extract(epoch FROM kafka_time)::float8 AS at_s, detail, value_bytes '
            f'FROM quarantine WHERE reason = %s ORDER BY kafka_time DESC, partition, "offset" DESC LIMIT {_SAMPLES}',
            [reason["reason"]],
        )
    return found


def _dicts(connection: Connection, statement: LiteralString, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, parameters).fetchall()


def _scoped(
    connection: Connection, view: str, statement: LiteralString, scope: Scope, since: datetime, **more: sql.Composable
) -> list[tuple[Any, ...]]:
    """The statement with {plain} and {view}, plain numbers and sketches of the view, and {where}, the scope's condition."""
    # Who declares a view need not declare its rows of days.
    by_day = scope.range.by_day and any(one.by_day for one in VIEWS if one.name == view)
    plain = f"{view}_by_day" if by_day else view
    time = sql.SQL("day") if by_day else sql.SQL("bucket")
    conditions = [sql.SQL("{} >= {}").format(time, sql.Literal(since.date() if by_day else since))]
    if scope.site:
        conditions.append(sql.SQL("site = {}").format(sql.Literal(scope.site)))
    query = sql.SQL(statement).format(
        plain=sql.Identifier(plain),
        view=sql.Identifier(f"{plain}_sketches"),
        where=sql.SQL(" AND ").join(conditions),
        time=time,
        **more,
    )
    return connection.execute(query).fetchall()
