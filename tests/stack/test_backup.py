"""Whole stack: what docs/operations.md says of back up and restore brings a stack that is gone back, to the byte."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.stack import ROOT, Stack

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
KEPT = {
    "ledger": "SELECT * FROM ledger ORDER BY partition",
    "positions": "SELECT * FROM log_positions ORDER BY partition",
    "quarantine": 'SELECT * FROM quarantine ORDER BY topic, partition, "offset"',
    "runs": "SELECT run_id, kind, state, published_at, is_kept, is_live FROM runs ORDER BY run_id",
}


def commands(name: str) -> str:
    """The code that follows the mark in the text."""
    found = re.search(rf"^<!-- {name} -->\n\n((?:    .*\n|\n(?=    ))+)", OPERATIONS, re.MULTILINE)
    assert found, name
    return textwrap.dedent(found[1])


def everything(stack: Stack) -> dict[str, list[tuple[Any, ...]]]:
    """All that readers have."""
    return stack.everything() | {name: stack.ask(query, role="postgres") for name, query in KEPT.items()}


# Both stop and start every server.
@pytest.mark.long
def test_a_stack_that_is_gone_is_restored_from_its_backup(stack: Stack, tmp_path: Path):
    def run(name: str) -> None:
        stack.run("env", f"BACKUP={tmp_path}", "bash", "-c", commands(name))

    stack.simulate(5_000, seed=60)
    stack.run("make", "--silent", "batch")
    stack.simulate(1_000, seed=61)
    before = everything(stack)
    secrets = {file.name: file.read_bytes() for file in (ROOT / "build" / "secrets").iterdir()}
    run("back up")
    assert everything(stack) == before

    # Another machine has nothing but the folder: an empty stack, in which other events came.
    stack.run("make", "--silent", "clean", "YES=1")
    stack.run("make", "--silent", "up", "TRAFFIC=none")
    stack.simulate(500, seed=62)
    assert everything(stack) != before
    run("restore")
    assert everything(stack) == before
    assert {file.name: file.read_bytes() for file in (ROOT / "build" / "secrets").iterdir()} == secrets

    # It goes on from there, and the archive has what the views have.
    stack.simulate(1_000, seed=63)
    stack.run("make", "--silent", "batch")
    assert stack.ask("SELECT sum(difference), sum(in_flight) FROM ledger") == [(0, 0)]
    stack.run("make", "--silent", "audit")
