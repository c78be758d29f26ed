"""The database's SQL: numbered files in sql/, and between them (30, 72) what follows from the catalogue of views.

Of each view there are: `serving.<view>_row`, the type in which rows come; `serving.batch_<view>` and `serving.speed_<view>`,
where they stay, `serving.batch_<view>_v2` and so on of later versions; `public.<view>`, which merges what is live; and
`public.<view>_as_of(run_id)`, which merges what was live with an earlier run and what came since. A rollup has batch rows of
its own, and the speed rows of the view that it is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import LiteralString

from psycopg import sql

from contract.errors import CatalogueError
from contract.measures import Measure
from serving.schema_merged import shown_sql
from serving.schema_parts import (
    attribute_definitions,
    batch_table,
    column_definitions,
    function,
    indexes,
    lines,
    names,
    row_type,
    speed_bucket,
    speed_table,
)
from serving.schema_speed import speed_half
from serving.stored_view import StoredView

# A query is planned chunk by chunk, whatever it asks for, so the years of a history should not be many chunks.
_CHUNK_DAYS = 90
DRIFT_ROWS = 1_000
"""So many rows that differ are kept of a run and view."""
_NATIVE = "_native.sql"
"""The files whose functions are of our module end so."""
_CATALOGUE_PLACE, _SHOWN_PLACE = "30", "72"
# The last two are columns of older schemas, which a migration drops.
_RESERVED = {"partition", "epoch", "run_id", "kept_run_id", "day", "of_speed", "level", "keys_digest", "first_offset"}
# Arguments and variables of functions over views: in their statements a column of that name would go before them.
_RESERVED |= {
    "zone",
    "first_day",
    "next_day",
    "of_run_id",
    "of_days",
    "of_partition",
    "of_level",
    "epochs",
    "needed",
    "taken",
}
_RESERVED |= {"most_rows", "row_limit", "to_run_id", "to_partition", "to_epoch"}
_TAKEN = {
    "catalogue",
    "drift",
    "drift_rows",
    "drift_summary",
    "forgotten",
    "ledger",
    "progress",
    "quarantine",
    "runs",
    "sources",
}


def script(views: Sequence[StoredView], native: bool = False) -> str:
    """All SQL, in order, as one script for one transaction of a superuser; repeating it changes nothing.

    What readers see of a view is in it only if it is shown; for others serving.show_views makes that. `native`: the server
    has the module of serving/native, whose functions take the place of those in SQL.
    """
    files = sorted((file for file in resources.files("serving").joinpath("sql").iterdir()), key=lambda file: file.name)
    texts = [
        (file.name, file.read_text(encoding="utf-8"))
        for file in files
        if file.name.endswith(".sql") and (native or not file.name.endswith(_NATIVE))
    ]
    texts.append((f"{_CATALOGUE_PLACE}_views.sql (generated from contract/streams)", catalogue_sql(views)))
    shown = "".join(shown_sql(view) for view in views if view.shown)
    texts.append((f"{_SHOWN_PLACE}_views.sql (generated from contract/streams)", shown))
    return "\n".join(f"-- ==== {name}\n{text}" for name, text in sorted(texts))


def catalogue_sql(views: Sequence[StoredView]) -> str:
    """Types, tables and functions of the catalogue."""
    for view in views:
        _check(view)
    parts = [
        _row_types(views),
        *speed_half(views),
        *map(_batch_table, views),
        _insert_rows(views),
        _delete_run_days(views),
        _compare_views(views),
    ]
    return sql.Composed(parts).join("\n").as_string() + "\n"


def _check(view: StoredView) -> None:
    if view.name in _TAKEN:
        raise CatalogueError(f"view {view.name}: the serving layer has something of that name; choose another one")
    reserved = _RESERVED | {f"batch_{view.measures[0].name}", f"speed_{view.measures[0].name}"}
    if taken := reserved & set(view.schema.names()):
        raise CatalogueError(f"view {view.name}: the column name {', '.join(sorted(taken))} is used by the serving layer")


def _batch_table(view: StoredView) -> sql.Composed:
    return sql.SQL(
        """CREATE TABLE IF NOT EXISTS {table} (
    run_id bigint NOT NULL, {columns}
);
SELECT public.create_hypertable({name}, public.by_range('bucket', interval {interval}),
    create_default_indexes => false, if_not_exists => true);
