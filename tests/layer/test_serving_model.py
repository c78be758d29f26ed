"""The hand-off under random interleavings: merged = truth, ledger balanced, after each step."""

from __future__ import annotations

import os

from contract.settings import Settings
from tests.fixtures.handoff_model import first_wrong

INTERLEAVINGS = int(os.environ.get("INTERLEAVINGS", "120"))


def test_merged_is_truth_after_every_step(database: Settings) -> None:
    assert first_wrong(database, INTERLEAVINGS) is None
