"""Seeded histories of the whole pipeline over the real database: exact after every step, whatever happens."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from contract.settings import Settings
from tests.simulate.run import OPERATIONS, Simulator, simulator
from tests.simulate.world import World

ROOT = Path(__file__).resolve().parents[2]


# What seeds 0 to 149 had: of a third of them half as much, or histories in which nothing happens would prove nothing.
OF_150 = {
    "publications": 282,
    "kills": 1569,
    "rescues": 176,
    "rollbacks": 35,
    "lost_connections": 33,
    "partitions_added": 43,
    "logs_cut": 60,
    "topics_replaced": 18,
    "files_lost": 12,
    "resumptions": 21,
    "gaps_accepted": 1,
    "fields_added": 7,
    "histories_that_forget": 50,
    "statements": 62,
    "forgettings_resumed": 13,
    "statements_lifted": 16,
}


@pytest.mark.parametrize(("first", "seeds"), [(0, 50), pytest.param(50, 100, marks=pytest.mark.long)])
def test_histories_are_exact_after_every_step(first: int, seeds: int) -> None:
    command = [sys.executable, "-m", "tests.simulate", "--first", str(first), "--seeds", str(seeds), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["histories"], result["wrong_seeds"]) == (seeds, [])
    least = {fault: times * seeds // 300 for fault, times in OF_150.items()}
    assert {fault: result.get(fault, 0) for fault, times in least.items() if result.get(fault, 0) < times} == {}


def test_a_seed_tells_the_same_history_again() -> None:
    with simulator(Settings.from_env()) as histories:
        first, again = (histories.run(7).history for _ in range(2))
    assert first == again


def test_any_order_of_operations_is_exact() -> None:
    """The same, with operations chosen and shrunk by Hypothesis: a failure names the fewest operations that show it."""
    with simulator(Settings.from_env()) as histories:
        profile = hypothesis.settings(
            max_examples=20,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        run_state_machine_as_test(lambda: _Machine(histories), settings=profile)


class _Machine(RuleBasedStateMachine):
    def __init__(self, histories: Simulator) -> None:
        super().__init__()
        self._histories, self._stack = histories, ExitStack()

    @initialize(seed=st.integers(0, 1_000))
    def begin(self, seed: int) -> None:
        self._world, self._checker = self._stack.enter_context(self._histories.world(seed))

    @rule(operation=st.sampled_from(list(OPERATIONS)), draw=st.integers(0, 1_000))
    def happens(self, operation: Callable[[World], None], draw: int) -> None:
        self._world.chance.seed(draw)
        operation(self._world)
        self._checker.check()

    def teardown(self) -> None:
        with self._stack:
            if hasattr(self, "_world"):
                random.seed(0)
                self._world.settle(self._checker.check)
                self._checker.check_end()
