"""A log is followed through whatever its server, its rotation and restarts do to it: each line once."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from contract.errors import DeliveryFailed, EngineUnavailable, InputError
from contract.settings import Settings
from contract.sources import CountedSource
from ingest import follow as follow_module
from ingest.follow import Follower, follow
from ingest.produce import wanted_log
from ingest.rotation import rotated
from ingest.stop import Stop
from tests.fixtures.counted import MemoryKafka, ids_and_lines, intake_of
from tests.fixtures.memory import MemoryStore
from tests.fixtures.memory_producer import MemoryProducer

LONG_S = 10_000.0


@dataclass
class Scene:
    """A folder with a log, its server, and who follows it; `written` is all that the server has written."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    kafka: MemoryKafka = field(default_factory=MemoryKafka)
    written: bytes = b""
    now_s: float = 0.0
    follower: Follower | None = None
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = self.folder / "access.log"
        self.server_writes_to = self.path
        self._mtime_s = 1_000_000
        self.write(b"")

    def write(self, content: bytes) -> None:
        with self.server_writes_to.open("ab") as file:
            file.write(content)
        self.touch(self.server_writes_to)
        self.written += content

    def touch(self, path: Path) -> None:
        self._mtime_s += 1
        os.utime(path, (self._mtime_s, self._mtime_s))

    def start(self) -> None:
        self.follower = Follower(
            self.path,
            intake_of(self.store, self.kafka),
            wanted_log("access.log", "demo"),
            self.said.append,
            lambda: self.now_s,
            lambda: self._mtime_s + self.now_s,
        )
        self.follower.start()

    def step(self) -> Follower:
        assert self.follower
        self.follower.step()
        return self.follower

    def stop(self, cleanly: bool = True) -> None:
        if cleanly:
            self.step().settle()
        assert self.follower
        self.follower.close()
        self.follower = None

    def rename(self, name: str = "access.log.1", reopened: bool = True) -> Path:
        target = self.folder / name
        self.path.rename(target)
        if self.server_writes_to == self.path:
            self.server_writes_to = target
        if reopened:
            self.reopen()
        return target

    def reopen(self) -> None:
        self.server_writes_to = self.path
        self.write(b"")

    def copy_and_truncate(self, name: str = "access.log.1") -> Path:
        copy = self.folder / name
        shutil.copyfile(self.path, copy)
        self.touch(copy)
        os.truncate(self.path, 0)
        self.touch(self.path)
        return copy

    def pack(self, path: Path) -> None:
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        shutil.copystat(path, packed)
        path.unlink()

    def lines(self) -> Counter[bytes]:
        return Counter(self.kafka.lines.values())


@pytest.fixture(autouse=True)
def lines_with_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "reader_of_lines", lambda name, wanted, key, say: ids_and_lines)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    if made.follower:
        made.follower.close()


def test_a_line_counts_when_it_has_its_end(scene: Scene):
    scene.start()
    scene.write(b"one\ntw")
    scene.step()
    assert scene.lines() == Counter([b"one"])
    scene.write(b"o\n")
    scene.step()
    assert scene.lines() == Counter([b"one", b"two"])


def test_a_renamed_file_is_read_on_while_the_new_one_is_read_too(scene: Scene):
    scene.start()
    scene.write(b"one\n")
    scene.rename(reopened=False)
    scene.write(b"two\n")
    scene.step()
    scene.reopen()
    scene.write(b"three\n")
    scene.server_writes_to = scene.folder / "access.log.1"
    scene.write(b"four\nfive")
    scene.step()
    scene.step()
    assert scene.lines() == Counter([b"one", b"two", b"three", b"four"])
    # Its last line is whole as it is once nobody has written to it for long.
    scene.now_s += LONG_S
    scene.step()
    assert scene.lines()[b"five"] == 1
    assert scene.said == ["access.log was rotated: the old file is read to its end, and the new one beside it"]


def test_what_was_written_before_a_truncation_is_in_the_copy(scene: Scene):
    scene.start()
    scene.write(b"one\n")
    scene.step()
    scene.write(b"two\n")
    scene.pack(scene.copy_and_truncate())
    scene.write(b"three and longer than what was there before\n")
    scene.step()
    assert scene.lines() == Counter([b"one", b"two", b"three and longer than what was there before"])
    assert scene.said[1:] == ["access.log.1.gz: 1 lines that had not been counted before it was rotated"]


