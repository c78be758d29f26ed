"""Whole stack: the fast drills, then one batch run over what they left behind. `make drill` runs all of them.

How long recovery takes is judged there alone: here other work may have the machine.
"""

from __future__ import annotations

import os

import pytest

from tests.drill.drills import DRILLS, Drill
from tests.drill.faults import BATCH
from tests.drill.run import digest, run_drill
from tests.fixtures.stack import Stack

# kill-worker ends what the supervisor started, and kill-archiver cuts a file off in the middle, as a lost NameNode does.
LONG = ("kill-supervisor", "kill-namenode")
PARAMETERS = [
    pytest.param(drill, id=drill.name, marks=[pytest.mark.long] if drill.name in LONG else [])
    for drill in DRILLS
    if drill.fast and not drill.loses
]


@pytest.mark.parametrize("drill", PARAMETERS)
def test_drill(stack: Stack, drill: Drill):
    result = run_drill(drill, stack, os.environ["COMPOSE_PROJECT_NAME"], print, with_batch=False)
    assert result.complaints == []
    assert (result.largest_error, result.difference) == (0, 0)
    assert result.polls > 50


def test_a_full_batch_run_after_the_drills_changes_nothing(stack: Stack):
    before = digest(stack)
    stack.run(*BATCH, "batch", "python", "-m", "batch", "run", "--full")
    assert digest(stack) == before
    assert stack.ask("SELECT partition FROM ledger WHERE next_offset <> batch_next_offset OR difference <> 0") == []
