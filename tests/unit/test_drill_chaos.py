"""The drill chaos: whatever is wrong is told with the seed and the fault; what goes on beside the faults; the end."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.lines import InputFile
from ingest.sample_log import LOG_NAME, SampleLog
from ingest.simulate import Shares, events
from tests.drill import runs as runs_module
from tests.drill.chaos import Chaos, chaos, grown
from tests.drill.faults import BatchRun, Faults
from tests.drill.judge import NOTHING
from tests.drill.report import HEADER, figures_of, row_of
from tests.drill.run import Result, judge_reader, run_drill
from tests.drill.runs import Runs
from tests.drill.sent_file import LINES, SentFile
from tests.fixtures.log_corpus import log_lines
from tests.unit.test_drill_judge import AT_REST, TIME_MS, TRUE, TRUTH, record, seen


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