-- Where an older schema had shorter chunks, new ones are of this length.
SELECT public.set_chunk_time_interval({name}, interval {interval});
ALTER TABLE {table} DROP COLUMN IF EXISTS keys_digest;
{indexes}"""
    ).format(
        table=batch_table(view),
        name=sql.Literal(f"serving.batch_{view.stored_name}"),
        interval=sql.Literal(f"{_CHUNK_DAYS} days"),
        columns=column_definitions(view),
        indexes=indexes(view, "batch"),
    )


def _row_types(views: Sequence[StoredView]) -> sql.Composed:
    # No table has columns of these types; the functions that take them follow.
    each = (
        sql.SQL("DROP TYPE IF EXISTS {type} CASCADE;\nCREATE TYPE {type} AS ({columns});").format(
            type=row_type(view), columns=attribute_definitions(view)
        )
        for view in views
    )
    return sql.SQL(
        """-- What a commit or a task brings: of each view an array of rows, or null.
DROP TYPE IF EXISTS serving.rows CASCADE;
{each}
CREATE TYPE serving.rows AS ({arrays});"""
    ).format(
        each=lines(each),
        arrays=sql.SQL(", ").join(sql.SQL("{} {}[]").format(sql.Identifier(view.name), row_type(view)) for view in views),
    )


def _insert_rows(views: Sequence[StoredView]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    INSERT INTO {table} (run_id, {columns})
    SELECT to_run_id, {columns} FROM unnest(new_rows.{view});
    GET DIAGNOSTICS affected = ROW_COUNT;
    total := total + affected;"""
        ).format(
            table=batch_table(view),
            columns=names(view.schema.names()),
            view=sql.Identifier(view.name),
        )
        for view in views
    )
    return function(
        "-- Rows of a task become its run's; returns how many they are.",
        "insert_rows(new_rows serving.rows, to_run_id bigint)",
        "bigint",
        statements,
    )


