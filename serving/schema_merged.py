"""What readers see of a view: batch rows and speed rows merged, of the live run and of each kept one.

`serving.<view>_merged` is the merge, with sketches. Readers are shown columns of it: `<view>` has plain numbers, which every
client reads, and `<view>_sketches` what merges further. Where rows are of a day both say so with a date, `day`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from psycopg import sql

from serving.schema_parts import batch_table, lines, names, speed_bucket, speed_table, type_name
from serving.stored_view import StoredView


def shown_sql(view: StoredView) -> str:
    """All that readers see of the view. It may be there already, with the same columns."""
    public = (view.name, view.sketches)
    parts = [_earlier_names(view), _merged_view(view), _batch_rows(view), _view_by_run(view)]
    parts += [make(view, name) for make in (_shown, _as_of) for name in public]
    if view.shown_group[0] == "bucket":
        parts += [_local_days(view, name) for name in public]
    parts.append(_comments(view))
    parts.append(
        sql.SQL("GRANT SELECT ON {}, {} TO reader;").format(
            sql.SQL(", ").join(sql.Identifier("public", name) for name in public), _by_run(view)
        )
    )
    return lines(parts).as_string() + "\n"


def _merged_name(view: StoredView) -> sql.Identifier:
    return sql.Identifier("serving", f"{view.name}_merged")


def _by_run(view: StoredView) -> sql.Identifier:
    """The merged view as each kept run answers it, with kept_run_id."""
    return sql.Identifier("serving", f"{view.name}_by_run")


def _earlier_names(view: StoredView) -> sql.Composed:
    """An older schema had the sketches under the plain name. What somebody made of such a view goes on with what it had."""
    return sql.SQL(
        """
DO $block$
BEGIN
    IF to_regclass({plain_text}) IS NOT NULL AND to_regclass({merged_text}) IS NULL THEN
        ALTER VIEW {plain} RENAME TO {merged};
        ALTER VIEW {renamed} SET SCHEMA serving;
        REVOKE ALL ON {now} FROM reader;
        DROP FUNCTION IF EXISTS {as_of}(bigint);
    END IF;
