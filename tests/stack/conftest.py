"""Fixtures of the whole-stack tests."""

from tests.fixtures.logs import access_log, pytest_terminal_summary, sample_log
from tests.fixtures.stack import stack

__all__ = ["access_log", "pytest_terminal_summary", "sample_log", "stack"]
