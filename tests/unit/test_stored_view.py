"""Versions of views: what the generated SQL calls their tables, and what of it readers see."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from contract.errors import CatalogueError
from contract.measures import Count, Sum
from contract.measures_of_one import Last, Min
from contract.views import VIEWS, with_rollups
from serving.schema import catalogue_sql, script
from serving.schema_merged import shown_sql
from serving.stored_view import StoredView, first_versions
from tests.fixtures.views import of_page_views


def tables(sql: str) -> set[str]:
    return set(re.findall(r'CREATE TABLE IF NOT EXISTS "serving"\."((?:batch|speed)_\w+)"', sql))


def test_the_first_version_has_the_views_own_name():
    stored = {f"speed_{view.name}" for view in VIEWS} | {f"batch_{view.name}" for view in with_rollups(VIEWS)}
    assert tables(script(first_versions())) == stored


def test_a_later_version_has_tables_of_its_own_and_one_name_for_readers():
    second = StoredView.of(VIEWS[0], 2, shown=False)
    sql = script([second, StoredView.of(VIEWS[1])])
    assert tables(sql) == {"batch_site_traffic_v2", "speed_site_traffic_v2", "batch_page_traffic", "speed_page_traffic"}
    # No index of the first version is taken for one of the second.
    assert not re.search(r'"(?:batch|speed)_site_traffic(?!_v2)', sql)
    assert 'VIEW "public"."site_traffic"' not in sql
    assert 'VIEW "public"."page_traffic"' in sql
    for name in ("site_traffic", "site_traffic_sketches"):
        assert f'VIEW "public"."{name}"' in shown_sql(second)
        assert f'FUNCTION "public"."{name}_as_of"' in shown_sql(second)


def test_a_rollup_adds_up_the_speed_rows_of_the_version_that_it_is_of():
    second = StoredView.of(VIEWS[0], 2)
    assert VIEWS[0].rollup
    rollup = StoredView.of(VIEWS[0].rollup, 3, rollup_of=second)
    assert set(re.findall(r'"serving"\."((?:batch|speed)_\w+)"', shown_sql(rollup))) == {
        "speed_site_traffic_v2",
        "batch_site_traffic_by_day_v3",
    }


def test_showing_a_version_changes_nothing_else():
    shown = StoredView.of(VIEWS[0], 2)
    assert (shown.digest, shown.schema) == (VIEWS[0].digest, VIEWS[0].schema)
    assert shown_sql(shown) in script([shown])
    assert shown_sql(shown) not in script([replace(shown, shown=False)])


def test_only_measures_that_may_have_no_value_may_be_null():
    measures = (Count("views"), Sum("bytes_sent"), Min("least", of="duration_ms"), Last("last_page", of="page"))
    sql = script(first_versions([of_page_views("v", ("site",), timedelta(hours=1), measures)]))
    for table in ('"serving"."batch_v"', '"serving"."speed_v"'):
        (columns,) = re.findall(rf"CREATE TABLE IF NOT EXISTS {table} \((.+?)\);", sql, re.DOTALL)
        said = {name for name, is_null in re.findall(r'"(\w+)" [a-z ]+?(| NOT NULL)(?=,|$|\n)', columns) if not is_null}
        assert said == {"least", "last_page"}


@pytest.mark.parametrize(
    ("name", "columns", "complaint"),
    [
        ("runs", ("views",), "has something of that name"),
        ("v", ("level",), "the column name level is used"),
        ("v", ("zone",), "the column name zone is used"),
        ("v", ("of_speed",), "the column name of_speed is used"),
        ("v", ("keys_digest",), "the column name keys_digest is used"),
        ("v", ("first_offset",), "the column name first_offset is used"),
        ("v", ("views", "batch_views"), "the column name batch_views is used"),
    ],
)
def test_names_that_the_serving_layer_uses_are_refused(name: str, columns: tuple[str, ...], complaint: str):
    view = of_page_views(name, ("site",), timedelta(hours=1), tuple(map(Count, columns)))
    with pytest.raises(CatalogueError, match=complaint):
        script(first_versions([view]))


def test_no_column_has_the_name_of_a_variable_in_whose_place_it_would_stand():
    variables = set()
    for function in catalogue_sql(first_versions()).split("CREATE OR REPLACE FUNCTION ")[1:]:
        head, columns_first, body = function.partition("#variable_conflict use_column")
        if columns_first and "$function$;" not in head:
            arguments, declared = head.partition("(")[2].partition(") RETURNS")[0], body.partition("BEGIN")[0]
            variables |= {argument.split()[0] for argument in arguments.split(", ")}
            variables |= set(re.findall(r"^    ([a-z_]+) [a-z]", declared, re.MULTILINE))
    # Where these stand no column of a view is in reach.
    variables -= {"total", "affected", "enough", "new_rows", "least_rows", "first_bucket", "end_bucket"}
    variables -= {"ledger_difference", "speed_counted", "false_positive_rate"}
    assert {"of_run_id", "epochs", "most_rows", "to_epoch"} < variables
    for name in variables:
        view = of_page_views("v", ("site",), timedelta(hours=1), (Count("views"), Count(name)))
        with pytest.raises(CatalogueError, match=f"the column name {name} is used"):
            catalogue_sql(first_versions([view]))
