"""Fixtures of the whole-stack tests."""

from tests.fixtures.stack import access_log, stack

__all__ = ["access_log", "stack"]
