"""Layer tests use real servers, found through the environment as everything else does. One module of fixtures a server."""

from tests.fixtures.database import database, empty_database
from tests.fixtures.handoff import batch, reader, speed
from tests.fixtures.hdfs import archive_root, archived_topic, whole
from tests.fixtures.kafka import no_topic, other_topic, topic

__all__ = [
    "archive_root",
    "archived_topic",
    "batch",
    "database",
    "empty_database",
    "no_topic",
    "other_topic",
    "reader",
    "speed",
    "topic",
    "whole",
]
