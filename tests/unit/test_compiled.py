"""Machine code is made once, when an image is built."""

from __future__ import annotations

import runpy

import numba

import contract.compiled


def test_the_program_that_fills_the_cache_and_whoever_reads_it_have_one_folder():
    folder = numba.config.CACHE_DIR
    runpy.run_path(contract.compiled.__file__, run_name="as a program")
    assert folder == numba.config.CACHE_DIR
