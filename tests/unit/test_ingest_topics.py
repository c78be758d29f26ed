"""A topic that was just made is there for whoever comes next."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from contract.settings import Settings
from ingest import topics

SETTINGS = Settings()


def answers() -> Iterator[SimpleNamespace]:
    """What a broker says of the topic, one answer after the other, while it hears of it."""
    none, led = SimpleNamespace(leader=-1), SimpleNamespace(leader=1)
    yield SimpleNamespace(error="unknown topic", partitions={})
    yield SimpleNamespace(error=None, partitions={0: led, 1: none})
    yield SimpleNamespace(error=None, partitions={0: led})
    yield SimpleNamespace(error=None, partitions={0: led, 1: led})
    yield SimpleNamespace(error=None, partitions={0: led, 1: led})


def test_a_topic_is_created_once_the_broker_knows_it(monkeypatch: pytest.MonkeyPatch):
    told, created = answers(), Future[None]()
    created.set_result(None)
    leads, not_yet = Future[SimpleNamespace](), Future[SimpleNamespace]()
    leads.set_result(SimpleNamespace(offset=0))
    not_yet.set_exception(KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)))
    ends = iter([not_yet, leads])

    class Admin:
        def __init__(self, config: dict[str, Any]) -> None:
            pass

        def create_topics(self, wanted: list[Any], request_timeout: float) -> dict[str, Future[None]]:
            return {SETTINGS.topic: created}

        def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
            return SimpleNamespace(topics={topic: next(told)})

        def list_offsets(self, asked: dict[Any, Any], request_timeout: float) -> dict[Any, Future[SimpleNamespace]]:
            return dict.fromkeys(asked, next(ends))

    monkeypatch.setattr(topics, "AdminClient", Admin)
    monkeypatch.setattr(topics, "_LOOK_S", 0)
    assert topics.ensure_topic(SETTINGS)
    assert list(told) == []
    assert list(ends) == []
