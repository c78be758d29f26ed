"""The database's SQL: numbered files in sql/, and between them (30) what follows from the catalogue of views.

Of each view there are: `serving.batch_<view>` and `serving.speed_<view>`, a staging table `staged_<view>` in each writing
session, and `public.<view>`, which merges what is live of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from typing import LiteralString

from psycopg import sql

from contract.errors import CatalogueError
from contract.event import json_schema
from contract.measures import Measure
from contract.views import VIEWS, View

CHUNK_INTERVAL = "7 days"
SPEED_ROWS_LOCK = 0x42_72_61_69_65
"""Advisory lock of whoever deletes speed rows."""
DRIFT_ROWS = 1_000
"""So many rows that differ are kept of a run and view."""
_CATALOGUE_PLACE = "30"
_RESERVED = {"partition", "epoch", "run_id", "keys_digest", "day", "first_offset", "level"}
# A B-tree entry has at most 2,704 bytes and a UTF-8 character up to 4, so longer keys get a hash index.
_LONGEST_BTREE_KEY = 512
_KEY_LIMITS = {
    name: field["maxLength"] for name, field in json_schema()["$defs"]["Event"]["properties"].items() if "maxLength" in field
}


def script(views: Sequence[View] = VIEWS) -> str:
    """All SQL, in order, as one script for one transaction of a superuser; repeating it changes nothing."""
    files = sorted((file for file in resources.files("serving").joinpath("sql").iterdir()), key=lambda file: file.name)
    texts = [(file.name, file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".sql")]
    texts.append((f"{_CATALOGUE_PLACE}_views.sql (generated from contract/views.py)", catalogue_sql(views)))
    texts.append(("90_views.sql (generated from contract/views.py)", _grants(views)))
    return "\n".join(f"-- ==== {name}\n{text}" for name, text in sorted(texts))


def catalogue_sql(views: Sequence[View] = VIEWS) -> str:
    """Tables, staging, merges and merged views of the catalogue."""
    for view in views:
        _check(view)
    parts = [part for view in views for part in (_speed_table(view), _batch_table(view))]
    parts += [
        _open_staging(views),
        _append_staged(views),
        _merge_appended(views),
        _insert_staged(views),
        _delete_run_day(views),
        _delete_absorbed(views),
        _compare_views(views),
    ]
    parts += [_merged_view(view) for view in views]
    return sql.Composed(parts).join("\n").as_string() + "\n"


def _check(view: View) -> None:
    reserved = _RESERVED | {f"batch_{view.measures[0].name}", f"speed_{view.measures[0].name}"}
    if taken := reserved & set(view.schema.names()):
        raise CatalogueError(f"view {view.name}: the column name {', '.join(sorted(taken))} is used by the serving layer")


def _speed_table(view: View) -> sql.Composed:
    # What was added later stands apart from the table, so that an older one gets it too.
    return sql.SQL(
        """CREATE TABLE IF NOT EXISTS {table} (
    partition int NOT NULL, epoch bigint NOT NULL, {columns}, keys_digest bytea NOT NULL
);
ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {old_key}, RESET (fillfactor),
    ADD COLUMN IF NOT EXISTS first_offset bigint NOT NULL DEFAULT 0, ADD COLUMN IF NOT EXISTS level int NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX IF NOT EXISTS {key} ON {table} (bucket, keys_digest, partition, epoch, first_offset);
