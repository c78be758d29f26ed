"""Hypothesis draws the same examples in every run, so that a red test is red for everybody; a search is another profile.

`pytest --hypothesis-profile=search tests/unit/test_fuzz_event.py` draws new examples each time, and many more.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed", max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "search",
    settings.get_profile("fixed"),
    max_examples=5_000,
    derandomize=False,
    database=None,
    print_blob=True,
)
settings.load_profile("fixed")
