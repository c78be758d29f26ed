"""Guards are tested by removing them: each time, something that was green must be red."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.catalogue import MUTATIONS, SIMULATION, Mutation

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("contract", "ingest", "speed", "batch", "serving", "tests", "pyproject.toml")


@pytest.fixture(scope="session")
def mutated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for all copies: Numba keeps machine code by the source's path, and compiling takes half a minute."""
    return tmp_path_factory.mktemp("mutated")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_without_its_guard_a_promise_breaks(mutation: Mutation, mutated: Path):
    shutil.rmtree(mutated)
    mutated.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, mutated / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, mutated / part)
    mutation.apply(mutated)
    done = subprocess.run(
        [sys.executable, *mutation.proof],
        cwd=mutated,
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{mutation.guard} is gone:\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 1, said
    # A proof that could not run is none.
    if mutation.proof is SIMULATION:
        assert json.loads(done.stdout)["wrong_seeds"], said
    else:
        assert " failed" in done.stdout, said
