"""What the generated SQL is made of: names, columns, indexes and functions of a view."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import LiteralString

from psycopg import sql

from serving.stored_view import StoredView

SPEED_ROWS_LOCK = 0x42_72_61_69_65
"""Advisory lock of whoever deletes speed rows."""
# A B-tree entry has at most 2,704 bytes and a UTF-8 character up to 4, so longer keys get a hash index.
_LONGEST_BTREE_KEY = 512


def speed_table(view: StoredView) -> sql.Identifier:
    """Rows that speed commits bring; a rollup has none of its own."""
    return sql.Identifier("serving", f"speed_{(view.rollup_of or view).stored_name}")


def speed_bucket(view: StoredView) -> sql.Composed:
    """The bucket that a row of the speed table, s, belongs to."""
    if view.rollup_of is None:
        return sql.SQL("s.bucket").format()
    width = sql.Literal(f"{view.bucket // timedelta(seconds=1)} seconds")
    return sql.SQL("date_bin({}, s.bucket, 'epoch'::timestamptz)").format(width)


def batch_table(view: StoredView) -> sql.Identifier:
    """Rows of runs."""
    return sql.Identifier("serving", f"batch_{view.stored_name}")


def row_type(view: StoredView) -> sql.Identifier:
    """A partial row, as both layers bring it."""
    return sql.Identifier("serving", f"{view.name}_row")


def column_definitions(view: StoredView) -> sql.Composed:
    """The columns of the view's tables."""
    nullable = {measure.name for measure in view.measures if measure.nullable}
    return sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(sql.Identifier(name), sql.SQL(kind), sql.SQL("" if name in nullable else " NOT NULL"))
        for name, kind in _columns(view)
    )


def attribute_definitions(view: StoredView) -> sql.Composed:
    """The attributes of its row type. Types have no modifiers here: a column checks a value where it adds its own."""
    return sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_name(kind))) for name, kind in _columns(view)
    )


def type_name(kind: LiteralString) -> LiteralString:
    """A type without its modifiers."""
    return kind.partition("(")[0]


def _columns(view: StoredView) -> list[tuple[str, LiteralString]]:
    columns: list[tuple[str, LiteralString]] = [("bucket", "timestamptz"), *((key, "text") for key in view.keys)]
    return columns + [(measure.name, measure.sql_type) for measure in view.measures]


def indexes(view: StoredView, half: str) -> sql.Composed:
    """What predicates on the bucket, and on keys, reach."""
    short = [key.name for key in view.grouped_by if key.max_length <= _LONGEST_BTREE_KEY]
    long = [key for key in view.keys if key not in short]
    table = sql.Identifier("serving", f"{half}_{view.stored_name}")
    keys = [sql.SQL("{}").format(sql.Identifier(key)) for key in short]
    bucket = sql.SQL("bucket").format()
    ordered = {"bucket": [bucket]} | ({"keys": [*keys, bucket]} if short else {})
    dropped = []
    if half == "batch" and view.shown_group[0] == "day":
        # Readers ask these for the day, which is a function of the bucket; an older schema had the bucket with the keys.
        day = sql.SQL("((bucket AT TIME ZONE 'UTC')::date)").format()
        ordered = {"bucket": [bucket], "day": [day]} | ({"keys_day": [*keys, day]} if short else {})
        dropped = [sql.SQL("DROP INDEX IF EXISTS {};").format(sql.Identifier("serving", f"{half}_{view.stored_name}_keys"))]
    statements = dropped + [
        sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({});").format(
            sql.Identifier(f"{half}_{view.stored_name}_{name}"), table, sql.SQL(", ").join(columns)
        )
        for name, columns in ordered.items()
    ]
    statements += [
        sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hash ({});").format(
            sql.Identifier(f"{half}_{view.stored_name}_{key}"), table, sql.Identifier(key)
        )
        for key in long
    ]
    return lines(statements)


def function(comment: str, signature: str, returns: str, statements: Iterable[sql.Composable]) -> sql.Composed:
    """A function of the owner's. If it returns a bigint it counts in `affected` and `total`; columns may have such names."""
    counting = returns == "bigint"
    return sql.SQL(
        """
{comment}
CREATE OR REPLACE FUNCTION serving.{signature} RETURNS {returns}
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $function$
#variable_conflict use_column{declare}
BEGIN
{statements}{result}
END
$function$;"""
    ).format(
        comment=sql.SQL(comment),
        signature=sql.SQL(signature),
        returns=sql.SQL(returns),
        declare=sql.SQL("\nDECLARE\n    affected bigint;\n    total bigint := 0;" if counting else ""),
        statements=lines(statements),
        result=sql.SQL("\n    RETURN total;" if counting else ""),
    )


def names(columns: Iterable[str]) -> sql.Composed:
    """Quoted, with commas between."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def lines(parts: Iterable[sql.Composable]) -> sql.Composed:
    """One below the other."""
    return sql.SQL("\n").join(list(parts))
