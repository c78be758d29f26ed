"""Forgetting in an archive in memory: files keep to what was said, wherever a process dies, and nothing comes back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from contract.archive_file import decode as decode_file
from contract.errors import EngineUnavailable, ForgettingUnfinished, InputError
from contract.event import REJECT_SCHEMA
from contract.forgotten import FOR_EVER_US, KEY, Keyed, Rules, Statement
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from contract.master_rows import master_schema
from contract.settings import Settings
from ingest.archive import Archiver
from ingest.archive_files import ArchiveFiles, Outdated
from ingest.archive_plan import current
from ingest.forget import amount_of, digests_of, keep_to, lift, plan
from ingest.forgotten_log import ForgottenLog
from ingest.register import Register
from tests.fixtures.archived import judged
from tests.fixtures.memory import Crash, MemoryConsumer, MemoryStore, MemoryTopic

CAME_MS = 1_763_712_000_000
SECRET = "of these tests"


def quiet(line: str) -> None:
    pass


def event(number: int) -> bytes:
    site, visitor = ("shop", "demo", "demo")[number % 3], f"v{number % 4}"
    return (
        f'{{"event_id":"log~{number % 2}:{number}","event_time":"2025-11-20T10:00:00.5Z","site":"{site}","page":"/",'
        f'"visitor_id":"{visitor}","status":200,"bytes_sent":{number}}}'
    ).encode()


def value(number: int) -> bytes:
    """Each fifth is no event; half of those name a site and a visitor."""
    if number % 5:
        return event(number)
    return event(number)[:-1] + b"," if number % 10 else b"not an event"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / KEY).write_text(SECRET)
    (tmp_path / "visitor_key").write_text("another")
    return replace(
        Settings(), secrets_dir=str(tmp_path), archive_flush_rows=10, archive_merge_files=3, archive_grace_ms=60_000
    )


@dataclass
class Place:
    """An archive of two partitions in files of ten records, some merged away, some set aside."""

    settings: Settings
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        if self.store.files:
            return
        for partition in (0, 1):
            for first in range(0, 60, 10):
                self.put(partition, first, first + 10)
            merged = [Slice(OffsetRange(partition, first, first + 10), first, first + 10) for first in (0, 10, 20)]
            assert self.files.merge(merged, 1 << 30)

    @property
    def files(self) -> ArchiveFiles:
        return ArchiveFiles(self.store, self.settings.archive_root)

    @property
    def log(self) -> ForgottenLog:
        return ForgottenLog(self.store, self.settings)

    @property
    def register(self) -> Register:
        return Register(self.store, self.settings.archive_root, lambda: CAME_MS)

    def put(self, partition: int, first: int, after: int) -> None:
        offsets = list(range(first, after))
        records = judged(partition, offsets, [CAME_MS] * len(offsets), [value(offset) for offset in offsets])
        self.files.put(OffsetRange(partition, first, after), *records)

    def say(self, kind: str, what: str) -> Statement:
        statement, _ = plan(self.settings, self.log, self.files, self.register, kind, what, quiet)  # type: ignore[arg-type]
        return self.log.add(statement)

    def rows(self, dataset: str) -> pl.DataFrame:
        """All that readers get."""
        frames = [pl.DataFrame(schema=master_schema() if dataset == MASTER else REJECT_SCHEMA)]
        for partition in self.files.partitions():
            there = self.files.ranges(partition, dataset)
            parts = [part for part in current(partition, self.files.ranges(partition)) if part.file in there]
            frames.append(self.files.read(dataset, parts))
        return pl.concat(frames)

    def contents(self) -> Iterator[tuple[str, pl.DataFrame, list[int]]]:
        """Every sealed file of the archive: its path, its rows, and which offsets it says are forgotten."""
        for path, (content, _) in sorted(self.store.files.items()):
            if "/partition=" in path and not path.endswith(".tmp"):
                table, said = decode_file(content, path)
                first, after = said.offsets.first_offset, said.offsets.next_offset
                frame = pl.from_arrow(table)
                assert isinstance(frame, pl.DataFrame)
                assert len(frame) == (said.events if f"/{MASTER}/" in path else said.rejects)
                yield path, frame, said.forgotten_within(first, after).tolist()


class Never:
    """Nobody asks it to stop."""

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        return False


def archiver_of(place: Place, topic: MemoryTopic) -> Archiver:
    connect, said = lambda: MemoryConsumer(topic), place.log.rules
    archiver = Archiver(
        place.settings,
        connect,
        topic.described,
        place.files,
        Never(),
        lambda line: None,
        rules=said,  # type: ignore[arg-type]
    )
    archiver.start()
    return archiver


def names_shop(number: int) -> bool:
    return number % 3 == 0 and (number % 5 != 0 or number % 10 != 0)


def assert_forgotten(place: Place, rules: Rules) -> None:
    """No file has any of it, each says which offsets it had, and all else is there."""
    for _, frame, forgotten in place.contents():
        gone = rules.events(frame) if "site" in frame.columns else rules.rejects(frame)
        assert not gone.any()
        assert not set(frame["offset"].to_list()) & set(forgotten)
    for partition in (0, 1):
        offsets = [number for number in range(60) if not names_shop(number)]
        found = [
            place.rows(dataset).filter(pl.col("partition") == partition)["offset"].to_list()
            for dataset in (MASTER, QUARANTINE)
        ]
        assert sorted(found[0] + found[1]) == offsets
        for path, _, forgotten in place.contents():
            first, after = map(int, re.findall(r"[0-9]{20}", path))
            if f"/{MASTER}/partition={partition}" in path:
                assert forgotten == [number for number in range(first, after) if names_shop(number)], path


def assert_in_no_file(place: Place) -> None:
    rules = place.log.rules()
    for path, rows, _ in place.contents():
        assert not (rules.events if "site" in rows.columns else rules.rejects)(rows).any(), path


def test_every_file_is_rid_of_it_and_says_so_and_all_else_stays(settings: Settings):
    place = Place(settings)
    place.store.files[f"{settings.archive_root}/{MASTER}/partition=0/.lost.tmp"] = (b"half", 0)
    aside = f"{place.files.path(QUARANTINE, OffsetRange(0, 40, 50))}.without-master"
    place.store.files[aside] = place.store.files[place.files.path(QUARANTINE, OffsetRange(0, 40, 50))]
    before = {dataset: place.rows(dataset) for dataset in (MASTER, QUARANTINE)}
    statement, amount = plan(settings, place.log, place.files, place.register, "site", "shop", quiet)
    events = sum(names_shop(n) and n % 5 != 0 for n in range(60))
    rejects = sum(names_shop(n) and n % 5 == 0 for n in range(60))
    assert (amount.events, amount.rejects) == ({0: events, 1: events}, {0: rejects, 1: rejects})
    assert (statement.events, statement.rejects) == (2 * events, 2 * rejects)
    assert amount.files == 14
    assert amount.lines()[0].startswith(
        f"{2 * events:,} events and {2 * rejects:,} rejects in 14 files, of 2025-11-20 10:00:00Z"
    )
    # A plan changes nothing.
    assert place.log.said().statements == ()
    place.log.add(statement)
    assert [one.number for one in place.log.said().unfinished] == [1]
    assert keep_to(place.log, place.files, place.register, quiet) == 15
    assert place.log.said().unfinished == []
    assert_forgotten(place, place.log.rules())
    assert not any(path.endswith(".tmp") for path in place.store.files)
    for dataset, rows in before.items():
        kept = rows.filter(~pl.col("offset").is_in([number for number in range(60) if names_shop(number)]))
        assert place.rows(dataset).equals(kept)
    assert keep_to(place.log, place.files, place.register, quiet) == 0
    # Nothing of what it was is written down.
    said = b"".join(content for path, (content, _) in place.store.files.items() if "/forgotten/" in path)
    assert b"shop" not in said
    assert amount_of(place.files, place.log.rules(), quiet).files == 0


def test_wherever_it_dies_the_next_one_ends_the_same(settings: Settings):
    whole = Place(settings)
    whole.say("site", "shop")
    begun = dict(whole.store.files)
    keep_to(whole.log, whole.files, whole.register, quiet)
    done = {path: content for path, (content, _) in whole.store.files.items() if "/partition=" in path}
    step, finished = 0, False
    while not finished:
        place = Place(settings, MemoryStore(dict(begun)))
        left = step

        def fault(operation: str, path: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        place.store.fault = fault
        with suppress(Crash):
            keep_to(place.log, place.files, place.register, quiet)
            finished = True
        place.store.fault = lambda operation, path: None
        # At each moment each range has a whole file.
        for _ in place.contents():
            pass
        keep_to(place.log, place.files, place.register, quiet)
        assert_forgotten(place, place.log.rules())
        assert {p: c for p, (c, _) in place.store.files.items() if "/partition=" in p} == done
        step += 11


def test_a_merge_keeps_in_mind_what_is_forgotten(settings: Settings):
    place = Place(settings)
    place.say("site", "shop")
    keep_to(place.log, place.files, place.register, quiet)
    parts = [Slice(OffsetRange(0, first, first + 10), max(first, 35), first + 10) for first in (30, 40, 50)]
    merged = place.files.merge(parts, 1 << 30)
    assert merged == OffsetRange(0, 35, 60)
    (forgotten,) = [f for path, _, f in place.contents() if path == place.files.path(MASTER, merged)]
    assert forgotten == [number for number in range(35, 60) if names_shop(number)]


def test_what_is_forgotten_is_not_archived_again_until_it_is_lifted(settings: Settings):
    place = Place(settings)
    place.say("site", "shop")
    keep_to(place.log, place.files, place.register, quiet)
    records: list[object] = [(CAME_MS, event(number)) for number in range(60)]
    topic = MemoryTopic({0: records * 2, 1: records.copy()})
    archiver = archiver_of(place, topic)
    archiver.step()
    assert archiver.next_offsets == {0: 120, 1: 60}
    rows = place.rows(MASTER).filter((pl.col("partition") == 0) & (pl.col("offset") >= 60))
    assert rows["offset"].to_list() == [60 + number for number in range(60) if number % 3]
    # Nor is it in those that are merged by now.
    assert_in_no_file(place)
    lift(place.log, place.register, 1)
    topic.partitions[0] += records
    archiver.step()
    assert len(place.rows(MASTER).filter(pl.col("offset") >= 120)) == 60
    with pytest.raises(InputError, match=r"LIFT=1: there is no such statement that stands; those that do: none"):
        lift(place.log, place.register, 1)


@pytest.mark.parametrize("before", ["write", "rename"])
@pytest.mark.parametrize("dataset", [MASTER, QUARANTINE])
def test_a_file_that_comes_late_keeps_to_what_was_said_meanwhile(settings: Settings, before: str, dataset: str):
    place = Place(settings)
    records: list[object] = [(CAME_MS, value(number)) for number in range(90)]
    archiver = archiver_of(place, MemoryTopic({0: records, 1: records[:60]}))

    def say_now(operation: str, path: str) -> None:
        # The archiver has its records, and what it knows of is nothing.
        if operation == before and "00000090.parquet" in path and f"/{dataset}/" in path:
            place.store.fault = lambda operation, path: None
            place.say("site", "shop")
            keep_to(place.log, place.files, place.register, quiet)

    place.store.fault = say_now
    archiver.step()
    assert place.log.said().version == 1
    found = place.rows(MASTER).filter(pl.col("offset") >= 60)
    assert found["site"].unique().to_list() == ["demo"]
    assert_in_no_file(place)


def test_a_merge_takes_out_what_its_parts_still_hold(settings: Settings):
    place = Place(settings)
    place.say("site", "shop")
    parts = [Slice(OffsetRange(0, first, first + 10), first, first + 10) for first in (30, 40, 50)]
    rules, there = place.log.rules(), dict(place.store.files)
    with pytest.raises(Outdated):
        place.files.merge(parts, 1 << 30, rules, lambda: False)
    assert place.store.files == there
    assert place.files.merge(parts, 1 << 30, rules) == OffsetRange(0, 30, 60)
    for path, rows, forgotten in place.contents():
        if path.endswith("00000030-00000000000000000060.parquet"):
            assert not {number for number in range(30, 60) if names_shop(number)} & set(rows["offset"].to_list())
            assert forgotten == [number for number in range(30, 60) if names_shop(number)]


def test_quarantine_without_master_is_rid_of_it_too(settings: Settings):
    place = Place(settings)
    del place.store.files[place.files.path(MASTER, OffsetRange(1, 40, 50))]
    place.say("site", "shop")
    keep_to(place.log, place.files, place.register, quiet)
    alone = place.files.path(QUARANTINE, OffsetRange(1, 40, 50))
    ((rows, forgotten),) = [(rows, forgotten) for path, rows, forgotten in place.contents() if path == alone]
    assert (rows["offset"].to_list(), forgotten) == ([40], [45])


def test_what_is_lifted_half_way_leaves_pairs_that_agree(settings: Settings):
    place = Place(settings)
    place.say("site", "shop")

    def die(operation: str, path: str) -> None:
        if operation == "replace" and f"/{QUARANTINE}/" in path and "00000010-" in path:
            raise Crash

    place.store.fault = die
    with pytest.raises(Crash):
        keep_to(place.log, place.files, place.register, quiet)
    place.store.fault = lambda operation, path: None

    def halves() -> list[int]:
        """Rejects that a file has, while the one beside it says that they are forgotten."""
        marks = {path.partition(f"/{MASTER}/")[2]: said for path, _, said in place.contents() if f"/{MASTER}/" in path}
        rejects = [(path.partition(f"/{QUARANTINE}/")[2], rows) for path, rows, _ in place.contents()]
        return [offset for path, rows in rejects if path for offset in rows["offset"].to_list() if offset in marks[path]]

    assert halves() == [15]
    lift(place.log, place.register, 1)
    assert [one.number for one in place.log.said().unfinished] == [1]
    keep_to(place.log, place.files, place.register, quiet)
    assert place.log.said().unfinished == []
    assert halves() == []


def test_a_second_statement_waits_for_the_first_and_numbers_are_not_used_twice(settings: Settings):
    place = Place(settings)
    place.say("site", "shop")
    with pytest.raises(ForgettingUnfinished, match=r"statement 1 of .* is not finished: `make forget RESUME=1` first"):
        place.say("visitor", "v1")
    keep_to(place.log, place.files, place.register, quiet)
    planned, amount = plan(settings, place.log, place.files, place.register, "visitor", "v1", quiet)
    assert amount.events.total() == planned.events > 0

    def another(operation: str, path: str) -> None:
        if operation == "rename" and path.endswith("2.json"):
            place.store.fault = lambda operation, path: None
            place.log.add(planned)

    place.store.fault = another
    assert place.log.add(planned).number == 3
    assert [one.number for one in place.log.said().statements] == [1, 2, 3]


def test_what_has_a_time_that_is_still_to_come_is_forgotten_too(settings: Settings):
    place = Place(settings)
    soon = datetime.now(UTC) + timedelta(hours=20)
    ahead = event(1).replace(b"2025-11-20T10:00:00.5Z", soon.isoformat().encode())
    place.files.put(OffsetRange(0, 60, 61), *judged(0, [60], [int(time.time() * 1_000)], [ahead]))
    assert len(place.rows(MASTER).filter(pl.col("offset") == 60)) == 1
    statement, _ = plan(settings, place.log, place.files, place.register, "site", "demo", quiet)
    assert statement.until_us < FOR_EVER_US
    place.log.add(statement)
    keep_to(place.log, place.files, place.register, quiet)
    assert "demo" not in place.rows(MASTER)["site"].to_list()


@pytest.mark.parametrize(("kind", "what"), [("site", ""), ("site", "x" * 254), ("visitor", "v" * 129)])
def test_what_no_event_can_have_is_said_so(kind: str, what: str):
    with pytest.raises(
        InputError, match=rf"^{kind.upper()}='.*' is not a text of 1 to [0-9]+ characters, so no event has it"
    ):
        digests_of(Keyed(SECRET), kind, what, "k")  # type: ignore[arg-type]


def test_where_hdfs_does_not_answer_nothing_is_taken_for_done(settings: Settings):
    place = Place(settings)
    place.say("site", "shop")

    def away(operation: str, path: str) -> None:
        if operation == "replace":
            raise EngineUnavailable.at("HDFS", "memory", "gone")

    place.store.fault = away
    with pytest.raises(EngineUnavailable):
        keep_to(place.log, place.files, place.register, quiet)
    assert [one.number for one in place.log.said().unfinished] == [1]
