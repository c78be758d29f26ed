"""The drill chaos: faults follow from the seed alone and are lifted whatever happens, and both are told."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.lines import InputFile
from ingest.sample_log import LOG_NAME, SampleLog
from ingest.simulate import Shares, events
from tests.drill import runs as runs_module
from tests.drill import strikes as strikes_module
from tests.drill.chaos import Chaos, chaos, grown
from tests.drill.faults import SERVERS, BatchRun, Faults
from tests.drill.judge import NOTHING
from tests.drill.report import HEADER, figures_of, row_of
from tests.drill.run import Result, judge_reader, run_drill
from tests.drill.runs import Runs
from tests.drill.scene import Ground
from tests.drill.schedule import CUTS, DISKS, FROZEN_S, KINDS, PROCESSES, STEP_S, Strike, schedule
from tests.drill.sent_file import LINES, SentFile
from tests.drill.strikes import strike
from tests.fixtures.log_corpus import log_lines
from tests.unit.test_drill_judge import AT_REST, TIME_MS, TRUE, TRUTH, record, seen

SEEDS = range(100)


def test_a_seed_gives_the_same_faults_at_the_same_times_and_another_one_others():
    assert schedule(7, 10) == schedule(7, 10)
    assert schedule(7, 10) != schedule(8, 10)
    # What comes first does not depend on how long it lasts.
    assert schedule(7, 30)[: len(schedule(7, 10))] == schedule(7, 10)


@pytest.mark.parametrize("minutes", [2, 4, 10])
def test_faults_follow_one_another_and_are_over_within_the_minutes(minutes: int):
    for seed in SEEDS:
        strikes = schedule(seed, minutes)
        assert len(strikes) >= minutes / 2
        assert strikes[0].due_s > 0
        assert all(after.due_s > before.due_s + before.length_s for before, after in pairwise(strikes))
        assert strikes[-1].due_s + strikes[-1].length_s <= 60 * minutes


def test_too_short_a_time_is_refused():
    with pytest.raises(ValueError, match=r"MINUTES=1\.5 is too short; it takes 2 at least"):
        schedule(1, 1.5)


def test_ten_minutes_have_each_kind_whatever_the_seed():
    for seed in SEEDS:
        assert {one.kind for one in schedule(seed, 10)} == set(KINDS), seed


def test_seeds_break_every_part_there_is():
    strikes = [one for seed in SEEDS for one in schedule(seed, 30)]
    parts = {kind: {one.parts for one in strikes if one.kind == kind} for kind in KINDS}
    assert parts["kill-container"] == {(service,) for service in SERVERS}
    assert {len(names) for names in parts["kill-containers"]} == {2, 3}
    assert {len(names) for names in parts["freeze"]} == {1, 2}
    assert {name for names in parts["freeze"] for name in names} == set(SERVERS)
    assert parts["kill-process"] == {(service, *words) for service, of in PROCESSES.items() for words in of}
    assert parts["stop-process"] == {one for one in parts["kill-process"] if len(PROCESSES[one[0]]) > 1}
    assert (parts["cut"], parts["fill-disk"]) == (set(CUTS), set(DISKS))
    assert {one.ahead_s for one in strikes if one.kind == "step-clock"} == {-STEP_S, STEP_S}
    # Sessions with Storm, Kafka and ZooKeeper end before.
    assert all(one.length_s > 40 for one in strikes if one.kind in ("freeze", "stop-process"))


@dataclass
class Engine:
    """A container engine: what it was asked for, and what is not as it should be."""

    broken: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        assert command[:2] == ("compose/engine", "docker")
        verb, *words = command[2:]
        self.asked.append(" ".join((verb, *words)))
        match verb:
            case "ps":
                return self._said(next(word for word in words if "compose.service" in word).split("=")[-1])
            case "inspect":
                is_state = "{{.State.Status}}" in words
                return self._said(self.states.get(words[-1], "running") if is_state else f"address-of-{words[-1]}")
            case "kill":
                self.broken |= set(words[2:])
            case "start":
                self.broken -= set(words)
            case "pause":
                self.broken.add(words[0])
            case "unpause":
                self.broken.remove(words[0])
            case "run":
                place = next(word for word in words if word.startswith("container:"))
                _, change, *addresses = words[words.index("-") :]
                for address in addresses:
                    self._set(f"{place} to {address}", change == "cut")
            case "exec":
                self._inside(*words)
            case _:
                raise AssertionError(f"nobody should ask for {verb}")
        return self._said("")

    def _inside(self, service: str, program: str, *words: str) -> None:
        if program == "pkill":
            name = [word for word in words[1:] if word not in ("--oldest", "--newest")]
            if words[0] in ("-STOP", "-CONT"):
                self._set(f"{service}: {' '.join(name)}", words[0] == "-STOP")
        elif program == "dd":
            self._set(words[1].removesuffix("-1M").removesuffix("-4k"), True)
        elif program == "find":
            self.broken = {one for one in self.broken if "/ballast/" not in one}
        else:
            raise AssertionError(f"nobody should start {program}")

    def _set(self, what: str, is_broken: bool) -> None:
        if is_broken:
            self.broken.add(what)
        else:
            self.broken.remove(what)

    def _said(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, text, "")


class Held(Ground):
    """No time passes; what was broken during a fault, and whether something happens meanwhile."""

    def __init__(self, engine: Engine, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__(engine, Faults(engine, "braid-drill"), said := list[str]().append)  # type: ignore[arg-type]
        self.engine, self.meanwhile, self.held, self.said = engine, meanwhile, list[tuple[float, set[str]]](), said

    def hold(self, seconds: float) -> None:
        self.held.append((seconds, set(self.engine.broken)))
        self.meanwhile()

    def set_clock(self, ahead_s: int) -> None:
        self.engine.asked.append(f"clock {ahead_s}")
        self.engine.broken = {f"clock {ahead_s}"} if ahead_s else set()


def interrupt() -> None:
    raise KeyboardInterrupt


ONE_OF_EACH = {one.kind: one for seed in range(20) for one in schedule(seed, 10)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("meanwhile", [lambda: None, interrupt], ids=["undisturbed", "interrupted"])
def test_each_fault_breaks_what_it_names_for_its_length_and_is_lifted(kind: str, meanwhile: Callable[[], None]):
    one, ground = ONE_OF_EACH[kind], Held(Engine(), meanwhile)
    try:
        strike(ground, one, ground.set_clock)
    except KeyboardInterrupt:
        assert meanwhile is interrupt
    ((length_s, broken),) = ground.held
    assert length_s == one.length_s
    if kind == "kill-process":
        # It is for others to start it again.
        assert any(f"exec {one.parts[0]} pkill -KILL" in asked for asked in ground.engine.asked)
    elif kind in ("kill-container", "kill-containers", "freeze"):
        assert broken == set(one.parts)
    else:
        assert broken, "nothing was broken"
    assert ground.engine.broken == set()


@pytest.mark.parametrize("words", [words for of in PROCESSES.values() for words in of])
def test_a_stopped_process_goes_on_also_where_another_is_the_oldest_by_then(words: tuple[str, ...]):
    ground = Held(Engine())
    strike(ground, Strike(0, "stop-process", ("supervisor", *words), FROZEN_S[0]), ground.set_clock)
    (going_on,) = [asked for asked in ground.engine.asked if "-CONT" in asked]
    assert "est" not in going_on.split(words[-1])[0]


def test_a_fault_of_what_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strikes_module, "_READY_WITHIN_S", 0)
    story = Chaos(7, 10, schedule(7, 10))
    with pytest.raises(
        AssertionError, match=r"fault 1 of 18, no room on .*: still not so .*: not running: \{'timescaledb': 'ex"
    ):
        story.strike_all(Held(Engine(states={"timescaledb": "exited"})), lambda ahead_s: None)  # type: ignore[arg-type]


def test_all_faults_of_a_schedule_happen_in_its_order():
    story = Chaos(7, 10, schedule(7, 10))
    ground = Held(Engine())
    story.strike_all(ground, ground.set_clock)  # type: ignore[arg-type]
    assert [told.split(", ", 1)[1] for _, told in story.struck] == [one.text() for one in schedule(7, 10)]
    assert sum(length_s for length_s, _ in ground.held[1::2]) == sum(one.length_s for one in story.strikes)
    assert ground.engine.broken == set()


def test_a_wrong_answer_is_told_with_the_seed_and_the_fault_before_it(monkeypatch: pytest.MonkeyPatch):
    drill = chaos(7, 10, 500)
    story: Chaos = drill.inject.__self__  # type: ignore[attr-defined]
    story.struck += [(10.0, "fault 1 of 18, kill -9 of kafka"), (20.0, "fault 2 of 18, no network from a to b")]
    wrong = seen(104, 52, 5, 1, 1, 1, at_s=22.5), seen(104, 52, 9, 1, 1, 1, at_s=99.0)
    reader: Any = SimpleNamespace(polls=[*TRUE, *wrong], failed=3)
    polls = SimpleNamespace(polls=TRUE, failed=1)

    def run(drill: Any, stack: Any, faults: Any, say: Any, with_batch: bool, result: Result) -> None:
        for one in (reader, polls):
            judge_reader(one, TRUTH, AT_REST, NOTHING, story.during, result)

    monkeypatch.setattr("tests.drill.run._run", run)
    result = run_drill(drill, None, "braid-drill", print)  # type: ignore[arg-type]
    (told,) = result.complaints
    assert told.startswith(
        "seed 7: fault 2 of 18, no network from a to b, begun 2.5 s before: site_traffic exceeded the truth"
    )
    assert "views=5" in told
    assert (result.polls, result.failed_polls, result.largest_error) == (10, 4, 50)
    assert not result.passed
    assert story.during(9.0) == "before the first fault: "


def test_what_readers_saw_before_a_drill_broke_off_is_judged_too(monkeypatch: pytest.MonkeyPatch):
    def broken_off(drill: Any, scene: Any, readers: Any, *_: Any) -> None:
        scene.during = lambda at_s: f"fault 1 of 18, begun {at_s:.1f} s before: "
        readers[1].polls.append(seen(104, 52, 5, 1, 1, 1))
        raise AssertionError("still not so after 180 s")

    records = [record(0, offset, name) for offset, name in enumerate(("a", "b", "a", "bad"), 100)]
    records += [record(1, offset, name) for offset, name in enumerate(("c", "d"), 50)]
    for name, stand_in in {
        "wait_for_rest": lambda stack: None,
        "connect": lambda settings, role: nullcontext(),
        "poll": lambda connection, sites: AT_REST,
        "digest": lambda stack, site: [],
        "_break": broken_off,
        "_in_topic": lambda scene, shifts: records,
    }.items():
        monkeypatch.setattr(f"tests.drill.run.{name}", stand_in)
    stack: Any = SimpleNamespace(settings=None, shifts=dict)
    result = run_drill(chaos(7, 10, 500), stack, "braid-drill", print)
    assert len(result.complaints) == 2
    assert result.complaints[0].startswith("seed 7: fault 1 of 18, begun 1.0 s before: site_traffic exceeded the truth")
    assert result.complaints[1] == "seed 7: still not so after 180 s"


def test_whatever_else_is_wrong_is_told_with_the_seed(monkeypatch: pytest.MonkeyPatch):
    def run(*arguments: Any) -> None:
        arguments[-1].too_slow.append("the views took 61.0 s to recover")
        raise AssertionError("the log was not counted")

    monkeypatch.setattr("tests.drill.run._run", run)
    result = run_drill(chaos(7, 10, 500), None, "braid-drill", print)  # type: ignore[arg-type]
    assert result.complaints == ["seed 7: the log was not counted"]
    assert result.too_slow == ["seed 7: the views took 61.0 s to recover"]


def test_a_lag_is_the_age_of_the_oldest_record_that_is_not_shown():
    assert TRUTH.lag_s({0: 104, 1: 52}, TIME_MS + 5_000) == 0
    assert TRUTH.lag_s({0: 104, 1: 51}, TIME_MS + 5_000) == 5
    # It came later.
    assert TRUTH.lag_s({0: 100, 1: 51}, TIME_MS - 1) == 0


class BatchRuns:
    """In place of BatchRun: each in turn ends so; after the last one nobody wants another."""

    def __init__(self, *ends: tuple[int, str] | str) -> None:
        self.ends, self.runs = list(ends), None

    def __call__(self, faults: Faults) -> BatchRuns:
        return self

    def finish(self, within_s: float) -> tuple[int, str]:
        end = self.ends.pop(0)
        if not self.ends:
            self.runs._stop.set()  # type: ignore[attr-defined]
        if isinstance(end, str):
            raise AssertionError(f"{end}, {within_s}")
        return end


def test_runs_may_fail_with_a_reason_and_must_end(monkeypatch: pytest.MonkeyPatch):
    batch, complaints = BatchRuns((0, "published"), (1, "waited 75 s"), (75, "goes on"), (137, ""), (1, " "), "too long"), []
    monkeypatch.setattr(runs_module, "BatchRun", batch)
    monkeypatch.setattr(runs_module, "_PAUSE_S", 0)
    runs = Runs(None, lambda at_s, text: complaints.append(text))  # type: ignore[arg-type]
    batch.runs = runs  # type: ignore[assignment]
    with runs:
        runs._thread.join()
    assert (len(runs.took_s), runs.published) == (6, 1)
    assert complaints == [
        "a batch run ended with status 137, and said: ", "a batch run ended with status 1, and said:  ", "too long, 300.0",
    ]  # fmt: skip


def test_a_run_that_does_not_end_in_time_is_killed():
    process = subprocess.Popen(["sh", "-c", "echo computing; exec sleep 60"], stdout=subprocess.PIPE, text=True)
    batch = BatchRun.__new__(BatchRun)
    batch._process, batch._container = process, "batch"
    asked: list[tuple[str, ...]] = []

    def docker(*arguments: str, check: bool) -> None:
        asked.append(arguments)
        process.kill()

    batch._faults = SimpleNamespace(_docker=docker)  # type: ignore[assignment]
    with pytest.raises(AssertionError, match=r"^a batch run did not end within 0 s; it said: (computing)?"):
        batch.finish(0.01)
    assert asked == [("kill", "--signal", "KILL", "batch")]


def test_each_line_of_the_sent_file_is_known_among_the_simulators_records_and_must_be_there(tmp_path: Path):
    SampleLog(LINES).write(tmp_path)
    reader = log_lines()
    with InputFile(tmp_path / LOG_NAME) as source:
        blocks = [(piece.offset, piece.data.removesuffix(b"\n")) for piece in source.pieces(final=True)]
    lines = [value for offset, block in blocks for value in reader.read("access.log", offset, block).values]
    shares = Shares(late=0.1, twice=0.1, malformed=0.5)
    stream = events(1, lambda: datetime(2026, 5, 17, tzinfo=UTC), "simulator", shares=shares)
    simulated = [value for _, value in islice(stream, 2_000)]
    file = SentFile(None, "site", 60)  # type: ignore[arg-type]
    sent = [(0, offset, TIME_MS, value) for offset, value in enumerate([*simulated, *lines[:-1], *lines[:50]])]
    assert list(file.noted(iter(sent))) == sent  # type: ignore[arg-type]
    assert file.records == LINES - 1 + 50
    assert list(file.complaints()) == [f"the log has {LINES} lines, the topic has {LINES - 1} of them"]
    list(file.noted(iter([(0, 0, TIME_MS, lines[-1])])))
    assert list(file.complaints()) == []


def test_a_file_is_sent_again_until_all_of_it_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("tests.drill.sent_file._FOLDER", tmp_path)
    monkeypatch.setattr("tests.drill.sent_file.ROOT", tmp_path)
    monkeypatch.setattr("tests.drill.sent_file._AGAIN_S", 0)
    seen: list[int] = []

    def run(*command: str, check: bool) -> SimpleNamespace:
        assert command == ("make", "--silent", "replay", "LOG=grown.log", "SITE=site")
        seen.append((tmp_path / "grown.log").read_bytes().count(b"\n"))
        return SimpleNamespace(returncode=len(seen) in (1, 3), stderr="HDFS does not answer")

    with SentFile(SimpleNamespace(run=run), "site", 0) as file:  # type: ignore[arg-type]
        file.end()
    assert seen == [LINES // 4, LINES // 4, LINES // 2, LINES // 2, 3 * LINES // 4, LINES]


def test_memory_has_grown_by_more_than_noise():
    mb = 2**20
    before = {"kafka": 500 * mb, "console": mb, "timescaledb": 100 * mb, "gone": mb}
    after = {"kafka": 600 * mb, "console": 10 * mb, "timescaledb": 140 * mb, "new": mb}
    assert grown(before, after) == {"kafka": 1.2, "console": 1.0, "timescaledb": 1.4}


@pytest.mark.parametrize("is_well", [True, False])
def test_audit_restarts_memory_and_drift_are_looked_at_in_the_end(monkeypatch: pytest.MonkeyPatch, is_well: bool):
    def audit() -> None:
        if not is_well:
            raise AssertionError("the audit found something")

    mb = 2**20
    held = {"kafka": (110 if is_well else 140) * mb, "nimbus": 50 * mb}
    monkeypatch.setattr("tests.drill.chaos.Containers", lambda project: SimpleNamespace(memory_bytes=lambda: held))
    asked: list[str] = []
    started = {"kafka": "10:00", "nimbus": "10:00" if is_well else "10:05"}
    stack = SimpleNamespace(audit=audit, ask=lambda query: asked.append(query) or [(3, 0 if is_well else 2)])
    faults = SimpleNamespace(project="braid-drill", started=lambda *services: started)
    scene: Any = SimpleNamespace(say=print, stack=stack, faults=faults, complaints=[], figures={})
    runs: Any = SimpleNamespace(took_s=[10.0, 61.26, 20.0], published=2)
    before = {"kafka": 100 * mb, "nimbus": 50 * mb}
    story = Chaos(7, 10, [], [(0.0, "fault 1 of 1")], before, {"kafka": "10:00", "nimbus": "10:00"}, 12, runs)
    story.ended(scene)
    wrong = [
        "the audit found something",
        "started again after the recovery: nimbus",
        "kafka holds 1.40 times the memory of the beginning, the limit is 1.3",
        "drift finds 2 views of runs wrong",
    ]
    assert scene.complaints == ([] if is_well else wrong)
    assert "run_id > 12" in asked[0]
    assert scene.figures == {
        "seed": 7, "faults": 1, "runs": 3, "published": 2, "longest_run_s": 61.3, "dropped": 3,
        "memory_times": 1.0 if is_well else 1.4, "memory_of": "kafka",
    }  # fmt: skip


def test_what_chaos_sends_and_prints():
    drill = chaos(7, 10, 500)
    assert (drill.name, drill.fault, drill.seed) == ("chaos", "18 faults of any kind in 10 minutes, by seed 7", 7)
    assert (drill.load.rate, drill.load.readers, drill.load.late_days) == (500, 2, 40)
    # It is for no test of a stack that others use.
    assert (drill.fast, drill.loses) == (False, False)
    result = Result(drill.name, drill.fault, figures={"faults": 18, "longest_run_s": 61.5}, largest_lag_s=3.25)
    assert len(row_of(result)) == len(HEADER.splitlines()[0])
    assert figures_of(result) == "chaos: faults 18, longest run s 61.5, largest lag s 3.2"
    assert figures_of(Result("kill-all", "everything dies")) == ""


def test_the_docs_have_each_kind_and_how_many_there_are_in_ten_minutes():
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    _, chaos_text = text.split("\n### Chaos\n")
    assert re.findall(r"^\| `([a-z-]+)` \|", chaos_text.split("\n## ")[0], re.MULTILINE) == list(KINDS)
    numbers = [len(schedule(seed, 10)) for seed in SEEDS]
    assert f"Ten minutes have {min(numbers)} to {max(numbers)}, and all kinds." in " ".join(chaos_text.split())


def test_kinds_are_about_as_often_as_each_other():
    counted = Counter(one.kind for one in schedule(1, 300))
    assert max(counted.values()) - min(counted.values()) <= 1
