"""How many instances load asks for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("now", "least", "most", "busy", "wanted"),
    [
        (1, 1, 4, 71, 2),
        (1, 1, 4, 70, 1),
        (4, 1, 4, 100, 4),  # not above the bound
        (1, 1, 4, 0, 1),  # not below
        (2, 1, 4, 22, 1),  # one alone would use 44 %
        (2, 1, 4, 23, 2),  # and here 46 %
        (4, 1, 4, 33, 3),
        (5, 1, 4, 50, 4),  # the bound was lowered
        (1, 2, 4, 0, 2),
    ],
)
def test_more_of_them_come_at_once_and_fewer_when_fewer_would_do(now: int, least: int, most: int, busy: int, wanted: int):
    command = ["compose/autoscale", "wanted", *map(str, (now, least, most, busy))]
    assert int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout) == wanted


def test_bounds_that_are_none_are_named():
    done = subprocess.run(
        ["compose/autoscale", "loop"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "AUTOSCALE_COLLECTORS": "4-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "AUTOSCALE_COLLECTORS=4-1 is no range such as 1-4" in done.stderr
