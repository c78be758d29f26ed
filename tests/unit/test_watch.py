"""A run that is watched gives a sign of life when it comes no further, and ends when nobody computes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from py4j.protocol import Py4JError

from batch import archive, watch
from batch.archive import Archive
from batch.watch import EXECUTOR_WAIT_S, Counted, Watch, judged
from contract.errors import NoExecutor
from contract.settings import Settings
from serving.turn import GoingOn, duration

SETTINGS = replace(Settings(), spark_master="spark://master:7077")


@dataclass
class Clock:
    """Seconds, as they are set."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Spark:
    """What a watch asks of a SparkContext beside its tasks."""

    applicationId = "app-1"  # noqa: N815 as Spark calls it

    def setJobGroup(self, name: str, description: str) -> None:  # noqa: N802 as Spark calls it
        """The step's name."""


PAGE: dict[str, Any] = {
    "status": "ALIVE",
    "aliveworkers": 1,
    "activeapps": [{"id": "app-1", "name": "braid batch", "cores": 0}, {"id": "app-2", "name": "braid batch", "cores": 2}],
}


@pytest.mark.parametrize(
    ("changed", "reason", "passes"),
    [
        ({"status": "RECOVERING"}, "the master is RECOVERING", False),
        ({"activeapps": []}, "the master does not know the run any more, it was started anew", False),
        ({"aliveworkers": 0}, "no worker is registered with the master", False),
        ({}, "application app-2 (braid batch) has the cores", True),
        (
            {"activeapps": [{"id": "app-1", "cores": 2}]},
            "the worker has not brought up the one that the master gave the run",
            False,
        ),
        ({"activeapps": [{"id": "app-1", "cores": 0}]}, "none of 1 workers has the memory and cores for one", False),
    ],
)
def test_the_reason_for_no_executor_is_what_the_masters_page_says(changed: dict[str, Any], reason: str, passes: bool):
    assert judged(PAGE | changed, "app-1") == (reason, passes)


def test_a_run_without_executor_ends_with_the_reason_and_not_while_another_one_has_them(monkeypatch: pytest.MonkeyPatch):
    clock, said = Clock(), list[str]()
    pages = [PAGE]
    monkeypatch.setattr(watch, "read_page", lambda settings: pages[-1])
    watched = Watch(SETTINGS, said.append, clock_s=clock)
    watched.begun(7)
    spark: Any = Spark()

    def lose_all() -> None:
        with watched.on_spark(spark):
            watched.step("computing")
            for seconds in (EXECUTOR_WAIT_S, EXECUTOR_WAIT_S - 1, 2):
                clock.now_s += seconds
                watched.see(Counted(3, 0), spark)
            pages.append(PAGE | {"activeapps": []})
            # One that was there in between begins the time anew.
            clock.now_s += EXECUTOR_WAIT_S - 2
            watched.see(Counted(3, 1), spark)
            clock.now_s += EXECUTOR_WAIT_S - 1
            watched.see(Counted(3, 0), spark)
            clock.now_s += 2
            watched.see(Counted(3, 0), spark)
            # As a job ends that was cancelled.
            raise Py4JError("cancelled")

    with pytest.raises(NoExecutor) as ended:
        lose_all()
    assert str(ended.value) == (
        f"run 7 waited {EXECUTOR_WAIT_S + 1:.0f} s for an executor of Spark and got none: the master does not know the run "
        "any more, it was started anew; nothing was published, `make status` shows what is up, `make batch` starts again"
    )


def test_a_job_that_fails_by_itself_keeps_its_reason():
    watched = Watch(SETTINGS, lambda line: None)
    spark: Any = Spark()
    with pytest.raises(Py4JError, match="by itself"), watched.on_spark(spark):
        raise Py4JError("by itself")


