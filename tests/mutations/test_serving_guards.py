"""Guards of the hand-off in the database are tested by removing them: the model of the hand-off must then go wrong."""

from __future__ import annotations

import pytest

from contract.settings import Settings
from serving.database import connect
from tests.fixtures.handoff_model import first_wrong

INTERLEAVINGS = 2_400


@pytest.mark.parametrize(
    ("object_name", "guard", "without"),
    [
        ("commit_range", "position_before <> first_offset", "false"),
        ("commit_range", "judged_generation <> live_generation", "false"),
        ("begin_run", "max(every.epoch) + 1", "max(every.epoch)"),
        ("write_task", "IF NOT written", "IF false"),
        ("publish", "<> planned.base_generation", "< 0"),
        ("add_rejects", "FROM unnest(rejects) AS n", "FROM unnest(rejects) AS n WHERE layer <> 'batch'"),
        ("judge_rejects", "r.judged_by = 'both'", "false"),
        ("absorbed_epoch", "min(", "max("),
        ("collect_run_days", "serving.publication_day AS p", "serving.live_day AS p"),
        ("require_kept", "missing IS NOT NULL", "false"),
    ],
)
def test_each_guard_is_needed(database: Settings, object_name: str, guard: str, without: str) -> None:
    with connect(database, "postgres") as owner:
        kind = "view" if object_name == "absorbed_epoch" else "function"
        row = owner.execute(
            f"SELECT pg_get_{kind}def('serving.{object_name}'::{'regclass' if kind == 'view' else 'regproc'})"
        ).fetchone()
        assert row
        assert guard in row[0]
        prefix = f"CREATE OR REPLACE VIEW serving.{object_name} AS " if kind == "view" else ""
        owner.execute((prefix + row[0].replace(guard, without)).encode())
    # Some need an order of steps that is rare; the search ends at the first wrong answer.
    assert first_wrong(database, INTERLEAVINGS) is not None