CREATE INDEX IF NOT EXISTS {level} ON {table} (partition, level);
{indexes}"""
    ).format(
        table=_speed(view),
        columns=_column_definitions(view),
        old_key=sql.Identifier(f"speed_{view.name}_pkey"),
        key=sql.Identifier(f"speed_{view.name}_row"),
        level=sql.Identifier(f"speed_{view.name}_level"),
        indexes=_indexes(view, "speed"),
    )


def _batch_table(view: View) -> sql.Composed:
    return sql.SQL(
        """CREATE TABLE IF NOT EXISTS {table} (
    run_id bigint, {columns}, keys_digest bytea,
    PRIMARY KEY (bucket, keys_digest, run_id)
);
SELECT public.create_hypertable({name}, public.by_range('bucket', interval {interval}),
    create_default_indexes => false, if_not_exists => true);
{indexes}"""
    ).format(
        table=_batch(view),
        name=sql.Literal(f"serving.batch_{view.name}"),
        interval=sql.Literal(CHUNK_INTERVAL),
        columns=_column_definitions(view),
        indexes=_indexes(view, "batch"),
    )


def _indexes(view: View, half: str) -> sql.Composed:
    """What predicates on keys reach; those on bucket alone reach the primary key."""
    short = [key for key in view.keys if _KEY_LIMITS[key] <= _LONGEST_BTREE_KEY]
    long = [key for key in view.keys if key not in short]
    table = sql.Identifier("serving", f"{half}_{view.name}")
    lines = (
        [
            sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({});").format(
                sql.Identifier(f"{half}_{view.name}_keys"), table, _names((*short, "bucket"))
            )
        ]
        if short
        else []
    )
    lines += [
        sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hash ({});").format(
            sql.Identifier(f"{half}_{view.name}_{key}"), table, sql.Identifier(key)
        )
        for key in long
    ]
    return sql.SQL("\n").join(lines)


def _open_staging(views: Sequence[View]) -> sql.Composed:
    return sql.SQL(
        """
-- Staging tables of this session; they are empty at the start of each transaction. The calling role may only insert.
CREATE OR REPLACE FUNCTION serving.open_staging() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET client_min_messages = warning
AS $function$
BEGIN
    CREATE TEMP TABLE IF NOT EXISTS staged_quarantine (LIKE public.quarantine) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS staged_ledger (day date, partition int, counted bigint, duplicate bigint)
        ON COMMIT DELETE ROWS;
{tables}
    EXECUTE format('GRANT INSERT ON pg_temp.staged_quarantine, pg_temp.staged_ledger, {stages} TO %I', session_user);
END
$function$;"""
    ).format(
        tables=_lines(
            sql.SQL("    CREATE TEMP TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS;").format(
                sql.Identifier(f"staged_{view.name}"), _column_definitions(view)
            )
            for view in views
        ),
        stages=sql.SQL(", ").join(_staged(view) for view in views),
    )


def _append_staged(views: Sequence[View]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    INSERT INTO {table} (partition, epoch, {columns}, keys_digest, first_offset)
    SELECT to_partition, to_epoch, {columns}, {digest}, of_first_offset FROM {staged};"""
        ).format(table=_speed(view), columns=_names(view.schema.names()), digest=_digest(view), staged=_staged(view))
        for view in views
    )
    return _function(
        "-- Staged rows of the range that begins at an offset join those of its partition's epoch.",
        "append_staged(to_partition int, to_epoch bigint, of_first_offset bigint)",
        "void",
        statements,
    )


