"""A mistake and its cure: a kernel with a bug is deployed, its wrong numbers are seen, taken back, and computed anew.

What a moment's rows should have been is what they are in the end, and `make audit` proves these.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contract.views import VIEWS, with_rollups
from tests.fixtures.deployed import changed_code, deploy_s
from tests.fixtures.stack import ROOT, Stack

_SEEDS = (71, 72)
_NO_LIMIT = 100_000_000
# So many times as few events come while the bug is there as came before.
_LATER = 50
_MEASURES = "contract/measures.py"
_RIGHT = (
    "return [] if self.where is None else self.where.meta.root_names()",
    "return np.ones(len(events), np.int64)",
)
_WRONG = (
    'return ["user_agent"] if self.where is None else self.where.meta.root_names()',
    'return 1 + events["user_agent"].str.contains("bot").fill_null(False).to_numpy().astype(np.int64)',
)

Rows = dict[tuple[Any, ...], tuple[Any, ...]]
"""The measures of each row of every view, by view, bucket and keys."""


@dataclass(frozen=True)
class Moment:
    """How long it took to come there; how many rows of all there are then, how many of them are wrong in any column; by how
    many views one is wrong at most, and all together."""

    name: str
    seconds: float
    rows: int
    rows_wrong: int
    largest_error: int
    total_error: int


def heal(stack: Stack, events: int, say: Callable[[str], None]) -> list[Moment]:
    """The moments with the bug, after the rollback and after the cure; the stack runs the right code again.

    AssertionError if the bug was not to be seen, or if the rollback or the cure did not do what it is for.
    """
    say(f"sending {events:,} events; a third of them are a bot's")
    stack.simulate(events, _SEEDS[0], _NO_LIMIT)
    stack.run("make", "--silent", "batch", "FULL=1")
    ((right_run,),) = stack.ask("SELECT max(run_id) FROM runs WHERE state = 'published'")
    with changed_code(_MEASURES, *zip(_RIGHT, _WRONG, strict=True)) as folder:
        say("make deploy FULL=1, of a kernel that counts bots twice")
        broke_s = deploy_s(stack, folder, "FULL=1")
    say(f"{events // _LATER:,} more events, counted by that kernel")
    stack.simulate(events // _LATER, _SEEDS[1], _NO_LIMIT)
    wrong = _rows(stack)
    say(f"make rollback RUN={right_run}")
    started_s = time.monotonic()
    say(stack.run("make", "--silent", "rollback", f"RUN={right_run}").stdout.strip())
    rolled_back_s = time.monotonic() - started_s
    rolled_back = _rows(stack)
    say("make deploy FULL=1, of the mended kernel")
    healed_s = deploy_s(stack, ROOT, "FULL=1")
    right = _rows(stack)
    moments = [
        _moment("bots count twice", broke_s, wrong, right),
        _moment("rolled back", rolled_back_s, rolled_back, right),
        _moment("healed", healed_s, right, right),
    ]
    seen, back, _ = (moment.total_error for moment in moments)
    # A third of the events is a bot's, and what came while the bug was there is wrong after the rollback too.
    assert events / 4 < seen < events / 2, f"{seen:,} views too many of {events:,} events is not what the bug counts"
    assert 0 < back < seen / 10, f"{back:,} views too many after the rollback, {seen:,} before it"
    return moments


def _rows(stack: Stack) -> Rows:
    return {
        (view.name, *row[: len(view.group)]): row[len(view.group) :]
        for view in with_rollups(VIEWS)
        for row in stack.merged(view)
    }


def _moment(name: str, seconds: float, rows: Rows, right: Rows) -> Moment:
    errors = {
        key: abs(_views(rows, key) - _views(right, key))
        for key in rows.keys() | right.keys()
        if rows.get(key) != right.get(key)
    }
    first = VIEWS[0].name
    total = sum(error for key, error in errors.items() if key[0] == first)
    return Moment(name, round(seconds, 1), len(rows), len(errors), max(errors.values(), default=0), total)


def _views(rows: Rows, key: tuple[Any, ...]) -> int:
    """A view's first measure counts its events."""
    return int(rows[key][0]) if key in rows else 0
