"""Whole stack, last of all: Kafka loses the end of its log, and from then on its offsets and Braid's differ."""

from __future__ import annotations

import os

import pytest

from tests.drill.drills import DRILLS, Drill
from tests.drill.run import run_drill
from tests.fixtures.stack import Stack


@pytest.mark.long
@pytest.mark.parametrize("drill", [drill for drill in DRILLS if drill.fast and drill.loses], ids=lambda drill: drill.name)
def test_drill(stack: Stack, drill: Drill):
    result = run_drill(drill, stack, os.environ["COMPOSE_PROJECT_NAME"], print, with_batch=False)
    assert result.complaints == []
    assert (result.largest_error, result.difference) == (0, 0)
    assert result.polls > 50
