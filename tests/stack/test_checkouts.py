"""Whole stack: a second checkout on the same machine finds the name of this stack taken."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.stack import ROOT, Stack

COMMANDS = (
    "up", "deploy", "batch FULL=1", "rollback", "audit", "replay LOG=Makefile", "follow LOG=Makefile", "sources",
    "query SQL=select+1", "status", "psql", "ps",
    "logs", "down", "clean YES=1",
)  # fmt: skip
ALL = ("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Image}} {{.State}}")


@pytest.fixture
def second_checkout(tmp_path: Path) -> Path:
    """Scripts and secrets of this one, in another folder."""
    folder = tmp_path / "second checkout"
    shutil.copytree(ROOT / "compose", folder / "compose")
    shutil.copytree(ROOT / "build" / "secrets", folder / "build" / "secrets")
    if (ROOT / "build" / "bin").exists():
        (folder / "build" / "bin").symlink_to((ROOT / "build" / "bin").resolve())
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def make(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--silent", *command.split()], cwd=folder, capture_output=True, text=True, input="", check=False
    )


def test_every_command_of_a_second_checkout_names_the_first_and_changes_nothing(stack: Stack, second_checkout: Path):
    def everything() -> tuple[str, str, list[tuple[int, ...]]]:
        volumes = stack.run("compose/engine", "docker", "volume", "ls", "--quiet").stdout
        return stack.compose(*ALL), volumes, stack.ask("SELECT max(run_id), count(*) FROM runs")

    before = everything()
    for command in COMMANDS:
        done = make(second_checkout, command)
        said = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
        assert (done.returncode != 0, done.stdout, len(said)) == (True, "", 1), (command, done)
        assert f"project '{os.environ['COMPOSE_PROJECT_NAME']}' belongs to another folder, {ROOT}:" in said[0]
    assert everything() == before


def test_a_link_to_this_checkout_is_this_checkout(stack: Stack, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(ROOT)
    before = stack.compose(*ALL)
    assert make(link, "up TRAFFIC=none").returncode == 0
    assert stack.compose(*ALL) == before


def test_a_name_that_nothing_has_is_said_without_the_engines_words(stack: Stack):
    for command in ("batch", "query", "status", "psql", "logs"):
        done = stack.run("env", "COMPOSE_PROJECT_NAME=braid-nothing", "make", "--silent", command, check=False)
        said = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
        assert said == ["braid: nothing is built here: 'make up' builds and starts everything"], (command, done)
    networks = stack.run("compose/engine", "docker", "network", "ls", "--filter", "name=braid-nothing", "--quiet").stdout
    assert networks == ""
