"""Whole stack: the machine code that was made with the images is the one that is used."""

from __future__ import annotations

import pytest

from tests.fixtures.stack import Stack

MISSES = """
import sys
from contract.compiled import load_all

load_all()
loops = [module for name, module in sys.modules.items() if name.startswith("contract.loops.")]
compiled = {item for module in loops for item in vars(module).values() if hasattr(item, "stats")}
print(len(compiled), sorted(item.__name__ for item in compiled if item.stats.cache_misses))
"""


@pytest.mark.parametrize("service", ["archiver", "supervisor"])
def test_nothing_is_compiled_at_a_start(stack: Stack, service: str):
    count, misses = stack.compose("exec", "-T", service, "python", "-c", MISSES).split(maxsplit=1)
    assert int(count) > 10
    assert misses.strip() == "[]"
