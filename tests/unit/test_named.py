"""`make clients` and `make servers` work on what is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures.stack import ROOT


def listed(command: str, *names: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", f"tests.{command}", "--list", *names]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("command", "beginning"), [("clients", "POLARS"), ("servers", "Nginx")])
def test_names_are_chosen_by_their_beginning_in_either_case_of_letters(command: str, beginning: str):
    every, some = listed(command).stdout.splitlines(), listed(command, beginning).stdout.splitlines()
    assert some == [name for name in every if name.lower().startswith(beginning.lower())]
    assert 0 < len(some) < len(every)


@pytest.mark.parametrize(("command", "kind"), [("clients", "client"), ("servers", "server")])
def test_a_name_that_nothing_has_is_wrong_usage(command: str, kind: str):
    done = listed(command, "nobody", "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no {kind}'s name begins with nobody or none; --list names them all" in done.stderr
