"""Simulated traffic gives the oracle's rows; that both judge every record alike is in test_fuzz_event.py."""

from __future__ import annotations

from datetime import UTC, datetime

from contract.aggregate import aggregate, first_of_each
from contract.event import decode
from contract.views import VIEWS, with_rollups
from ingest.simulate import events
from tests import oracle

KAFKA_TIME_MS = 1_763_712_000_000


def test_simulated_traffic_gives_the_same_rows_in_oracle_and_kernel():
    now = datetime(2025, 11, 21, 8, 0, tzinfo=UTC)
    stream = events(5, lambda: now, "test")
    values = [next(stream)[1] for _ in range(6_000)]
    outcome = oracle.pipeline((0, offset, KAFKA_TIME_MS, value) for offset, value in enumerate(values))
    decoded = decode(0, range(len(values)), [KAFKA_TIME_MS] * len(values), values)
    unique = first_of_each(decoded.events)
    assert outcome.received == outcome.counted + outcome.duplicate + outcome.rejects.total()
    assert (outcome.counted, outcome.duplicate) == (len(unique), len(decoded.events) - len(unique))
    assert outcome.rejects == dict(decoded.rejects["reason"].value_counts().iter_rows())
    assert outcome.duplicate > 20
    assert outcome.rejects.total() > 0
    assert set(oracle.VIEWS) == {view.name for view in with_rollups(VIEWS)}
    for view, rows in aggregate(unique, with_rollups(VIEWS)).items():
        assert rows.rows() == oracle.expected_rows(outcome, view)
