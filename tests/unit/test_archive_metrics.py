"""What an archiver shows is what it has done, and while it waits it says for what."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from contract.errors import EngineUnavailable
from ingest.archive import Archiver
from ingest.archive_files import ArchiveFiles
from ingest.archive_metrics import ArchiveMetrics
from tests.fixtures.memory import MemoryConsumer, MemoryTopic
from tests.unit.test_ingest_archive import REJECT, SETTINGS, World, event


class Shown:
    """An archiver of a world, and what it shows."""

    def __init__(self, world: World) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ArchiveMetrics(self.registry)
        connect, files = lambda: MemoryConsumer(world.topic), ArchiveFiles(world.store, SETTINGS.archive_root)
        clocks = (lambda: world.clock_s, lambda: world.clock_s)
        arguments = (SETTINGS, connect, world.topic.described, files, world, world.said.append, *clocks)
        self.archiver = Archiver(*arguments, metrics=self.metrics)  # type: ignore[arg-type]

    def value(self, name: str, *labels: str) -> float | None:
        names = ("partition", "outcome")[: len(labels)]
        return self.registry.get_sample_value(f"braid_archive_{name}", dict(zip(names, labels, strict=True)))


def test_it_counts_what_is_in_its_files_and_no_more():
    world = World(MemoryTopic({0: [*(event(number) for number in range(9)), REJECT], 1: [event(1)]}))
    shown = Shown(world)
    assert shown.metrics.waits_for() == "it has not looked at the archive yet"
    shown.archiver.start()
    assert shown.metrics.waits_for() is None
    assert (shown.value("next_offset", "0"), shown.value("records_total", "0", "event")) == (0, None)
    shown.archiver.step()
    # Ten are a file at once, the one waits for its time.
    assert [shown.value("records_total", "0", outcome) for outcome in ("event", "reject", "forgotten")] == [9, 1, 0]
    assert (shown.value("files_total", "0"), shown.value("next_offset", "0")) == (1, 10)
    assert (shown.value("next_offset", "1"), shown.value("records_total", "1", "event")) == (0, None)
    world.pass_s(5)
    shown.archiver.step()
    shown.archiver.step()
    assert (shown.value("next_offset", "1"), shown.value("records_total", "1", "event")) == (1, 1)
    assert shown.value("buffered_bytes") == 0
    # Another start finds the same, and has written nothing.
    again = Shown(world)
    again.archiver.start()
    assert (again.value("next_offset", "0"), again.value("files_total", "0")) == (10, None)


def test_while_hdfs_is_away_it_says_so_and_how_long_a_file_took_has_that_in_it():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    shown = Shown(world)
    shown.archiver.start()
    seen: list[str | None] = []
    began_s = world.clock_s

    def refused(operation: str, path: str) -> None:
        seen.append(shown.metrics.waits_for())
        if world.clock_s < began_s + 30:
            raise EngineUnavailable.at("HDFS", "http://namenode:9870", "refused")

    world.store.fault = refused
    shown.archiver.step()
    assert any(text is not None and text.startswith("HDFS at http://namenode:9870") for text in seen)
    assert shown.metrics.waits_for() is None
    assert shown.value("waiting") == 0
    assert shown.value("write_seconds_sum") == world.clock_s - began_s


def test_a_log_that_is_another_one_is_said_until_it_is_the_right_one_again():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    first = Shown(world)
    first.archiver.start()
    first.archiver.step()
    right, world.topic.topic_id = world.topic.topic_id, "another"
    shown = Shown(world)
    world.stop_after = 4
    shown.archiver.run()
    told = shown.metrics.waits_for()
    assert told is not None
    assert "has the id another" in told
    world.topic.topic_id, world.stop_after = right, 10**9
    shown.archiver.start()
    assert shown.metrics.waits_for() is None
