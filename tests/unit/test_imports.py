"""The import rule is the data rule: ingest → contract; batch, speed → contract, serving; serving → contract."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "contract": set(),
    "ingest": {"contract"},
    "serving": {"contract"},
    "batch": {"contract", "serving"},
    "speed": {"contract", "serving"},
}
MODULES = [(package, file) for package in ALLOWED for file in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize(("package", "file"), MODULES, ids=[str(file.relative_to(ROOT)) for _, file in MODULES])
def test_imports_follow_the_data(package: str, file: Path):
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the arrow"
            imported.add((node.module or "").split(".")[0])
    assert imported & set(ALLOWED) <= ALLOWED[package] | {package}


def test_numba_is_not_loaded_before_it_is_needed():
    # It takes more than a second, which no command line should wait for that only asks or plans.
    imports = "import batch.__main__, contract.aggregate, ingest.__main__, serving.__main__, speed.submit, speed.topology"
    code = f"import sys, warnings; warnings.simplefilter('ignore'); {imports}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_only_settings_read_the_environment():
    readers = [file.relative_to(ROOT).as_posix() for _, file in MODULES if "os.environ" in file.read_text(encoding="utf-8")]
    assert readers == ["contract/settings.py"]


@pytest.mark.parametrize("package", [file.parent.name for file in sorted(ROOT.glob("*/__main__.py"))])
def test_help_does_not_wait_for_numba(package: str):
    command = [sys.executable, "-X", "importtime", "-m", package, "--help"]
    imports = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    assert "argparse" in imports
    assert "numba" not in imports
