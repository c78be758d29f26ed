"""A log file is its content, not its name: what is recognised, what is sent, and what the register says of it."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from contract.errors import EngineUnavailable, InputError, RegisterDamaged
from contract.event import EVENT_ID_LENGTH
from ingest import counting, feed, lines
from ingest.beginning import NAMING_POINTS, START, Beginning, Mark, first_line, naming, segments
from ingest.counting import Counting
from ingest.lines import InputFile
from ingest.pieces import CUT_LINE_BYTES, Piece
from ingest.register import FOLDER, Register
from ingest.source import Group, Source
from tests.fixtures.counted import ROOT, SITE, MemoryKafka, count, ids_and_lines, intake_of
from tests.fixtures.memory import MemoryStore
from tests.simulate.process import Process, point

SAME = b"GET /health\n"


def some(name: str, number: int = 3) -> bytes:
    return b"".join(b"%s %04d\n" % (name.encode(), at) for at in range(number))


@dataclass
class Place:
    store: MemoryStore = field(default_factory=MemoryStore)
    kafka: MemoryKafka = field(default_factory=MemoryKafka)

    def count(self, content: bytes, **how: object) -> Counting:
        return count(self.store, self.kafka, content, **how)  # type: ignore[arg-type]

    def lines(self) -> Counter[bytes]:
        return Counter(self.kafka.lines.values())

    def sources(self) -> list[Source]:
        register = Register(self.store, ROOT, lambda: 0)
        groups = [register.load(name) for name in self.store.folders(f"{ROOT}/{FOLDER}")]
        return [source for group in groups for source in group.sources.values()]


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_file_is_the_same_one_under_another_name_packed_and_grown(place: Place):
    place.count(some("a"))
    place.count(some("a"), name="access.log.1")
    place.count(gzip.compress(some("a", 5)), name="access.log.2.gz")
    place.count(some("a", 5), piped=True)
    assert place.lines() == Counter(some("a", 5).splitlines())
    assert place.kafka.records == 5
    (source,) = place.sources()
    assert (source.names, source.tally.lines, source.counted) == (("access.log", "access.log.2.gz"), 5, source.announced)


@pytest.mark.parametrize("first", [SAME, SAME * 9])
def test_two_servers_logs_begin_alike_and_both_count(place: Place, first: bytes):
    place.count(first + some("a"))
    place.count(first + some("b"))
    assert place.lines() == Counter((2 * first + some("a") + some("b")).splitlines())
    for _ in range(2):
        place.count(first + some("b", 4))
        place.count(first + some("a", 4))
    assert place.lines() == Counter((2 * first + some("a", 4) + some("b", 4)).splitlines())
    assert sorted(source.tally.lines for source in place.sources()) == 2 * [4 + first.count(b"\n")]


def test_the_beginning_of_two_logs_counts_once_until_they_differ(place: Place):
    place.count(SAME)
    place.count(SAME)
    assert place.lines() == Counter(SAME.splitlines())
    place.count(SAME + some("b"))
    assert place.lines() == Counter((SAME + some("b")).splitlines())
    place.count(SAME)
    place.count(SAME + some("a"))
    assert place.lines() == Counter((2 * SAME + some("a") + some("b")).splitlines())


def test_ids_are_the_same_without_the_register_in_whatever_order(place: Place):
    logs = [SAME + some(name) for name in "abc"]
    for log in logs:
        place.count(log)
    before = dict(place.kafka.lines)
    place.store.files.clear()
    for log in (logs[2], logs[0], logs[1]):
        place.count(log + b"x\n")
    assert dict(place.kafka.lines) == before | {name: b"x" for name in place.kafka.lines if name not in before}
    assert place.lines()[b"x"] == 3


def test_another_sites_log_is_another_one_and_without_a_site_it_is_the_one_that_is_known(place: Place):
    place.count(some("a"), site="wrong")
    place.count(some("a"), site="right")
    assert place.lines() == Counter(2 * some("a").splitlines())
    with pytest.raises(InputError, match=r"is known as a log of site right and of site wrong; nothing was sent, SITE= says"):
        place.count(some("a"), site=None)
    place.count(some("b"), site="known")
    assert place.count(some("b", 4), site=None).source.site == "known"  # type: ignore[union-attr]


def test_what_has_no_line_yet_is_nothing(place: Place):
    for content in (b"no end", b"#Software: x\n#Date: today\n"):
        done = place.count(content)
        assert (done.source, done.is_known, place.kafka.records, place.store.files) == (None, False, 0, {})
    assert done.left_lines == 2
    assert place.count(b"no end", final=True).counted.lines == 1
    place.count(b"no end\nmore\n")
    assert place.lines() == Counter([b"no end", b"more", b""])  # the end of the first line, by itself, is an empty one


def test_remarks_in_front_do_not_make_all_logs_one_group(place: Place):
    remarks = b"#Software: Server\n#Date: %d\n"
    place.count(remarks % 1 + some("a"))
    place.count(remarks % 2 + some("a"))
    assert len(place.store.folders(f"{ROOT}/{FOLDER}")) == 2
    assert place.lines()[b"#Software: Server"] == 2
    assert first_line(b"#a\n#b\n") is None
    assert first_line(b"#a\nb\r\nc") == b"#a\nb"


def test_a_damaged_file_is_counted_as_far_as_it_goes_and_then_says_so(place: Place):
    whole = some("a", 90_000)
    packed = gzip.compress(whole)
    for cut, size in ((packed[:-9_000], 0), (packed[:-8], 1)):
        with pytest.raises(InputError, match=r"breaks off or is damaged after byte \d+ of its text"):
            place.count(cut)
        counted = place.sources()[0].counted.end
        assert counted > size
        assert place.lines() == Counter(whole[:counted].splitlines())
    place.count(packed)
    assert place.lines() == Counter(whole.splitlines())
    assert place.kafka.records == 90_000


def test_a_long_line_counts_once_whatever_the_blocks_are(place: Place, monkeypatch: pytest.MonkeyPatch):
    content = some("a") + b"x" * (3 * CUT_LINE_BYTES) + b"\n" + b"y" * CUT_LINE_BYTES + b"\n" + some("b")
    place.count(content)
    for block in (1_000, 70_000, 1 << 20):
        monkeypatch.setattr(lines, "_BLOCK_BYTES", block)
        place.count(content + b"last\n")
    assert place.kafka.records == 9
    assert sum(place.lines().values()) == 9


def test_a_pipe_that_differs_late_is_refused_and_counted_if_it_can_be_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feed, "HELD_BYTES", 100)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 50)
    place.count(some("a", 40) + b"one\n")
    with pytest.raises(
        InputError, match=r"needed from its beginning once more: after more than 0 MiB it differs .* AGAIN=1"
    ):
        place.count(some("a", 40) + b"other\n", piped=True)
    assert place.kafka.records == 41
    place.count(some("a", 40) + b"other\n")
    assert place.lines() == Counter((2 * some("a", 40) + b"one\nother\n").splitlines())


def test_a_text_that_ends_between_two_points_of_a_longer_one_waits_until_it_is_known(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ingest.beginning.POINT_SHARE", 2)
    common = some("a", 50)
    place.count(common + some("b", 50))
    done = place.count(common + some("c", 1))
    assert (place.kafka.records, done.is_known, done.lines) == (100, True, 51)
    assert 0 < done.left_lines < 51
    place.count(common + some("c", 50))
    assert place.lines() == Counter((2 * common + some("b", 50) + some("c", 50)).splitlines())


def test_a_replay_that_was_killed_is_gone_on_with_where_the_register_says(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counting, "ahead", lambda portions: portions)
    monkeypatch.setattr(counting, "_LEAST_PORTION_BYTES", 100)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 100)
    place.store.fault = lambda operation, path: point(operation)
    for steps in range(40):
        process = Process("replay", lambda: place.count(some("a", 100)) and None)
        for _ in range(steps):
            process.resume()
        if process.alive:
            process.kill()
        # What is announced first is sent after that, and counted after it was delivered.
        announced = max((source.announced.end for source in place.sources()), default=0)
        sent = Counter(some("a", 100)[:announced].splitlines())
        assert place.lines() <= sent
    place.count(some("a", 100))
    assert place.lines() == Counter(some("a", 100).splitlines())
    assert place.sources()[0].tally.lines == 100


def test_two_logs_that_are_alike_for_long_are_counted_at_once(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counting, "ahead", lambda portions: portions)
    monkeypatch.setattr("ingest.beginning.POINT_SHARE", 2)
    monkeypatch.setattr("ingest.beginning.NAMING_POINTS", 2)
    place.store.fault = lambda operation, path: point(operation)
    logs = [some("x", 8) + some(name, 8) for name in "ab"]
    replays = [Process("replay", lambda log=log: place.count(log) and None) for log in logs]  # type: ignore[misc]
    while any(replay.alive for replay in replays):
        for replay in replays:
            if replay.alive:
                replay.resume()
    assert [replay.error for replay in replays] == [None, None]
    assert place.lines() == Counter(b"".join(logs).splitlines())
    assert [source.tally.lines for source in place.sources()] == [16, 16]


class Shrinking(io.BytesIO):
    """A file that is cut when it is read for the second time."""

    seeks = 0

    def seek(self, at: int, whence: int = 0) -> int:
        self.seeks += 1
        if self.seeks == 2:
            self.truncate(len(some("x", 4)))
        return super().seek(at, whence)


def test_a_file_that_becomes_shorter_while_it_is_read_is_no_other_ones_beginning(place: Place):
    place.count(some("x", 8) + some("a", 8))
    raw = Shrinking(some("x", 8) + some("b", 8))
    with InputFile(Path("log"), raw) as file:  # type: ignore[arg-type]
        counting = Counting(intake_of(place.store, place.kafka), file, "log", SITE, ids_and_lines)
        with pytest.raises(InputError, match="log became shorter while it was read; the same command again counts it"):
            counting.run()
    place.count(some("x", 8) + some("b", 8))
    assert place.lines() == Counter((2 * some("x", 8) + some("a", 8) + some("b", 8)).splitlines())
    assert len(place.sources()) == 2


def test_a_hole_ends_a_line_and_is_none_whatever_the_blocks_are(place: Place, monkeypatch: pytest.MonkeyPatch):
    before, after = some("a", 3), some("b", 3)
    content = before + b"cut" + bytes(200_000) + after
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 1 << 20)
    done = place.count(content)
    expected = Counter([*before.splitlines(), b"cut", *after.splitlines()])
    assert (place.lines(), done.counted.lines) == (expected, 7)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 7)
    place.store.files.clear()
    place.count(content)
    assert place.lines() == expected
    assert place.count(content + some("c", 1)).counted.lines == 1


def test_of_two_that_change_the_register_at_once_one_thinks_again(place: Place):
    register = Register(place.store, ROOT, lambda: 0)
    source = Source(1, "demo", (), "", "")
    one, other = register.load("g"), register.load("g")
    assert register.save(one, source)
    assert not register.save(other, source)
    # Its place is free again once later versions have pushed it out; still it is not the newest.
    for _ in range(4):
        assert register.save(one, source)
    assert not register.save(other, source)
    assert register.load("g").version == 5
    assert [name for name in place.store.files if not name.endswith(("0004.json", "0005.json"))] == []


def test_a_version_that_goes_while_it_is_read_is_no_error_and_what_a_crash_left_goes(place: Place):
    now_ms = 10_000_000
    register = Register(place.store, ROOT, lambda: now_ms)
    group = register.load("g")
    source = Source(1, "demo", (), "", "")
    assert register.save(group, source)
    place.store.write(f"{ROOT}/{FOLDER}/g/.left.tmp", b"half")

    def overtaken(operation: str, path: str) -> None:
        if operation == "read" and path.endswith("1.json"):
            place.store.fault = lambda operation, path: None
            for _ in range(3):
                assert register.save(group, source)

    place.store.fault = overtaken
    found = register.load("g")
    assert found.version == 4
    assert register.save(found, source)
    assert [name for name in place.store.files if name.endswith(".tmp")] == []


def test_a_damaged_register_says_where_and_nothing_is_sent(place: Place):
    place.count(some("a"))
    (path,) = [path for path in place.store.files if path.endswith("2.json")]
    place.store.files[path] = (b'[{"number"', 0)
    with pytest.raises(RegisterDamaged, match=rf"the newest file in {ROOT}/{FOLDER}/\w+ is damaged: .*'sources'"):
        place.count(some("a", 4))
    place.store.fault = lambda operation, path: (_ for _ in ()).throw(EngineUnavailable.at("HDFS", "memory", "down"))
    with pytest.raises(EngineUnavailable):
        place.count(some("b"))
    assert place.kafka.records == 3


def test_points_follow_from_the_text_alone_and_get_rarer():
    text = some("a", 20_000)
    whole, parts = Beginning("key"), Beginning("key")
    whole.add(Piece(0, text, len(text)))
    at = 0
    for size in [*range(1, 600), len(text)]:
        piece = text[at : at + size]
        parts.add(Piece(at, piece, at + len(piece)))
        at += len(piece)
    assert parts.points == whole.points
    assert parts.mark == whole.mark != Beginning("another").mark
    ends = [point.end for point in whole.points]
    assert ends[:128] == [7 * number for number in range(1, 129)]
    assert all(text[end - 1 : end] == b"\n" for end in ends)
    assert all(after - before <= 9 + before // 128 for before, after in pairwise(ends))
    assert len(ends) < 128 * 8
    assert len(naming(whole.points)) == NAMING_POINTS + len(ends) // NAMING_POINTS - 1


def test_a_line_is_named_by_the_last_point_that_is_not_behind_its_end():
    text = b"one\ntwo\nthree\nfour\n"
    marks = [Mark(4, b"1"), Mark(14, b"2")]
    assert [*segments(Piece(0, text, len(text)), marks)] == [
        (marks[0], 0, b"one\ntwo\n"), (marks[1], 8, b"three\nfour\n"),
    ]  # fmt: skip
    assert [*segments(Piece(4, text[4:8], 8), marks)] == [(marks[0], 4, b"two\n")]
    assert [*segments(Piece(0, b"on", 2), marks)] == [(START, 0, b"on")]


def test_an_id_is_no_longer_than_any_may_be(place: Place):
    place.count(SAME + some("a"), site="s" * 253)
    assert max(map(len, place.kafka.lines)) + len(str(1 << 62)) <= EVENT_ID_LENGTH
    assert {len(name.partition(":")[0]) for name in place.kafka.lines} == {25}


def test_a_source_has_the_least_free_slot_where_others_have_its_points():
    points = tuple(Mark(end, b"%d" % end) for end in (4, 8, 12))
    sources = {
        1: Source(1, "s", (), "", "", points=points[:2]),
        2: Source(2, "s", (), "", "", points=points[:1], slots=((0, 1), (8, 0))),
        3: Source(3, "another", (), "", "", points=points),
    }
    new = Source(4, "s", (), "", "")
    assert Group("g", 1, sources).slots_for(new, points) == ((0, 2), (8, 1), (12, 0))
    assert Group("g", 1, {}).slots_for(new, points) == ()


def test_the_register_lists_what_was_counted_the_latest_last(place: Place):
    register = Register(place.store, ROOT, lambda: 0)
    place.store.now_ms = 1_700_000_000_000
    place.count(some("a"))
    place.store.now_ms += 1_500
    place.count(b"no request\n" + some("b", 4), name="other.log", site="b")
    rows = register.rows()
    assert [(row.site, row.names, row.lines, row.bytes) for row in rows] == [
        ("demo", ("access.log",), 3, 21), ("b", ("other.log",), 5, 39),
    ]  # fmt: skip
    assert [row.counted_at for row in rows] == ["2023-11-14T22:13:20.000Z", "2023-11-14T22:13:21.500Z"]
    assert len({row.source for row in rows}) == 2