def _delete_run_days(views: Sequence[StoredView]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    DELETE FROM {table}
    WHERE run_id = of_run_id AND bucket >= of_days[1]::timestamp AT TIME ZONE 'UTC'
        AND bucket < (of_days[cardinality(of_days)] + 1)::timestamp AT TIME ZONE 'UTC'
        -- guard: days between those that go stay
        AND (bucket AT TIME ZONE 'UTC')::date = ANY (of_days);
    GET DIAGNOSTICS affected = ROW_COUNT;
    total := total + affected;"""
        ).format(table=batch_table(view))
        for view in views
    )
    return function(
        "-- Deletes a run's rows of some days, which are in order.",
        "delete_run_days(of_run_id bigint, of_days date[])",
        "bigint",
        statements,
    )


def _compare_views(views: Sequence[StoredView]) -> sql.Composed:
    return function(
        "-- Compares a run's rows with what readers had below its cut, and records how they differ; see 55_drift.sql.",
        "compare_views(of_run_id bigint, first_bucket timestamptz, end_bucket timestamptz, "
        "ledger_difference bigint, speed_counted bigint, false_positive_rate float8)",
        "void",
        map(_compare_view, views),
    )


def _compare_view(view: StoredView) -> sql.Composed:
    """Rows of the base (b) and the sum of absorbed speed rows (a) are what readers had (h); the run's are the new ones (n).

    *= compares bytes. Values are worked out only where they are kept: where the speed layer had a share, or rows differ.
    Rows by day follow from others that are compared, and adding up the speed rows again takes long: only audits do it.
    """
    only_in_audits = "EXISTS (SELECT FROM serving.run WHERE run_id = of_run_id AND kind = 'audit')"

    def each(template: LiteralString) -> sql.Composed:
        parts = [sql.SQL(template).format(**_measure_sql(number, measure)) for number, measure in enumerate(view.measures)]
        return sql.SQL(", ").join(parts)

    return sql.SQL(
        """    -- guard: what readers do not see is not compared
    IF {worth_it} AND EXISTS (
        SELECT FROM serving.view_version WHERE view_name = {name} AND version = {version} AND state = 'live') THEN
    WITH base AS (
        SELECT b.* FROM {batch} AS b JOIN serving.run AS r ON r.run_id = of_run_id
        JOIN LATERAL serving.compared_day(r) AS d ON d.run_id = b.run_id AND d.day = (b.bucket AT TIME ZONE 'UTC')::date
        WHERE b.bucket >= compare_views.first_bucket AND b.bucket < compare_views.end_bucket
    ), absorbed AS (
        SELECT {speed_bucket} AS bucket{speed_keys}, {merges}
        FROM {speed} AS s JOIN serving.cuts(of_run_id) AS c ON c.partition = s.partition
        WHERE s.epoch > coalesce(c.base_epoch, 0) AND s.epoch <= c.epoch
        GROUP BY {speed_bucket}{speed_keys}
    ), had AS (
        SELECT {group}, a.{counted} IS NOT NULL AS of_speed, {sums}
        FROM base AS b FULL JOIN absorbed AS a USING ({group})
    ), compared AS MATERIALIZED (
        SELECT bucket, d.of_speed, d.differs, n.{counted} IS NULL AS is_gone, {sizes}, {differences},
            CASE WHEN d.differs THEN jsonb_build_object(VARIADIC ARRAY[{pairs}]::text[]) END AS keys,
            CASE WHEN NOT d.differs THEN NULL
                WHEN coalesce(n.{counted}, 0) > coalesce(h.{counted}, 0) THEN 'dropped'
                WHEN d.of_speed AND n.{counted} < h.{counted} THEN 'repeated'
                ELSE 'unexplained' END AS cause
        FROM had AS h
        FULL JOIN (
            SELECT * FROM {batch} AS b
            WHERE b.run_id = of_run_id AND b.bucket >= compare_views.first_bucket AND b.bucket < compare_views.end_bucket
        ) AS n USING ({group})
        CROSS JOIN LATERAL (
            SELECT NOT ROW({had_row})::record *= ROW({new_row})::record AS differs, h.of_speed IS TRUE AS of_speed) AS d
        -- Nearly all rows are equal: they are counted where they lie, and not copied.
        WHERE d.of_speed OR d.differs
    ), whole AS (
        INSERT INTO serving.drift_view
        SELECT of_run_id, {name}, count(*) FILTER (WHERE is_gone) + (
            SELECT count(*) FROM {batch} AS b
            WHERE b.run_id = of_run_id AND b.bucket >= compare_views.first_bucket AND b.bucket < compare_views.end_bucket),
            count(cause), count(*) FILTER (WHERE cause = 'unexplained'),
            coalesce(sum(new_0 - coalesce(had_0, 0)) FILTER (WHERE cause = 'dropped'), 0),
            coalesce(sum(had_0 - new_0) FILTER (WHERE cause = 'repeated'), 0),
            ledger_difference, speed_counted, false_positive_rate
        FROM compared
    ), buckets AS (
        INSERT INTO serving.drift_bucket
        SELECT of_run_id, {name}, bucket, count(*), ARRAY[{names}], ARRAY[{differing}], ARRAY[{had_sums}], ARRAY[{new_sums}]
        FROM compared GROUP BY bucket
    )
    INSERT INTO serving.drift_row
    SELECT of_run_id, {name}, c.bucket, c.keys, m.measure, m.speed_value, m.batch_value, c.cause
    FROM (SELECT * FROM compared WHERE differs ORDER BY cause <> 'unexplained', bucket, keys LIMIT {limit}) AS c
    CROSS JOIN LATERAL (VALUES {values}) AS m (measure, speed_value, batch_value, differs)
    WHERE m.differs;
    END IF;"""
    ).format(
        batch=batch_table(view),
        speed=speed_table(view),
        name=sql.Literal(view.name),
        version=sql.Literal(view.version),
        worth_it=sql.SQL(only_in_audits if view.rollup_of else "true"),
        counted=sql.Identifier(view.measures[0].name),
        group=names(view.group),
        speed_bucket=speed_bucket(view),
        speed_keys=sql.Composed([sql.SQL(", s.{}").format(sql.Identifier(key)) for key in view.keys]),
        pairs=sql.SQL(", ").join(sql.SQL("{}, {}").format(sql.Literal(key), sql.Identifier(key)) for key in view.keys),
        merges=each("{merged} AS {m}"),
        sums=each("coalesce({added}, b.{m}, a.{m}) AS {m}"),
        had_row=each("h.{m}"),
        new_row=each("n.{m}"),
        sizes=each(
            "CASE WHEN h.{m} IS NOT NULL AND (d.of_speed OR d.differs) THEN {had} END AS had_{i}, "
            "CASE WHEN n.{m} IS NOT NULL AND d.differs THEN {new} END AS new_{i}"
        ),
        differences=each("NOT ROW(h.{m})::record *= ROW(n.{m})::record AS differs_{i}"),
        names=each("{name}"),
        differing=each("count(*) FILTER (WHERE differs_{i})"),
        had_sums=each("coalesce(sum(had_{i}), 0)::bigint"),
        new_sums=each("coalesce(sum(CASE WHEN differs THEN new_{i} ELSE had_{i} END), 0)::bigint"),
        values=each("({name}, had_{i}, new_{i}, differs_{i})"),
        limit=sql.Literal(DRIFT_ROWS),
    )


def _measure_sql(number: int, measure: Measure) -> dict[str, sql.Composable]:
    """What templates of _compare_view say of a measure: m and name are its name, i its number, the others its own SQL."""

    def of(template: LiteralString, *tables: str) -> sql.Composed:
        return sql.SQL(template).format(*(sql.Identifier(table, measure.name) for table in tables))

    return {
        "m": sql.Identifier(measure.name),
        "name": sql.Literal(measure.name),
        "i": sql.Literal(number),
        "merged": of(measure.sql_merge, "s"),
        "added": of(measure.sql_add, "b", "a"),
        "had": of(measure.sql_size, "h"),
        "new": of(measure.sql_size, "n"),
    }