def _merge_appended(views: Sequence[View]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    of_level := 0;
    LOOP
        -- Each level holds four times as many rows as the one below, so a row is merged a few times in its life.
        needed := least_rows::bigint << (2 * of_level);
        SELECT count(*) >= needed INTO enough
        FROM (SELECT FROM {table} WHERE partition = of_partition AND level = of_level LIMIT needed) AS at_level;
        EXIT WHEN NOT enough;
        -- guard: merged rows take the place of their parts
        WITH gone AS (
            DELETE FROM {table} WHERE partition = of_partition AND level = of_level RETURNING *
        )
        -- guard: merged rows stay in their epoch
        INSERT INTO {table} (partition, epoch, {columns}, keys_digest, first_offset, level)
        SELECT partition, epoch, bucket, {keys}{merges}, keys_digest, min(first_offset), of_level + 1
        FROM gone GROUP BY partition, epoch, bucket, keys_digest;
        GET DIAGNOSTICS inserted = ROW_COUNT;
        total := total + inserted;
        of_level := of_level + 1;
    END LOOP;"""
        ).format(
            table=_speed(view),
            columns=_names(view.schema.names()),
            keys=sql.SQL("").join(sql.SQL("any_value({}), ").format(sql.Identifier(key)) for key in view.keys),
            merges=sql.SQL(", ").join(
                sql.SQL(measure.sql_merge).format(sql.Identifier(measure.name)) for measure in view.measures
            ),
        )
        for view in views
    )
    return sql.SQL(
        """
-- Rows of a partition that came in many commits become one a key and epoch, which no reader notices; returns how many rows
-- that made. Garbage collection deletes rows in another order, so the two exclude each other.
CREATE OR REPLACE FUNCTION serving.merge_appended(of_partition int, least_rows int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $function$
DECLARE
    of_level int;
    needed bigint;
    enough boolean;
    inserted bigint;
    total bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock({lock});
{statements}
    RETURN total;
END
$function$;"""
    ).format(lock=sql.Literal(SPEED_ROWS_LOCK), statements=_lines(statements))


def _insert_staged(views: Sequence[View]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    INSERT INTO {table} (run_id, {columns}, keys_digest)
    SELECT to_run_id, {columns}, {digest} FROM {staged};"""
        ).format(table=_batch(view), columns=_names(view.schema.names()), digest=_digest(view), staged=_staged(view))
        for view in views
    )
    # Tasks of a run share days: in order and in one statement, so that two cannot lock each other out.
    days = sql.SQL(
        """    INSERT INTO serving.run_day SELECT to_run_id, day FROM (
        SELECT day FROM pg_temp.staged_ledger
        UNION {days}
    ) AS days ORDER BY day ON CONFLICT DO NOTHING;"""
    ).format(
        days=sql.SQL(" UNION ").join(
            sql.SQL("SELECT (bucket AT TIME ZONE 'UTC')::date FROM {}").format(_staged(view)) for view in views
        )
    )
    return _function("-- Staged rows become a run's.", "insert_staged(to_run_id bigint)", "void", [*statements, days])


def _delete_run_day(views: Sequence[View]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    DELETE FROM {table}
    WHERE run_id = of_run_id AND bucket >= of_day::timestamp AT TIME ZONE 'UTC'
        AND bucket < (of_day + 1)::timestamp AT TIME ZONE 'UTC';
    GET DIAGNOSTICS deleted = ROW_COUNT;
    total := total + deleted;"""
        ).format(table=_batch(view))
        for view in views
    )
    return _function(
        "-- Deletes a run's rows of one day.", "delete_run_day(of_run_id bigint, of_day date)", "bigint", statements
    )


def _delete_absorbed(views: Sequence[View]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    DELETE FROM {table} WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM {table} AS s JOIN serving.absorbed_epoch AS a
        ON a.partition = s.partition AND s.epoch <= a.epoch LIMIT row_limit));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    total := total + deleted;"""
        ).format(table=_speed(view))
        for view in views
    )
    return _function(
        "-- Deletes speed rows that no kept publication needs.",
        "delete_absorbed(row_limit int)",
        "bigint",
        [sql.SQL("    PERFORM pg_advisory_xact_lock({});").format(sql.Literal(SPEED_ROWS_LOCK)), *statements],
    )


def _compare_views(views: Sequence[View]) -> sql.Composed:
    return _function(
        "-- Compares a run's rows with what readers had below its cut, and records how they differ; see 55_drift.sql.",
        "compare_views(of_run_id bigint, ledger_difference bigint, speed_counted bigint, false_positive_rate float8)",
        "void",
        map(_compare_view, views),
    )


