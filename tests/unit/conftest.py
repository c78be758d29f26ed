"""Fixtures of the unit tests."""

from tests.fixtures.logs import access_log, pytest_terminal_summary, sample_log

__all__ = ["access_log", "pytest_terminal_summary", "sample_log"]
