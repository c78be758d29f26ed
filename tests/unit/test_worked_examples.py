"""The numbers of the architecture's example of a run are what the run's own steps make of its records.

Spark, HDFS and the database are stood in for; tests/layer/test_worked_examples.py has the hand-off, on a real database.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import date
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest

from batch import job
from batch.archive import Archive
from batch.fold import LEDGER
from batch.share import Describer, Found
from contract.master import OffsetRange, without
from contract.settings import Settings
from contract.sketches.bloom import BloomFilter
from ingest.archive_files import ArchiveFiles
from tests.fixtures.archived import judged
from tests.fixtures.memory import MemoryStore
from tests.fixtures.worked_examples import CAME_MS, section, table, value
from tests.simulate.engines import HdfsClient, Spark

TITLE = "A run's six steps, with numbers"
BAD = b"{"
# By file: partition, first offset, records. The first three are below the cut of run 1.
FILES = (
    (0, 0, [value("a", 19), value("b", 19), value("c", 19), value("d", 19)]),
    (0, 4, [value("e", 20), value("f", 20)]),
    (1, 0, [value("g", 20), value("h", 20), value("i", 19), BAD]),
    (0, 6, [value("j", 21), value("k", 21), value("l", 21), value("m", 20)]),
    (1, 4, [value("n", 21), value("k", 21), value("e", 20)]),
)
FIRST_CUT, CUT = {0: 6, 1: 4}, {0: 10, 1: 7}


class OneTry(random.Random):
    """No task is tried twice, so that what is sent can be counted."""

    def random(self) -> float:
        return 0.5


class Sent:
    """What the tasks of a step sent, as it goes by."""

    def __init__(self, step: Callable[..., Iterator[Any]]) -> None:
        self._step, self.items = step, []

    def __call__(self, *arguments: Any) -> Iterator[Any]:
        for item in self._step(*arguments):
            self.items.append(item[1])
            yield item


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()
    monkeypatch.setattr("contract.webhdfs.InsecureClient", lambda *arguments, **options: HdfsClient(store))
    monkeypatch.setattr("batch.archive.Archive.read", lambda archive, path, first_byte=0: store.read(path, first_byte))
    files = ArchiveFiles(store, Settings().archive_root)
    for partition, first, values in FILES:
        offsets = range(first, first + len(values))
        records = judged(partition, offsets, [CAME_MS] * len(values), values)
        files.put(OffsetRange(partition, first, first + len(values)), *records)
    return store


def test_the_numbers_of_a_run_are_what_its_steps_make(stored: MemoryStore, monkeypatch: pytest.MonkeyPatch):
    settings, spark = Settings(), Spark(OneTry())
    archive = Archive(settings)
    slices = archive.slices(CUT)
    rejected = frozenset(piece.file for piece in archive.quarantined(slices))
    describer = Describer(settings, rejected)

    def below(cut: dict[int, int]) -> list[OffsetRange]:
        return [OffsetRange(partition, 0, offset) for partition, offset in cut.items()]

    # 1. As batch/run.py chooses; what run 1 found stands in for the table that keeps it.
    before = job.describe(spark, describer, archive.slices(FIRST_CUT))
    new = without(slices, below(FIRST_CUT))
    found: list[Found] = job.describe(spark, describer, new)
    days = sorted({day for one in found for day in one.days})
    needed = without(slices, [one.offsets for one in before if not set(one.days) & set(days)])

    filters: list[dict[date, tuple[int, BloomFilter]]] = []
    written: dict[str, tuple[dict[str, pl.DataFrame], pl.DataFrame]] = {}
    monkeypatch.setattr(job, "connect", lambda *arguments: nullcontext())
    monkeypatch.setattr(job, "write_filters", lambda connection, run_id, part, parts, some: filters.append(some))
    monkeypatch.setattr(
        job, "write_task", lambda connection, run_id, name, rows, ledger: written.update({name: (rows, ledger)})
    )
    hashes, folded = Sent(job.send_hashes), Sent(job.send_folded)
    answers = Sent(job.send_answers)
    with patch.multiple(job, send_hashes=hashes, send_answers=answers, send_folded=folded):
        counts = job.compute(spark, settings, 2, needed, days, with_filters=True)  # type: ignore[arg-type]

    hash_count = sum(len(content) // 8 for _, _, content in hashes.items)
    members: Counter[date] = Counter()
    for some in filters:
        members.update({day: count for day, (count, _) in some.items()})
    shared = sum(told for told in answers.items if isinstance(told, int))
    suspects = sum(len(job.unpacked(content)) for name, content in folded.items if name == "suspects")
    alone = sum(int(job.unpacked(content)["counted"].sum()) for name, content in folded.items if name == LEDGER)
    views = {day: int(written[f"day={day} site_traffic"][0]["site_traffic_by_day"]["views"].sum()) for day in days}
    counted, duplicate = sum(one.counted for one in counts), sum(one.duplicate for one in counts)
    files = len({piece.file for piece in slices})
    text = [f"{day:%B} {day.day}" for day in days]
    assert [row[2] for row in table(TITLE)] == [
        f"{len(new)} of {files} files are new, with {sum(one.events for one in found)} events on {' and '.join(text)}; "
        f"{len({piece.file for piece in needed})} files have events of these days",
        f"{hash_count} hashes",
        f"filters of {members[days[0]]} and {members[days[1]]} events; {shared} hashes occur more than once",
        f"{alone} events are counted, {suspects} suspects are sent on",
        f"{suspects} suspects are {counted - alone} events and {duplicate} duplicates",
        f"{len(written)} tasks write {views[days[0]]} views of {text[0]} and {views[days[1]]} of {text[1]}",
    ]
    assert counted == sum(views.values()) == sum(members.values())
    assert f"counted {counted}, duplicate {duplicate}" in section(TITLE)
    received = sum(one.events + one.rejects for one in found)
    assert f"The run received {received} records" in section(TITLE)
