"""Whatever happens to logs, and whenever they are counted: each whole line counts once, and none is taken for another's.

A Hypothesis state machine: logs grow, are rotated by rename or by copy, compressed, renamed and copied, begin alike on two
servers; replays of them die between any two effects, run two at once, step by step in any order, and lose the register.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from unittest.mock import patch

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest import beginning, counting, lines
from ingest.register import FOLDER
from tests.fixtures.counted import NO_REQUEST, ROOT, MemoryKafka, count
from tests.fixtures.memory import MemoryStore
from tests.simulate.process import Process, point

CODECS = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}
numbers = st.integers(0, 1_000_000)


@dataclass
class File:
    """A file; `written` is whether a server still writes to it."""

    content: bytes = b""
    codec: str = ""
    written: bool = True

    @property
    def stored(self) -> bytes:
        return CODECS[self.codec](self.content) if self.content else b""

    @property
    def lines(self) -> list[bytes]:
        """Its whole lines: what is compressed is finished."""
        *whole, last = self.content.split(b"\n")
        return [*whole, last] if last and self.codec else whole


@dataclass
class World:
    files: dict[str, File] = field(default_factory=dict)
    made: int = 0

    def line(self, equal_lengths: bool) -> bytes:
        self.made += 1
        begin = NO_REQUEST if self.made % 7 == 0 else b"line"
        return b"%s %06d%s" % (begin, self.made, b"" if equal_lengths else b"." * (self.made % 5))

    def expected(self, without: Collection[str] = ()) -> Counter[bytes]:
        """The lines of all files, or of some, but for those that are a copy or the beginning of another one."""
        texts = {tuple(file.lines) for name, file in self.files.items() if name not in without}
        whole = [text for text in texts if not any(text == other[: len(text)] != other for other in texts)]
        return Counter(line for text in whole for line in text)


class Logs(RuleBasedStateMachine):
    coarse = False
    """Whether points are so far apart that a text may end before it is known whether it is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.world, self.store, self.kafka = World(), MemoryStore(), MemoryKafka()
        self.store.fault = lambda operation, path: point(operation)
        self.disturbed = False

    def _name(self, number: int) -> str:
        return sorted(self.world.files)[number % len(self.world.files)]

    @rule(like=numbers, lines=st.integers(0, 8), length=st.integers(1, 9), equal=st.booleans())
    def a_server_begins_a_log(self, like: int, lines: int, length: int, equal: bool) -> None:
        """Its first lines may be those of another one."""
        first = self.world.files[self._name(like)].lines[:lines] if self.world.files else []
        content = b"".join(line + b"\n" for line in [*first, *(self.world.line(equal) for _ in range(length))])
        self.world.files[f"server{len(self.world.files)}.log"] = File(content)

    @precondition(lambda self: self.world.files)
    @rule(number=numbers, lines=st.integers(0, 9), equal=st.booleans(), cut=st.integers(0, 9))
    def a_log_grows(self, number: int, lines: int, equal: bool, cut: int) -> None:
        """The last line may be cut, and is completed before others come."""
        file = self.world.files[self._name(number)]
        if not file.written:
            return
        if not file.content.endswith(b"\n"):
            file.content += b"+\n"
        file.content += b"".join(self.world.line(equal) + b"\n" for _ in range(lines))
        if cut:
            file.content += self.world.line(equal)[: cut + len(NO_REQUEST)]

    @precondition(lambda self: self.world.files)
    @rule(number=numbers, by_copy=st.booleans())
    def a_log_is_rotated(self, number: int, by_copy: bool) -> None:
        name = self._name(number)
        file = self.world.files[name]
        if file.written:
            self.world.files[f"{name}.{self.world.made}.{len(self.world.files)}"] = File(file.content, written=False)
            self.world.files[name] = File()

    @precondition(lambda self: self.world.files)
    @rule(number=numbers, codec=st.sampled_from([codec for codec in CODECS if codec]))
    def a_rotated_log_is_compressed(self, number: int, codec: str) -> None:
        file = self.world.files[self._name(number)]
        if not file.written and not file.codec:
            file.codec = codec

    @precondition(lambda self: self.world.files)
    @rule(number=numbers, keeps=st.booleans())
    def a_file_is_copied_or_renamed(self, number: int, keeps: bool) -> None:
        name = self._name(number)
        file = self.world.files[name]
        other = f"copy{len(self.world.files)}.of.{name}"[:60]
        if not keeps and not file.written:
            self.world.files[other] = self.world.files.pop(name)
        elif not (file.content and not file.content.endswith(b"\n")):
            self.world.files[other] = File(file.content, file.codec, written=False)

    def _replay(self, number: int, piped: bool) -> int:
        """How many whole lines are left, because nobody can say yet of which source they are."""
        file = self.world.files[self._name(number)]
        if not file.content:
            return 0
        return count(self.store, self.kafka, file.stored, self._name(number), piped=piped).left_lines

    @precondition(lambda self: self.world.files)
    @rule(number=numbers, piped=st.booleans())
    def a_file_is_counted(self, number: int, piped: bool) -> None:
        self._replay(number, piped)

    @precondition(lambda self: self.world.files)
    @rule(number=numbers, piped=st.booleans(), steps=st.integers(0, 12))
    def a_replay_dies(self, number: int, piped: bool, steps: int) -> None:
        self.disturbed = True
        process = Process("replay", lambda: self._replay(number, piped))
        for _ in range(steps):
            if process.alive:
                process.resume()
        if process.alive:
            process.kill()
        self._require_no_error(process)

    @precondition(lambda self: self.world.files)
    @rule(
        replays=st.lists(st.tuples(numbers, st.booleans()), min_size=2, max_size=3),
        turns=st.lists(st.integers(0, 2), max_size=40),
        killed=st.none() | st.integers(0, 2),
    )
    def replays_run_at_once(self, replays: list[tuple[int, bool]], turns: list[int], killed: int | None) -> None:
        self.disturbed = True
        processes = [Process(f"replay {at}", lambda one=one: self._replay(*one)) for at, one in enumerate(replays)]
        for turn in turns:
            if (process := processes[turn % len(processes)]).alive:
                process.resume()
        if killed is not None and (process := processes[killed % len(processes)]).alive:
            process.kill()
        for process in processes:
            while process.alive:
                process.resume()
            self._require_no_error(process)

    @precondition(lambda self: not self.coarse)
    @rule()
    def the_register_is_lost(self) -> None:
        self.disturbed = True
        for path in [path for path in self.store.files if path.startswith(f"{ROOT}/{FOLDER}/")]:
            del self.store.files[path]

    @invariant()
    def nothing_is_counted_too_often(self) -> None:
        counted = Counter(self.kafka.lines.values())
        assert counted <= self.world.expected(), counted - self.world.expected()

    def teardown(self) -> None:
        """Each file is counted once more, in any order; then all is there, and to count it again sends nothing."""
        left = [0]
        for _ in range(2):
            left = [self._replay(number, piped=False) for number in range(len(self.world.files))]
        assert self.coarse or not any(left)
        expected = self.world.expected(without=[self._name(number) for number, lines in enumerate(left) if lines])
        rejects = Counter({line: times for line, times in expected.items() if line.startswith(NO_REQUEST)})
        # What is left may be counted in part.
        counted = Counter(self.kafka.lines.values())
        assert expected - rejects <= counted, expected - rejects - counted
        assert any(left) or counted == expected - rejects
        assert set(rejects) <= set(self.kafka.rejects)
        assert self.disturbed or rejects <= self.kafka.rejects <= self.world.expected()
        records = self.kafka.records
        for number in range(len(self.world.files)):
            self._replay(number, piped=True)
        assert self.kafka.records == records

    @staticmethod
    def _require_no_error(process: Process) -> None:
        if isinstance(process.error, Exception):
            raise process.error


def _machine(points: int, naming: int) -> type[RuleBasedStateMachine]:
    class Patched(Logs):
        coarse = points < 10

        def __init__(self) -> None:
            self._patches = [
                patch.object(counting, "ahead", lambda portions: portions),  # threads would not be stopped in order
                patch.object(lines, "_BLOCK_BYTES", 150),
                patch.object(beginning, "POINT_SHARE", points),
                patch.object(beginning, "NAMING_POINTS", naming),
                patch.object(counting, "_LEAST_PORTION_BYTES", 40),
                patch.object(counting, "_MOST_PORTION_BYTES", 100),
            ]
            for one in self._patches:
                one.start()
            super().__init__()

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                for one in self._patches:
                    one.stop()

    return Patched


TestShort = _machine(beginning.POINT_SHARE, beginning.NAMING_POINTS).TestCase
# As texts of many megabytes are, whose points are kilobytes apart.
TestLong = _machine(points=2, naming=2).TestCase
TestShort.settings = TestLong.settings = settings(settings.get_profile("fixed"), stateful_step_count=25)
