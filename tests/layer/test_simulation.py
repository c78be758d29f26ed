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
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from contract.settings import Settings
from tests.simulate.run import OPERATIONS, Simulator, simulator
from tests.simulate.world import World

ROOT = Path(__file__).resolve().parents[2]


def test_150_histories_are_exact_after_every_step() -> None:
    command = [sys.executable, "-m", "tests.simulate", "--seeds", "150", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["histories"], result["wrong_seeds"]) == (150, [])
    # Histories in which nothing happens would prove nothing.
    # The first 150 seeds had about twice as much of each.
    least = {
        "publications": 150,
        "kills": 900,
        "rescues": 90,
        "rollbacks": 15,
        "lost_connections": 20,
        "partitions_added": 25,
        "logs_cut": 40,
        "topics_replaced": 6,
        "files_lost": 6,
        "resumptions": 14,
        "gaps_accepted": 1,
        "fields_added": 5,
        "histories_that_forget": 22,
        "statements": 24,
        "forgettings_resumed": 6,
        "statements_lifted": 3,
    }
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
