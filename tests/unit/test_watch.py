"""A run that is watched gives a sign of life when it comes no further, and ends when nobody computes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from py4j.protocol import Py4JError

from batch import watch
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
        f"run 7 waited {EXECUTOR_WAIT_S + 1:.0f} s for an executor of Spark and got none: the master does not know the run any more, it was "
        "started anew; nothing was published, `make status` shows what is up, `make batch` starts again"
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
        watched.sign(None)
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
            watched.sign(1)
        assert said == []
        clock.now_s += 31
        watched.sign(0)
    assert said == [
        "run 7: computing, 2 of 61 tasks done, no advance for 31 s; no executor of Spark: the master at spark://master:7077 "
        "does not answer (refused)"
    ]


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