def _compare_view(view: View) -> sql.Composed:
    """Rows of the base (b) and the sum of absorbed speed rows (a) are what readers had (h); the run's are the new ones (n).

    *= compares bytes. Values are worked out only where they are kept: where the speed layer had a share, or rows differ.
    """

    def each(template: LiteralString) -> sql.Composed:
        parts = [sql.SQL(template).format(**_measure_sql(number, measure)) for number, measure in enumerate(view.measures)]
        return sql.SQL(", ").join(parts)

    def each_key(template: LiteralString) -> sql.Composed:
        parts = [sql.SQL(template).format(key=sql.Identifier(key), name=sql.Literal(key)) for key in view.keys]
        return sql.Composed(parts)

    return sql.SQL(
        """    WITH base AS (
        SELECT b.* FROM {batch} AS b JOIN serving.run AS r ON r.run_id = of_run_id
        JOIN LATERAL serving.compared_day(r) AS d ON d.run_id = b.run_id AND d.day = (b.bucket AT TIME ZONE 'UTC')::date
    ), absorbed AS (
        SELECT s.bucket, s.keys_digest{any_keys}, {merges}
        FROM {speed} AS s JOIN serving.cuts(of_run_id) AS c ON c.partition = s.partition
        WHERE s.epoch > coalesce(c.base_epoch, 0) AND s.epoch <= c.epoch
        GROUP BY s.bucket, s.keys_digest
    ), had AS (
        SELECT bucket, keys_digest, a.{counted} IS NOT NULL AS of_speed{had_keys}, {sums}
        FROM base AS b FULL JOIN absorbed AS a USING (bucket, keys_digest)
    ), compared AS MATERIALIZED (
        SELECT bucket, d.of_speed, d.differs, {sizes}, {differences},
            CASE WHEN d.differs THEN jsonb_build_object(VARIADIC ARRAY[{pairs}]::text[]) END AS keys,
            CASE WHEN NOT d.differs THEN NULL
                WHEN coalesce(n.{counted}, 0) > coalesce(h.{counted}, 0) THEN 'dropped'
                WHEN d.of_speed AND n.{counted} < h.{counted} THEN 'repeated'
                ELSE 'unexplained' END AS cause
        FROM had AS h
        FULL JOIN (SELECT * FROM {batch} AS b WHERE b.run_id = of_run_id) AS n USING (bucket, keys_digest)
        CROSS JOIN LATERAL (
            SELECT NOT ROW({had_row})::record *= ROW({new_row})::record AS differs, h.of_speed IS TRUE AS of_speed) AS d
    ), whole AS (
        INSERT INTO serving.drift_view
        SELECT of_run_id, {name}, count(*), count(cause), count(*) FILTER (WHERE cause = 'unexplained'),
            coalesce(sum(new_0 - coalesce(had_0, 0)) FILTER (WHERE cause = 'dropped'), 0),
            coalesce(sum(had_0 - new_0) FILTER (WHERE cause = 'repeated'), 0),
            ledger_difference, speed_counted, false_positive_rate
        FROM compared
    ), buckets AS (
        INSERT INTO serving.drift_bucket
        SELECT of_run_id, {name}, bucket, count(*), ARRAY[{names}], ARRAY[{differing}], ARRAY[{had_sums}], ARRAY[{new_sums}]
        FROM compared WHERE of_speed OR differs GROUP BY bucket
    )
    INSERT INTO serving.drift_row
    SELECT of_run_id, {name}, c.bucket, c.keys, m.measure, m.speed_value, m.batch_value, c.cause
    FROM (SELECT * FROM compared WHERE differs ORDER BY cause <> 'unexplained', bucket, keys LIMIT {limit}) AS c
    CROSS JOIN LATERAL (VALUES {values}) AS m (measure, speed_value, batch_value, differs)
    WHERE m.differs;"""
    ).format(
        batch=_batch(view),
        speed=_speed(view),
        name=sql.Literal(view.name),
        counted=sql.Identifier(view.measures[0].name),
        any_keys=each_key(", any_value(s.{key}) AS {key}"),
        had_keys=each_key(", coalesce(b.{key}, a.{key}) AS {key}"),
        pairs=sql.SQL(", ").join(
            sql.SQL("{}, coalesce(h.{key}, n.{key})").format(sql.Literal(key), key=sql.Identifier(key)) for key in view.keys
        ),
        merges=each("{merged} AS {m}"),
        sums=each("coalesce({added}, b.{m}, a.{m}) AS {m}"),
        had_row=each("h.{m}"),
        new_row=each("n.{m}"),
        sizes=each(
            "CASE WHEN h.{m} IS NOT NULL AND (d.of_speed OR d.differs) THEN {had} END AS had_{i}, "
            "CASE WHEN n.{m} IS NOT NULL AND (d.of_speed OR d.differs) THEN {new} END AS new_{i}"
        ),
        differences=each("NOT ROW(h.{m})::record *= ROW(n.{m})::record AS differs_{i}"),
        names=each("{name}"),
        differing=each("count(*) FILTER (WHERE differs_{i})"),
        had_sums=each("coalesce(sum(had_{i}), 0)::bigint"),
        new_sums=each("coalesce(sum(new_{i}), 0)::bigint"),
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


def _function(comment: str, signature: str, returns: str, statements: Iterable[sql.Composable]) -> sql.Composed:
    counting = returns == "bigint"
    return sql.SQL(
        """
{comment}
CREATE OR REPLACE FUNCTION serving.{signature} RETURNS {returns}
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $function${declare}
BEGIN
{statements}{result}
END
$function$;"""
    ).format(
        comment=sql.SQL(comment),
        signature=sql.SQL(signature),
        returns=sql.SQL(returns),
        declare=sql.SQL("\nDECLARE\n    deleted bigint;\n    total bigint := 0;" if counting else ""),
        statements=_lines(statements),
        result=sql.SQL("\n    RETURN total;" if counting else ""),
    )


def _merged_view(view: View) -> sql.Composed:
    counted = view.measures[0].name
    batch_part, speed_part = sql.Identifier(f"batch_{counted}"), sql.Identifier(f"speed_{counted}")
    # Plain columns of both halves are grouping columns, so the planner takes predicates on them down to both tables.
    return sql.SQL(
        """
CREATE OR REPLACE VIEW {view} AS
SELECT {group},
    {measures},
    sum({batch_part})::bigint AS {batch_part}, sum({speed_part})::bigint AS {speed_part}
FROM (
    SELECT {batch_columns}, b.{counted} AS {batch_part}, 0::bigint AS {speed_part}
    FROM {batch} AS b
    JOIN serving.live_day AS d ON d.run_id = b.run_id AND d.day = (b.bucket AT TIME ZONE 'UTC')::date
    UNION ALL
    SELECT {speed_columns}, 0, s.{counted}
    FROM {speed} AS s
    LEFT JOIN serving.live_cut AS c ON c.partition = s.partition
    WHERE s.epoch > coalesce(c.epoch, 0)
) AS halves
GROUP BY {group};"""
    ).format(
        view=sql.Identifier("public", view.name),
        group=_names(view.group),
        measures=sql.SQL(",\n    ").join(
            sql.SQL("{} AS {}").format(
                sql.SQL(measure.sql_merge).format(sql.Identifier(measure.name)), sql.Identifier(measure.name)
            )
            for measure in view.measures
        ),
        batch_part=batch_part,
        speed_part=speed_part,
        counted=sql.Identifier(counted),
        batch_columns=sql.SQL(", ").join(sql.Identifier("b", name) for name in view.schema.names()),
        speed_columns=sql.SQL(", ").join(sql.Identifier("s", name) for name in view.schema.names()),
        batch=_batch(view),
        speed=_speed(view),
    )


def _grants(views: Sequence[View]) -> str:
    return (
        sql.SQL("GRANT SELECT ON {} TO reader;\n")
        .format(sql.SQL(", ").join(sql.Identifier("public", view.name) for view in views))
        .as_string()
    )


def _column_definitions(view: View) -> sql.Composed:
    columns = [("bucket", "timestamptz"), *((key, "text") for key in view.keys)]
    columns += [(measure.name, measure.sql_type) for measure in view.measures]
    return sql.SQL(", ").join(
        sql.SQL("{} {} NOT NULL").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns
    )


def _digest(view: View) -> sql.Composed:
    """The keys in 16 bytes, since long texts do not fit an index; lengths keep ('a', 'bc') apart from ('ab', 'c')."""
    parts: list[sql.Composable] = [sql.SQL("length({0}) || ':' || {0}").format(sql.Identifier(key)) for key in view.keys]
    return sql.SQL("substring(sha256(convert_to({}, 'UTF8')) FOR 16)").format(sql.SQL(" || ").join(parts or [sql.SQL("''")]))


def _speed(view: View) -> sql.Identifier:
    return sql.Identifier("serving", f"speed_{view.name}")


def _batch(view: View) -> sql.Identifier:
    return sql.Identifier("serving", f"batch_{view.name}")


def _staged(view: View) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"staged_{view.name}")


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _lines(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("\n").join(list(parts))