def test_what_comes_no_further_says_so_every_thirty_seconds_and_what_advances_says_nothing(monkeypatch: pytest.MonkeyPatch):
    def refuse(settings: Settings) -> dict[str, Any]:
        raise requests.ConnectionError("refused")

    clock, said = Clock(), list[str]()
    monkeypatch.setattr(watch, "read_page", refuse)
    watched = Watch(SETTINGS, said.append, clock_s=clock)
    watched.begun(7)
    watched.step("waiting for the archive")
    for _ in range(35):
        clock.now_s += 2
        watched.advanced()
        watched.sign()
    assert said == []
    for _ in range(35):
        clock.now_s += 2
        watched.sign()
    assert said == [
        "run 7: waiting for the archive, no advance for 30 s",
        "run 7: waiting for the archive, no advance for 1 min 0 s",
    ]
    said.clear()
    spark: Any = Spark()
    with watched.on_spark(spark):
        watched.step("computing")
        watched.planned(61)
        for done in range(3):
            clock.now_s += 29
            watched.see(Counted(done, 1), spark)
            watched.sign()
        assert said == []
        clock.now_s += 31
        watched.see(Counted(done, 0), spark)
        watched.sign()
    assert said == [
        "run 7: computing, 2 of 61 tasks done, no advance for 31 s; no executor of Spark: the master at spark://master:7077 "
        "does not answer (refused)"
    ]


def test_what_counts_nothing_is_not_said_to_stand_still_and_what_has_not_begun_says_nothing():
    clock, said = Clock(), list[str]()
    watched = Watch(SETTINGS, said.append, clock_s=clock)
    for step in (None, "checking the ledger", "publishing"):
        if step:
            watched.step(step)
        clock.now_s += 31
        watched.sign()
        watched.begun(7) if step == "checking the ledger" else None
    assert said == ["checking the ledger for 31 s", "run 7: publishing for 31 s"]


def test_a_run_whose_workers_are_not_heard_of_ends_though_spark_knows_their_executors(monkeypatch: pytest.MonkeyPatch):
    """A frozen worker's executors are lost to Spark only after 60 to 120 s."""
    clock = Clock()
    heard = {"w-1": 1, "w-2": 1}
    answers = [True]

    def read(settings: Settings) -> dict[str, Any]:
        if not answers[-1]:
            raise requests.ConnectionError("refused")
        workers = [{"id": name, "state": "ALIVE", "lastheartbeat": at} for name, at in heard.items()]
        return PAGE | {"workers": [*workers, {"id": "w-3", "state": "DEAD", "lastheartbeat": clock.now_s}]}

    monkeypatch.setattr(watch, "read_page", read)
    watched = Watch(SETTINGS, lambda line: None, clock_s=clock)
    watched.begun(7)
    spark: Any = Spark()
    done = 0

    def pass_s(seconds: int) -> None:
        for _ in range(seconds // 2):
            clock.now_s += 2
            watched.see(Counted(done, 2), spark)

    def freeze() -> None:
        nonlocal done
        with watched.on_spark(spark):
            watched.step("computing")
            pass_s(60)
            # One of them is heard of: a task that takes long is none that nobody computes.
            heard["w-2"] += 15
            pass_s(60)
            # A task ends, whoever was heard of.
            done += 1
            pass_s(60)
            # Executors need no master.
            answers.append(False)
            pass_s(200)
            answers.append(True)
            # That one worker is not there any more is no sign of the other.
            del heard["w-2"]
            pass_s(90)
            raise Py4JError("cancelled")

    with pytest.raises(
        NoExecutor, match=r"run 7 waited 7[67] s .*: the master hears of no worker any more, and no task ends;"
    ):
        freeze()


def test_an_archive_that_comes_nearer_to_the_cut_says_so(monkeypatch: pytest.MonkeyPatch):
    listed = iter([{0: 3}, {0: 3}, {0: 3, 1: 9}, {0: 7, 1: 9}, {0: 7, 1: 11}, {0: 8, 1: 12}])
    monkeypatch.setattr(Archive, "next_offsets", lambda self: next(listed))
    monkeypatch.setattr(archive, "_POLL_S", 0)
    advances = []
    Archive(SETTINGS).wait_for({0: 8, 1: 9}, lambda: advances.append(None))
    # What comes behind the cut brings it no nearer.
    assert len(advances) == 3


def test_a_run_that_goes_on_is_told_in_one_line():
    started = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
    run = GoingOn(12, "full", started, 250.4, "computing", 34, 61, 3.2, 4.0)
    assert run.text() == (
        "run 12 (full) goes on since 2026-03-01 02:00:00 UTC, for 4 min 10 s: computing, 34 of 61 tasks done, "
        "the last advance 3 s ago"
    )
    silent = replace(run, step=None, tasks_done=None, tasks=None, silent_s=7_500.0)
    assert silent.text().endswith(": beginning, the last advance 3 s ago; its driver has said nothing for 2 h 5 min")
    assert [duration(seconds) for seconds in (0, 59.4, 59.6, 3_599, 3_600)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
    ]