def test_a_truncation_without_a_copy_is_said(scene: Scene):
    scene.start()
    scene.write(b"one\n")
    scene.step()
    os.truncate(scene.path, 0)
    scene.write(b"two\n")
    scene.step()
    assert scene.lines() == Counter([b"one", b"two"])
    assert "no copy of access.log is beside it: what was written after the last look, 0.2 s before" in scene.said[-1]


def test_a_restart_counts_the_files_since_the_last_one_that_is_known_and_older_ones_not(scene: Scene):
    (scene.folder / "access.log.9").write_bytes(b"older\n")
    os.utime(scene.folder / "access.log.9", (1, 1))
    scene.start()
    assert scene.said == ["1 older files beside access.log are not counted: `make replay LOG=` counts one"]
    scene.write(b"one\n")
    scene.stop()
    scene.write(b"two\n")
    scene.pack(scene.rename("access.log.3"))
    scene.write(b"three\n")
    scene.rename("access.log.2")
    scene.write(b"four\n")
    scene.rename("access.log-20250131")
    scene.write(b"five\n")
    scene.start()
    assert scene.lines() == Counter([b"one", b"two", b"three", b"four", b"five"])


def test_files_that_rotation_has_made_the_newest_first(tmp_path: Path):
    names = ("access.log.1", "access.log.2.gz", "access.log-20250131", "access-20250131.log", "access.log.20250131T10.xz")
    others = ("access.log", "access.log.offset", "error.log.1", "access.log.bak", "other_access.log.1", "access.log.1.tmp")
    for number, name in enumerate((*names, *others)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "access.log.7").mkdir()
    assert [file.path.name for file in rotated(tmp_path / "access.log")] == list(reversed(names))


def test_the_site_of_a_known_log_is_that_of_its_next_file(scene: Scene):
    scene.start()
    scene.write(b"one\n")
    scene.stop()
    intake = intake_of(scene.store, scene.kafka)
    scene.follower = Follower(scene.path, intake, wanted_log("access.log"), scene.said.append, lambda: 0.0)
    scene.follower.start()
    scene.rename()
    scene.write(b"two\n")
    scene.step()
    scene.step()
    log = scene.follower._current
    assert log
    assert log.counting.source
    assert log.counting.source.site == "demo"


