"""Every guard in the code has a mutation that removes it, and every mutation still finds its guard."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.mutations.catalogue import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("contract", "ingest", "speed", "batch", "serving")


def test_each_guard_has_one_mutation():
    marked: list[str] = []
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*")):
            if path.suffix in (".py", ".sql"):
                marked += re.findall(r"(?:#|--) guard: (.+)", path.read_text(encoding="utf-8"))
    assert sorted(marked) == sorted(mutation.guard for mutation in MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_a_mutation_stands_beside_its_guard(mutation: Mutation, tmp_path: Path):
    for file in (mutation.file, *(file for file, _, _ in mutation.more)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    mutation.apply(tmp_path)
    assert (tmp_path / mutation.file).read_text(encoding="utf-8") != (ROOT / mutation.file).read_text(encoding="utf-8")
