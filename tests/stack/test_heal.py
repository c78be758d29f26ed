"""Whole stack: what docs/heal.md tells, with the oracle in the end instead of an audit."""

from __future__ import annotations

from tests.fixtures.stack import Stack
from tests.heal.heal import heal
from tests.stack.test_exact import assert_equals_oracle


def test_a_kernel_that_counts_bots_twice_is_seen_taken_back_and_healed(stack: Stack):
    said: list[str] = []
    wrong, rolled_back, healed = heal(stack, 20_000, said.append)
    truth = assert_equals_oracle(stack)
    bots = sum(row.views for row in truth.rows["site_traffic"].values()) / 3
    # A third of the simulated events is a bot's; other tests' events are there too, some without a user agent.
    assert wrong.total_error > 5_000
    assert wrong.total_error < 1.2 * bots
    assert 0 < rolled_back.total_error < wrong.total_error / 10
    assert (healed.rows_wrong, healed.largest_error, healed.total_error) == (0, 0, 0)
    assert any("speed rows from there up to" in line for line in said)