END
$block$;"""
    ).format(
        plain_text=sql.Literal(f"public.{view.name}"),
        merged_text=sql.Literal(f"serving.{view.name}_merged"),
        plain=sql.Identifier("public", view.name),
        merged=sql.Identifier(f"{view.name}_merged"),
        renamed=sql.Identifier("public", f"{view.name}_merged"),
        now=_merged_name(view),
        as_of=sql.Identifier("public", f"{view.name}_as_of"),
    )


_UNITS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_LIVE_ROWS: LiteralString = (
    "JOIN serving.live_day AS d ON d.run_id = b.run_id AND d.day = (b.bucket AT TIME ZONE 'UTC')::date"
)


def _batch_rows(view: StoredView) -> sql.Composed:
    """Which buckets and keys the live runs have: each is a row of the merged view. For serving/native/questions.c."""
    # Its first column was the bucket once, where it is the day now.
    name = sql.Identifier("serving", f"{view.name}_batch")
    return sql.SQL(
        "\nDROP VIEW IF EXISTS {name};\nCREATE VIEW {name} AS\nSELECT {columns} FROM {batch} AS b\n    {live};"
    ).format(
        name=name,
        columns=sql.SQL(", ").join(column.value for column in _columns_by_name(view)[view.name][: len(view.group)]),
        batch=batch_table(view),
        live=sql.SQL(_LIVE_ROWS),
    )


def _merged_view(view: StoredView) -> sql.Composed:
    """The rows of the runs that are live for their day, and speed rows after the live cut."""
    return _merged(
        view,
        _merged_name(view),
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


@dataclass(frozen=True)
class _Column:
    """What readers have: a name and a type, how it is made of the merged row, and what it means."""

    name: str
    sql_type: LiteralString
    value: sql.Composed
    meaning: str


def _columns_by_name(view: StoredView) -> dict[str, list[_Column]]:
    """By the name of a view that readers ask, its columns."""
    in_days = view.shown_group[0] == "day"
    first = (
        _Column("day", "date", sql.SQL("(bucket AT TIME ZONE 'UTC')::date AS day").format(), "the day, in UTC")
        if in_days
        else _Column(
            "bucket",
            "timestamptz",
            sql.SQL("bucket").format(),
            f"when the row's time begins, in UTC; it is {_width(view)} long",
        )
    )
    keys = [_column(key.name, "text", f"a key: {key.meaning or 'rows are told apart by it'}") for key in view.grouped_by]
    plain = [
        _Column(
            column.name,
            column.sql_type,
            sql.SQL("{} AS {}").format(
                sql.SQL(column.sql).format(sql.Identifier(measure.name)), sql.Identifier(column.name)
            ),
            column.meaning,
        )
        for measure in view.measures
        for column in measure.plain
    ]
    stored = [_column(measure.name, type_name(measure.sql_type), measure.meaning) for measure in view.measures]
    counted = view.measures[0].name
    parts = [
        _column(name, "bigint", f"how many of {counted} {half}")
        for name, half in zip(_parts(view), ("published runs have counted", "came since, by the speed layer"), strict=True)
    ]
    return {view.name: [first, *keys, *plain, *parts], view.sketches: [first, *keys, *stored, *parts]}


def _column(name: str, sql_type: LiteralString, meaning: str) -> _Column:
    return _Column(name, sql_type, sql.SQL("{}").format(sql.Identifier(name)), meaning)


def _values(view: StoredView, name: str) -> sql.Composed:
    return sql.SQL(", ").join(column.value for column in _columns_by_name(view)[name])


def _width(view: StoredView) -> str:
    """The bucket in words: 1 minute, 6 hours."""
    seconds = view.bucket // timedelta(seconds=1)
    number, unit = next((seconds // size, unit) for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _shown(view: StoredView, name: str) -> sql.Composed:
    return sql.SQL("\nCREATE OR REPLACE VIEW {} AS\nSELECT {} FROM {};").format(
        sql.Identifier("public", name), _values(view, name), _merged_name(view)
    )


def _as_of(view: StoredView, name: str) -> sql.Composed:
    """A function that answers from one kept run; the planner takes it apart, so predicates reach the tables too."""
    return sql.SQL(
        """
CREATE OR REPLACE FUNCTION {function}(run_id bigint) RETURNS SETOF {view}
LANGUAGE sql STABLE
BEGIN ATOMIC
    -- Of no column, so it is asked once and first, whatever else is asked for.
    SELECT {columns} FROM {by_run} WHERE serving.require_kept($1) IS NOT NULL AND kept_run_id = $1;
END;"""
    ).format(
        function=sql.Identifier("public", f"{name}_as_of"),
        view=sql.Identifier("public", name),
        columns=_values(view, name),
        by_run=_by_run(view),
    )


def _local_days(view: StoredView, name: str) -> sql.Composed:
    """A function that adds rows up to the days of a time zone; a row that lies on two of them is refused."""
    columns = _columns_by_name(view)[name]
    return sql.SQL(
        """
CREATE OR REPLACE FUNCTION {function}(zone text, first_day date DEFAULT NULL, next_day date DEFAULT NULL)
RETURNS TABLE (day date, {types})
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT {columns}
    FROM (
        SELECT local.day, {keys}{measures},
            sum({batch_part})::bigint AS {batch_part}, sum({speed_part})::bigint AS {speed_part}
        FROM {sketches} AS r
        CROSS JOIN LATERAL (SELECT serving.local_day(r.bucket, $1, interval {width}, {name}) AS day) AS local
        -- No zone is a day from UTC, so the index finds the rows, and the day itself decides.
        WHERE ($2 IS NULL OR (r.bucket >= ($2 - 1)::timestamp AT TIME ZONE 'UTC' AND local.day >= $2))
            AND ($3 IS NULL OR (r.bucket < ($3 + 1)::timestamp AT TIME ZONE 'UTC' AND local.day < $3))
        GROUP BY local.day{grouped}
    ) AS days;
