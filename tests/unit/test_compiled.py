"""Machine code is made once, when an image is built."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numba

import contract.compiled
from contract.sketches.hll import LOG2M

ROOT = Path(__file__).parents[2]


def test_the_program_that_fills_the_cache_and_whoever_reads_it_have_one_folder():
    folder = numba.config.CACHE_DIR
    runpy.run_path(contract.compiled.__file__, run_name="as a program")
    assert folder == numba.config.CACHE_DIR


def test_what_one_process_has_compiled_the_next_one_reads(tmp_path: Path):
    """Also what closes over other compiled functions, and of each variant its own."""
    loops = "from contract.loops import hll, wire; sizes = [hll.loops_of(size) for size in (hll.LOG2M, 15)]; "
    hits = "print([f.stats.cache_hits.total() for f in (*sizes[0], *sizes[1], wire.read_records, wire.read_plain_records)])"

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")}

    def hits_of_a_process() -> str:
        program = [sys.executable, "-c", loops + hits]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        return subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    assert hits_of_a_process() == str([0] * 8)
    made = files()
    assert hits_of_a_process() == str([1] * 8)
    assert files() == made
    for size in (LOG2M, 15):
        assert len([path for path in made if path.name.startswith(f"hll.loops_of.locals.merge_{size}-")]) == 2
