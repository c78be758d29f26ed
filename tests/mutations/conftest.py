"""Fixtures of the proofs that run here and not in a copy of the code."""

from tests.fixtures.database import database, empty_database

__all__ = ["database", "empty_database"]
