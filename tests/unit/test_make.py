"""What make hands on of what is typed."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOWN = "--eval=shown: ; @printf '%s' \"$$SQL\""


def make(*arguments: str, **environment: str) -> str:
    """As in a shell of one's own, and not as a part of `make test`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--silent", *arguments], cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "statement",
    ["select 'price=$5'", r"select '\.html$' as x", 'select $$it\'s$$, $1, $(HOME), ${x}, 50 % 7, # "a" `b`', "select $"],
)
def test_a_statement_is_handed_on_as_it_is_typed(statement: str):
    assert make(SHOWN, "shown", f"SQL={statement}") == statement
    assert make(SHOWN, "shown", SQL=statement) == statement


def test_a_drill_of_chaos_gets_its_seed_its_length_and_its_rate():
    said = make("--dry-run", "drill", "NAME=chaos", "SEED=7", "MINUTES=10", "RATE=300")
    assert shlex.split(said.replace("\\\n", ""))[:9] == [
        "tests/run",
        "drill",
        "--seed",
        "7",
        "--minutes",
        "10",
        "--rate",
        "300",
        "--format",
    ]
    # Without them its own defaults hold.
    assert "--seed" not in make("--dry-run", "drill")


@pytest.mark.parametrize(
    ("typed", "says_yes"), [("1", True), ("yes", True), ("0", False), ("no", False), ("false", False), ("", False)]
)
def test_a_no_is_a_no(typed: str, says_yes: bool):
    assert ("--full" in make("--dry-run", "batch", f"FULL={typed}")) is says_yes
    assert ("--show-password" in make("--dry-run", "status", f"SHOW_PASSWORD={typed}")) is says_yes
    said = "source compose/common.sh; if is_said FULL; then echo yes; fi"
    done = subprocess.run(
        ["bash", "-c", said], cwd=ROOT, env=os.environ | {"FULL": typed}, capture_output=True, text=True, check=True
    )
    assert (done.stdout == "yes\n") is says_yes