class Rotations(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(follow_module, "reader_of_lines", lambda name, wanted, key, say: ids_and_lines)
        self._folder = tempfile.TemporaryDirectory()
        self.scene = Scene(Path(self._folder.name))
        self.made = 0
        # No rotation copies a log and renames it too within the fifth of a second between two looks.
        self.rotated_by = ""
        self.scene.start()
        self._write(1, 0)
        self.scene.step().settle()

    def _write(self, lines: int, cut: int) -> None:
        def line() -> bytes:
            self.made += 1
            return b"line %06d" % self.made

        end = b"+\n" if self.scene.written and not self.scene.written.endswith(b"\n") else b""
        self.scene.write(end + b"".join(line() + b"\n" for _ in range(lines)) + (line() + b"." * cut if cut else b""))

    def _complete(self) -> None:
        """No line is begun, for who goes on in another file begins none in the middle."""
        if not self.scene.written.endswith(b"\n"):
            self.scene.write(b"+\n")

    @rule(lines=st.integers(0, 4), cut=st.integers(0, 7))
    def the_server_writes(self, lines: int, cut: int) -> None:
        self._write(lines, cut)

    @precondition(lambda self: self.scene.server_writes_to == self.scene.path and self.rotated_by != "copy")
    @rule(reopened=st.booleans())
    def it_is_rotated_by_rename(self, reopened: bool) -> None:
        self.rotated_by = "rename" if self.scene.follower else ""
        self._complete()
        self.made += 1
        self.scene.rename(f"access.log.{self.made}", reopened)

    @precondition(lambda self: self.scene.server_writes_to != self.scene.path)
    @rule()
    def the_server_opens_the_new_file(self) -> None:
        self._complete()
        self.scene.reopen()

    @precondition(lambda self: self.scene.server_writes_to == self.scene.path and self.rotated_by != "rename")
    @rule()
    def it_is_rotated_by_copy(self) -> None:
        self.rotated_by = "copy" if self.scene.follower else ""
        self._complete()
        self.made += 1
        self.scene.copy_and_truncate(f"access.log.{self.made}")

    @rule(number=st.integers(0, 9))
    def a_rotated_file_is_compressed(self, number: int) -> None:
        finished = [file for file in rotated(self.scene.path) if file.path != self.scene.server_writes_to]
        plain = [file.path for file in finished if not file.is_packed]
        if plain:
            self.scene.pack(plain[number % len(plain)])

    @precondition(lambda self: self.scene.follower)
    @rule(settled=st.booleans())
    def the_follower_looks(self, settled: bool) -> None:
        follower, self.rotated_by = self.scene.step(), ""
        if settled:
            follower.settle()

    @precondition(lambda self: self.scene.follower)
    @rule(cleanly=st.booleans())
    def the_follower_ends(self, cleanly: bool) -> None:
        self.scene.stop(cleanly)
        self.rotated_by = ""

    @precondition(lambda self: not self.scene.follower and self.scene.path.exists())
    @rule()
    def the_follower_starts(self) -> None:
        self.scene.start()

    def teardown(self) -> None:
        try:
            self._complete()
            self.scene.reopen()
            if not self.scene.follower:
                self.scene.start()
            for _ in range(3):
                self.scene.now_s += LONG_S
                self.scene.step().settle()
            assert self.scene.lines() == Counter(self.scene.written.splitlines())
        finally:
            if self.scene.follower:
                self.scene.follower.close()
            self._folder.cleanup()
            self._patch.undo()


TestRotations = Rotations.TestCase
TestRotations.settings = settings(settings.get_profile("fixed"), stateful_step_count=25)


@pytest.fixture
def settings_of(tmp_path: Path) -> Settings:
    (tmp_path / "visitor_key").write_text("key")
    return Settings(secrets_dir=str(tmp_path))


def test_servers_that_do_not_answer_are_waited_for_and_a_signal_ends_it_cleanly(
    scene: Scene, settings_of: Settings, monkeypatch: pytest.MonkeyPatch
):
    class Failing(MemoryProducer):
        def flush(self, timeout: float) -> int:
            raise DeliveryFailed.of("kafka", 1, 0, "timed out")

    producers = [Failing(), MemoryProducer()]
    monkeypatch.setattr(follow_module, "connect", lambda settings: producers.pop(0) if len(producers) > 1 else producers[0])
    monkeypatch.setattr(follow_module, "SETTLE_EVERY_S", 0)
    down = [True]

    def fault(operation: str, path: str) -> None:
        if operation == "rename" and down.pop():
            down.append(False)
            raise EngineUnavailable.at("HDFS", "memory", "down")

    class Steps(Stop):
        """Something happens each time that it waits."""

        def __init__(self) -> None:
            super().__init__()
            self.waits = 0

        def wait(self, seconds: float) -> bool:
            self.waits += 1
            if self.waits == 2:
                scene.store.fault = fault
                scene.write(b"two\n")
            elif self.waits == 9:
                signal.raise_signal(signal.SIGTERM)
            return self.is_set()

    stop = Steps()
    before = signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    said: list[str] = []
    told: list[CountedSource] = []
    scene.write(b"one\n")
    try:
        counted = follow(
            settings_of, scene.path, wanted_log("access.log", "demo"), stop, said.append, told.append, scene.store
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said[:2] == [
        "Kafka at kafka did not take 1 records after 0 delivered ones (timed out); `make status` shows what is up; "
        "the same command again sends the rest, what is there counts once; trying again",
        "HDFS at memory does not answer (down); `make status` shows what is up; the register is brought up to date later",
    ]
    assert producers[0].values == [b"one", b"two"]
    assert counted.lines == 2
    assert (told[-1].lines, told[-1].site) == (2, "demo")


def test_a_log_that_is_not_there_or_is_compressed_is_refused(scene: Scene, settings_of: Settings, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow_module, "connect", lambda settings: MemoryProducer())
        for content, complaint in (
            (None, "cannot be read: No such file"),
            (gzip.compress(b"x\n"), "is compressed and still"),
        ):
            path = tmp_path / "other.log"
            if content:
                path.write_bytes(content)
            with pytest.raises(InputError, match=complaint):
                follow(settings_of, path, wanted_log("other.log"), Stop(), scene.said.append, lambda row: None, scene.store)
