"""The speed half of the generated SQL: its tables, and the functions that append, merge and delete their rows."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from serving.schema_parts import SPEED_ROWS_LOCK, column_definitions, function, indexes, lines, names, speed_table
from serving.stored_view import StoredView

# Rows of the highest level are left as they are: to count whether it has enough would take longer than to read them.
_LEVELS = 4


def speed_half(views: Sequence[StoredView]) -> list[sql.Composed]:
    """Tables and functions; the type serving.rows must be there. Rollups have no speed rows of their own."""
    appended = [view for view in views if view.rollup_of is None]
    return [*map(_table, appended), _append_rows(appended), _merge_appended(appended), _delete_absorbed(appended)]


def _table(view: StoredView) -> sql.Composed:
    # No unique key: it would cost a commit more than all other indexes, and the progress fence lets no range in twice.
    # What changed later stands apart from the table, so that an older one changes too.
    return sql.SQL(
        """CREATE TABLE IF NOT EXISTS {table} (partition int NOT NULL, epoch bigint NOT NULL, {columns});
ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {old_key}, RESET (fillfactor),
    DROP COLUMN IF EXISTS keys_digest, DROP COLUMN IF EXISTS first_offset,
    ADD COLUMN IF NOT EXISTS level int NOT NULL DEFAULT 0;
GRANT MAINTAIN ON {table} TO batch;
DROP INDEX IF EXISTS {old_level}, {old_level_epoch};
CREATE INDEX IF NOT EXISTS {epoch} ON {table} (epoch, partition, level);
{indexes}"""
    ).format(
        table=speed_table(view),
        columns=column_definitions(view),
        old_key=sql.Identifier(f"speed_{view.stored_name}_pkey"),
        old_level=sql.Identifier("serving", f"speed_{view.stored_name}_level"),
        old_level_epoch=sql.Identifier("serving", f"speed_{view.stored_name}_level_epoch"),
        epoch=sql.Identifier(f"speed_{view.stored_name}_epoch_level"),
        indexes=indexes(view, "speed"),
    )


def _append_rows(views: Sequence[StoredView]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    INSERT INTO {table} (partition, epoch, {columns})
    SELECT to_partition, to_epoch, {columns} FROM unnest(new_rows.{view});"""
        ).format(table=speed_table(view), columns=names(view.schema.names()), view=sql.Identifier(view.name))
        for view in views
    )
    return function(
        "-- Rows of a commit join those of its partition's epoch.",
        "append_rows(new_rows serving.rows, to_partition int, to_epoch bigint)",
        "void",
        statements,
    )


def _merge_appended(views: Sequence[StoredView]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    of_level := 0;
    LOOP
        -- Each level holds four times as many rows as the one below, so a row is merged a few times in its life.
        needed := least_rows::bigint << (2 * of_level);
        EXIT WHEN taken >= most_rows OR of_level = {levels};
        SELECT count(*) >= needed INTO enough
        FROM (
            SELECT FROM {table} WHERE partition = of_partition AND level = of_level AND epoch = ANY (epochs) LIMIT needed
        ) AS at_level;
        EXIT WHEN NOT enough;
        -- guard: merged rows take the place of their parts
        WITH gone AS (
            DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                SELECT s.ctid FROM {table} AS s
                WHERE s.partition = of_partition AND s.level = of_level AND s.epoch = ANY (epochs)
                LIMIT most_rows - taken))
            RETURNING *
        ), merged AS (
            -- guard: merged rows stay in their epoch
            INSERT INTO {table} (partition, epoch, {columns}, level)
            SELECT partition, epoch, {group}, {merges}, of_level + 1
            FROM gone GROUP BY partition, epoch, {group}
        )
        SELECT count(*) INTO affected FROM gone;
        taken := taken + affected;
        of_level := of_level + 1;
    END LOOP;"""
        ).format(
            table=speed_table(view),
            levels=sql.Literal(_LEVELS),
            columns=names(view.schema.names()),
            group=names(view.group),
            merges=sql.SQL(", ").join(
                sql.SQL(measure.sql_merge).format(sql.Identifier(measure.name)) for measure in view.measures
            ),
        )
        for view in views
    )
    return sql.SQL(
        """
-- Rows of a partition that came in many commits become one a key and epoch, which no reader notices. Takes at most most_rows
-- rows, whatever their keys are, and returns how many it took: if it is so many, there may be more. Rows of epochs that the
-- live run has absorbed stay as they are: readers pass over them, and few are ever read again. Garbage collection deletes
-- rows in another order, so the two exclude each other; this one does not wait, and returns null.
CREATE OR REPLACE FUNCTION serving.merge_appended(of_partition int, least_rows int, most_rows int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    of_level int;
    needed bigint;
    enough boolean;
    affected bigint;
    taken bigint := 0;
    -- One by one, so that all columns of the index count.
    epochs bigint[] := ARRAY(
        SELECT generate_series(coalesce(c.epoch, 0) + 1, p.epoch)
        FROM serving.speed_progress AS p LEFT JOIN serving.live_cut AS c ON c.partition = p.partition
        WHERE p.partition = of_partition);
BEGIN
    -- guard: a merge waits for nobody
    IF NOT pg_try_advisory_xact_lock({lock}) THEN
        RETURN NULL;
    END IF;
{statements}
    RETURN taken;
END
$function$;"""
    ).format(lock=sql.Literal(SPEED_ROWS_LOCK), statements=lines(statements))


def _delete_absorbed(views: Sequence[StoredView]) -> sql.Composed:
    statements = (
        sql.SQL(
            """    DELETE FROM {table} WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM {table} AS s JOIN serving.absorbed_epoch AS a
        ON a.partition = s.partition AND s.epoch <= a.epoch LIMIT row_limit));
    GET DIAGNOSTICS affected = ROW_COUNT;
    total := total + affected;"""
        ).format(table=speed_table(view))
        for view in views
    )
    return function(
        "-- Deletes speed rows that no kept publication needs.",
        "delete_absorbed(row_limit int)",
        "bigint",
        [sql.SQL("    PERFORM pg_advisory_xact_lock({});").format(sql.Literal(SPEED_ROWS_LOCK)), *statements],
    )
