"""What readers see of a view: batch rows and speed rows merged, of the live run and of each kept one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from psycopg import sql

from serving.schema_parts import batch_table, lines, names, speed_bucket, speed_table
from serving.stored_view import StoredView


def shown_sql(view: StoredView) -> str:
    """All that readers see of the view. It may be there already, with the same columns."""
    grant = sql.SQL("GRANT SELECT ON {}, {} TO reader;").format(sql.Identifier("public", view.name), _by_run(view))
    return lines([_merged_view(view), _batch_rows(view), _view_by_run(view), _as_of(view), grant]).as_string() + "\n"


def _by_run(view: StoredView) -> sql.Identifier:
    """The merged view as each kept run answers it, with kept_run_id."""
    return sql.Identifier("serving", f"{view.name}_by_run")


_LIVE_ROWS: LiteralString = (
    "JOIN serving.live_day AS d ON d.run_id = b.run_id AND d.day = (b.bucket AT TIME ZONE 'UTC')::date"
)


def _batch_rows(view: StoredView) -> sql.Composed:
    """Which buckets and keys the live runs have: each is a row of the merged view. For serving/native/questions.c."""
    return sql.SQL("\nCREATE OR REPLACE VIEW {} AS\nSELECT {} FROM {} AS b {};").format(
        sql.Identifier("serving", f"{view.name}_batch"),
        sql.SQL(", ").join(sql.Identifier("b", name) for name in view.group),
        batch_table(view),
        sql.SQL(_LIVE_ROWS),
    )


def _merged_view(view: StoredView) -> sql.Composed:
    """What readers ask: rows of the runs that are live for their day, and speed rows after the live cut."""
    return _merged(
        view,
        sql.Identifier("public", view.name),
        batch_source=_LIVE_ROWS,
        speed_source="LEFT JOIN serving.live_cut AS c ON c.partition = s.partition",
        # Says nothing more, but only this can the planner estimate, so that it passes over absorbed rows by their index.
        speed_filter="s.epoch > serving.absorbed_floor()",
    )


def _view_by_run(view: StoredView) -> sql.Composed:
    """The same for every kept run: rows of the runs that were live for their day then, and speed rows after its cut."""
    return _merged(
        view,
        _by_run(view),
        batch_source="JOIN serving.kept_day AS k ON k.run_id = b.run_id AND k.day = (b.bucket AT TIME ZONE 'UTC')::date",
        speed_source=(
            "CROSS JOIN serving.kept_publication AS k\n"
            "    LEFT JOIN serving.run_cut AS c ON c.run_id = k.kept_run_id AND c.partition = s.partition"
        ),
        more=("kept_run_id",),
    )


def _as_of(view: StoredView) -> sql.Composed:
    """A function that answers from one kept run; the planner takes it apart, so predicates reach the tables too."""
    return sql.SQL(
        """
CREATE OR REPLACE FUNCTION {function}(run_id bigint) RETURNS SETOF {view}
LANGUAGE sql STABLE
AS $function$
    -- Of no column, so it is asked once and first, whatever else is asked for.
    SELECT {columns} FROM {by_run} WHERE serving.require_kept($1) IS NOT NULL AND kept_run_id = $1
$function$;"""
    ).format(
        function=sql.Identifier("public", f"{view.name}_as_of"),
        view=sql.Identifier("public", view.name),
        columns=names((*view.schema.names(), *_parts(view))),
        by_run=_by_run(view),
    )


def _parts(view: StoredView) -> tuple[str, str]:
    """The columns that say how much of the first measure came from which half."""
    counted = view.measures[0].name
    return f"batch_{counted}", f"speed_{counted}"


def _merged(
    view: StoredView,
    name: sql.Identifier,
    batch_source: LiteralString,
    speed_source: LiteralString,
    speed_filter: LiteralString = "true",
    more: Iterable[str] = (),
) -> sql.Composed:
    batch_part, speed_part = map(sql.Identifier, _parts(view))
    group = (*more, *view.group)
    # Plain columns of both halves are grouping columns, so the planner takes predicates on them down to both tables.
    return sql.SQL(
        """
CREATE OR REPLACE VIEW {name} AS
SELECT {group},
    {measures},
    sum({batch_part})::bigint AS {batch_part}, sum({speed_part})::bigint AS {speed_part}
FROM (
    SELECT {batch_columns}, b.{counted} AS {batch_part}, 0::bigint AS {speed_part}
    FROM {batch} AS b
    {batch_source}
    UNION ALL
    SELECT {speed_columns}, 0, s.{counted}
    FROM {speed} AS s
    {speed_source}
    WHERE s.epoch > coalesce(c.epoch, 0) AND {speed_filter}
) AS halves
GROUP BY {group};"""
    ).format(
        name=name,
        group=names(group),
        measures=sql.SQL(",\n    ").join(
            sql.SQL("{} AS {}").format(
                sql.SQL(measure.sql_merge).format(sql.Identifier(measure.name)), sql.Identifier(measure.name)
            )
            for measure in view.measures
        ),
        batch_part=batch_part,
        speed_part=speed_part,
        counted=sql.Identifier(view.measures[0].name),
        batch_columns=_columns(view, sql.SQL("b.bucket").format(), "b", more),
        speed_columns=_columns(view, speed_bucket(view), "s", more),
        batch=batch_table(view),
        speed=speed_table(view),
        batch_source=sql.SQL(batch_source),
        speed_source=sql.SQL(speed_source),
        speed_filter=sql.SQL(speed_filter),
    )


def _columns(view: StoredView, bucket: sql.Composed, table: str, more: Iterable[str]) -> sql.Composed:
    """What a half gives; the view's schema begins with the bucket."""
    columns = [*(sql.Identifier("k", name) for name in more), sql.SQL("{} AS bucket").format(bucket)]
    return sql.SQL(", ").join(columns + [sql.Identifier(table, name) for name in view.schema.names()[1:]])
