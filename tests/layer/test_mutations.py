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


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_without_its_guard_a_promise_breaks(mutation: Mutation, tmp_path: Path):
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    mutation.apply(tmp_path)
    done = subprocess.run(
        [sys.executable, *mutation.proof],
        cwd=tmp_path,
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