END;"""
    ).format(
        function=sql.Identifier("public", f"{name}_local_days"),
        types=sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.sql_type)) for c in columns[1:]),
        columns=sql.SQL(", ").join([sql.Identifier("day"), *(column.value for column in columns[1:])]),
        keys=sql.Composed([sql.SQL("{}, ").format(sql.Identifier("r", key)) for key in view.keys]),
        measures=_merges(view),
        batch_part=sql.Identifier(_parts(view)[0]),
        speed_part=sql.Identifier(_parts(view)[1]),
        sketches=sql.Identifier("public", view.sketches),
        width=sql.Literal(f"{view.bucket // timedelta(seconds=1)} seconds"),
        name=sql.Literal(view.name),
        grouped=sql.Composed([sql.SQL(", {}").format(sql.Identifier("r", key)) for key in view.keys]),
    )


def _comments(view: StoredView) -> sql.Composed:
    """Of each view, column and function; clients and psql show them."""
    rows_of = f"a row per {view.shown_group[0]} (UTC) and {', '.join(view.keys)}" if view.keys else "a row per bucket (UTC)"
    merged = "batch and speed rows merged, exact at every moment"
    keys = "".join(f". {key.name} is {key.meaning}" for key in view.grouped_by if key.meaning)
    whats = {
        view.name: f"{rows_of}: plain numbers; {merged}. Numbers that merge further are in {view.sketches}{keys}",
        view.sketches: f"{rows_of}: sketches, to be merged over several rows; {merged}. Plain in {view.name}{keys}",
    }
    statements: list[sql.Composed] = []
    for name, what in whats.items():
        statements.append(sql.SQL("COMMENT ON VIEW {} IS {};").format(sql.Identifier("public", name), sql.Literal(what)))
        statements += [
            sql.SQL("COMMENT ON COLUMN {} IS {};").format(
                sql.Identifier("public", name, column.name), sql.Literal(column.meaning)
            )
            for column in _columns_by_name(view)[name]
        ]
        statements.append(
            sql.SQL("COMMENT ON FUNCTION {}(bigint) IS {};").format(
                sql.Identifier("public", f"{name}_as_of"),
                sql.Literal(f"{name} as an earlier run, one that runs.is_kept, would answer it now"),
            )
        )
        if view.shown_group[0] == "bucket":
            statements.append(
                sql.SQL("COMMENT ON FUNCTION {}(text, date, date) IS {};").format(
                    sql.Identifier("public", f"{name}_local_days"),
                    sql.Literal(
                        f"{name} added up to days of a time zone, from first_day on and before next_day if given; refused "
                        "where a day begins within a row"
                    ),
                )
            )
    # serving/native/zones.c reads how long rows are.
    width = sql.Literal(f"rows of {view.bucket // timedelta(seconds=1)} s")
    statements.append(sql.SQL("COMMENT ON VIEW {} IS {};").format(_merged_name(view), width))
    by_run = f"{view.name}_by_run"
    statements.append(
        sql.SQL("COMMENT ON VIEW {} IS {};").format(
            _by_run(view), sql.Literal(f"{view.sketches} by kept run; {view.name}_as_of(run_id) asks it")
        )
    )
    columns = [("kept_run_id", "the run that answers"), *((name, "as in " + view.sketches) for name in view.schema.names())]
    statements += [
        sql.SQL("COMMENT ON COLUMN {} IS {};").format(sql.Identifier("serving", by_run, name), sql.Literal(meaning))
        for name, meaning in [*columns, *((name, "as in " + view.sketches) for name in _parts(view))]
    ]
    return lines(statements)


def _parts(view: StoredView) -> tuple[str, str]:
    """Which part of the first measure came from which half."""
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
        measures=_merges(view),
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


def _merges(view: StoredView) -> sql.Composed:
    """The measures of a group of rows."""
    return sql.SQL(",\n    ").join(
        sql.SQL("{} AS {}").format(
            sql.SQL(measure.sql_merge).format(sql.Identifier(measure.name)), sql.Identifier(measure.name)
        )
        for measure in view.measures
    )


def _columns(view: StoredView, bucket: sql.Composed, table: str, more: Iterable[str]) -> sql.Composed:
    """What a half gives; the view's schema begins with the bucket."""
    columns = [*(sql.Identifier("k", name) for name in more), sql.SQL("{} AS bucket").format(bucket)]
    return sql.SQL(", ").join(columns + [sql.Identifier(table, name) for name in view.schema.names()[1:]])
