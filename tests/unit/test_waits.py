"""What is waited for may take for ever while it advances; once it stands still for too long, the wait ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from batch.archive import Archive
from contract.errors import ArchiveBehind
from contract.master import MASTER, OffsetRange
from contract.settings import Settings
from serving.standstill import Standstill


@dataclass
class Clock:
    """Stands in for the module `time`; what `sleep` passes, `then` sees."""

    now_s: float = 1_000.0
    then: Callable[[float], None] = field(default=lambda now_s: None)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.then(self.now_s)


def test_only_an_advance_begins_the_time_anew():
    clock = Clock()
    standstill = Standstill(10, clock.monotonic)
    for position in (5, 6, 7, 8):
        clock.now_s += 9
        standstill.see(position)
        assert not standstill.too_long
    for position in (8, 3, 8):  # it stands, goes back, and is where it was
        clock.now_s += 3
        standstill.see(position)
    assert (standstill.stood_s, standstill.too_long) == (9, False)
    clock.now_s += 1.5
    standstill.see(4)
    assert (standstill.stood_s, standstill.too_long) == (10.5, True)


def test_a_wait_that_never_saw_a_position_ends_too():
    clock = Clock()
    standstill = Standstill(10, clock.monotonic)
    clock.now_s += 11
    assert standstill.too_long


@dataclass
class Listing:
    """hdfs.InsecureClient of an archive of partition 0 that ends at `next_offset`."""

    next_offset: int = 0

    def list(self, folder: str, status: bool) -> list[tuple[str, dict[str, Any]]]:
        if folder.endswith(MASTER):
            return [("partition=0", {})] if self.next_offset else []
        name = OffsetRange(0, 0, self.next_offset).file_name
        return [(name, {"modificationTime": 0, "replication": 1, "length": 1})] if self.next_offset else []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("batch.archive.time", clock)
    return clock


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> Listing:
    listing = Listing()
    monkeypatch.setattr("contract.webhdfs.InsecureClient", lambda *arguments, **options: listing)
    return listing


SETTINGS = replace(Settings(), batch_wait_s=120)


def test_a_run_waits_for_an_archive_that_advances_however_long_that_takes(clock: Clock, listing: Listing):
    started_s = clock.now_s

    def archive_slowly(now_s: float) -> None:
        listing.next_offset = int(now_s - started_s) // 100

    clock.then = archive_slowly
    Archive(SETTINGS).wait_for({0: 50})
    assert clock.now_s - started_s == pytest.approx(5_000, abs=1)


def test_a_run_gives_up_an_archive_that_stands_still_below_its_cut(clock: Clock, listing: Listing):
    started_s = clock.now_s

    def stop_at_20(now_s: float) -> None:
        listing.next_offset = min(20, int(now_s - started_s) // 100)

    clock.then = stop_at_20
    with pytest.raises(
        ArchiveBehind,
        match=r"archive of partition 0 ends at 20 but the cut is 50, and nothing came for 120 s; is the archiver running\?",
    ):
        Archive(SETTINGS).wait_for({0: 50})
    assert clock.now_s - started_s == pytest.approx(2_120, abs=1)


def test_what_is_archived_above_the_cut_is_no_progress(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    started_s = clock.now_s
    archive = Archive(SETTINGS)
    monkeypatch.setattr(archive, "next_offsets", lambda: {0: 20, 1: 1_000 + int(clock.now_s)})
    with pytest.raises(ArchiveBehind, match="partition 0 ends at 20 but the cut is 50"):
        archive.wait_for({0: 50, 1: 1_000})
    assert clock.now_s - started_s == pytest.approx(120, abs=1)
