"""A run that is watched: it is told how far it is, what waits gives a sign of life, and one that nobody computes ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

import psycopg
import requests
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException

from batch.progress import Progress
from contract.errors import BraidError, NoExecutor, RunRefused
from contract.settings import Settings
from serving.database import Connection, connect
from serving.spark_page import is_standalone, read_page
from serving.standstill import Standstill
from serving.turn import duration, record_progress, take_turn

EXECUTOR_WAIT_S = 75.0
"""A run bears so long that it has no executor, or that nobody hears of those it has, unless another application of the
master's has the cores."""
SAY_EVERY_S = 30.0
_LOOK_EVERY_S, _TELL_EVERY_S, _AGAIN_S, _ASK_EVERY_S = 2.0, 5.0, 2.0, 10.0


@dataclass(frozen=True)
class Counted:
    """Of Spark: how many tasks of the step have ended, and how many executors there are."""

    tasks_done: int
    executors: int


class Watch(Progress):
    """Beside the run, until the block ends: the database is told how far it is, and `say` when it comes no further.

    `turn` is the session that has the turn, None for an audit, which takes none. It is kept until the block ends. If it is
    lost, another one takes the turn as soon as that is free. Jobs of a run that is marked as ended, or that nobody computes
    for too long, are cancelled.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        turn: Connection | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._say, self._turn = settings, say, turn
        self._clock_s = clock_s
        self.run_id = 0
        """0 before the run has begun."""
        self.is_published = False
        self._step, self._tasks, self._done, self._counts = "", 0, 0, False
        self._spark: SparkContext | None = None
        self._given_up: BraidError | None = None
        self._ended, self._changed = Event(), Event()
        self._stands = Standstill(SAY_EVERY_S, clock_s)
        self._position, self._say_at_s = 0, SAY_EVERY_S
        self._executors, self._heard, self._asked_s = 0, dict[str, Any](), float("-inf")
        self._has_executor()
        self._threads = [Thread(target=body, daemon=True) for body in (self._look, self._tell)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._changed.set()
        for thread in self._threads:
            # One that waits for an answer is not waited for.
            thread.join(timeout=1)

    def begun(self, run_id: int) -> None:
        self.run_id = run_id
        self._advanced()

    def published(self) -> None:
        self.is_published = True

    def step(self, name: str) -> None:
        self._step, self._tasks, self._done, self._counts = name, 0, 0, False
        if self._spark:
            # Its tasks are counted by this.
            self._spark.setJobGroup(name, name)
        self._advanced()

    def planned(self, tasks: int) -> None:
        self._tasks, self._counts = tasks, True
        self._changed.set()

    def advanced(self) -> None:
        self._done, self._counts = self._done + 1, True
        self._advanced()

    @contextmanager
    def on_spark(self, spark: SparkContext) -> Iterator[None]:
        self._spark, self._executors = spark, 0
        self._has_executor()
        try:
            yield
        except (PySparkException, Py4JError):
            if self._given_up:
                raise self._given_up from None
            raise
        finally:
            self._spark = None

    def see(self, now: Counted, spark: SparkContext) -> None:
        """Of Spark this is so now."""
        if now.tasks_done != self._done:
            self._done = now.tasks_done
            self._advanced()
            self._has_executor()
        # Spark knows an executor for up to two minutes after it was last heard of.
        came, self._executors = now.executors > self._executors, now.executors
        # guard: an executor that is not heard of computes nothing
        if came or not is_standalone(self._settings) or (now.executors and self._workers_live()):
            self._has_executor()
        # guard: a run that nobody computes ends
        if self._lacks.too_long:
            reason, passes = self._why_no_executor(spark)
            if passes:
                self._has_executor()
            else:
                self._give_up(NoExecutor.of_run(self.run_id, self._lacks.stood_s, reason))

    def sign(self) -> None:
        """Say what is waited for, if nothing has come for a while. Where nothing is counted, say only for how long."""
        if not self._step or self._stands.stood_s < self._say_at_s:
            return
        self._say_at_s += SAY_EVERY_S
        whose = f"run {self.run_id}: " if self.run_id else ""
        tasks = f", {self._done} of {self._tasks} tasks done" if self._tasks else ""
        stood = f"{', no advance' if self._counts else ''} for {duration(self._stands.stood_s)}"
        without = ""
        if (spark := self._spark) and is_standalone(self._settings) and self._lacks.stood_s >= SAY_EVERY_S:
            without = f"; no executor of Spark: {self._why_no_executor(spark)[0]}"
        self._say(f"{whose}{self._step}{tasks}{stood}{without}")

    def _has_executor(self) -> None:
        self._lacks = Standstill(EXECUTOR_WAIT_S, self._clock_s)

    def _workers_live(self) -> bool:
        """Whether the master has heard of a worker since it was asked last, which is now and then.

        Executors need no master: one that does not answer says nothing against them.
        """
        if self._clock_s() - self._asked_s < _ASK_EVERY_S:
            return False
        self._asked_s = self._clock_s()
        try:
            page = read_page(self._settings)
        except (requests.RequestException, ValueError):
            return True
        before, self._heard = self._heard, heartbeats(page)
        return page.get("status") != "ALIVE" or any(before.get(name) != at for name, at in self._heard.items())

    def _why_no_executor(self, spark: SparkContext) -> tuple[str, bool]:
        if self._executors:
            return "the master hears of no worker any more, and no task ends", False
        return why_no_executor(self._settings, str(spark.applicationId))

    def _advanced(self) -> None:
        self._position += 1
        self._stands.see(self._position)
        self._say_at_s = SAY_EVERY_S
        self._changed.set()

    def _give_up(self, error: BraidError) -> None:
        self._given_up = self._given_up or error

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            # Spark may be ending.
            with suppress(Py4JError, OSError, AttributeError, TypeError):
                if spark := self._spark:
                    self.see(counted(spark, self._step), spark)
                    if self._given_up:
                        # Each time: it may have been between two jobs.
                        # guard: the job of a run that has ended is broken off
                        spark.cancelAllJobs()
            self.sign()

    def _tell(self) -> None:
        connection, lacks_turn = self._turn, False
        try:
            while not self._ended.is_set():
                try:
                    # guard: what is refused in a session does not end it
                    if connection is None or connection.closed:
                        connection = connect(self._settings, "batch")
                        lacks_turn = self._turn is not None
                    # guard: a turn that was lost is asked for until it is free
                    if lacks_turn:
                        lacks_turn = not take_turn(connection, self.run_id or None)
                    if self.run_id:
                        record_progress(connection, self.run_id, self._step, self._done, self._tasks)
                    self._changed.wait(_TELL_EVERY_S)
                    self._changed.clear()
                except RunRefused as refusal:
                    # It was published, or it is of no use any more. Until it has cleared up it keeps the turn.
                    self._give_up(refusal)
                    # guard: a published run keeps the turn until it has cleared up
                    self._ended.wait()
                except (BraidError, psycopg.Error):
                    self._ended.wait(_AGAIN_S)
        finally:
            if connection is not None:
                connection.close()


def why_no_executor(settings: Settings, application: str) -> tuple[str, bool]:
    """Why the master gives the application none, and whether that passes by itself, because others have them."""
    try:
        page = read_page(settings)
    except (requests.RequestException, ValueError) as error:
        return f"the master at {settings.spark_master} does not answer ({' '.join(str(error).split())[:200]})", False
    return judged(page, application)


def judged(page: dict[str, Any], application: str) -> tuple[str, bool]:
    """The same of what the master's page says."""
    running = {one["id"]: one for one in page.get("activeapps", ())}
    if page.get("status") != "ALIVE":
        return f"the master is {page.get('status')}", False
    if application not in running:
        return "the master does not know the run any more, it was started anew", False
    if not page.get("aliveworkers"):
        return "no worker is registered with the master", False
    if running[application].get("cores"):
        return "the worker has not brought up the one that the master gave the run", False
    others = [one for name, one in running.items() if name != application and one.get("cores")]
    if others:
        return f"application {others[0]['id']} ({others[0]['name']}) has the cores", True
    return f"none of {page['aliveworkers']} workers has the memory and cores for one", False


def heartbeats(page: dict[str, Any]) -> dict[str, Any]:
    """When the master heard of each worker last, by its own clock."""
    return {one["id"]: one["lastheartbeat"] for one in page.get("workers", ()) if one.get("state") == "ALIVE"}


def counted(spark: SparkContext, group: str) -> Counted:
    """Of the jobs of a group, up to now."""
    tracker = spark.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    stages = [tracker.getStageInfo(stage) for stage in {stage for job in jobs if job for stage in job.stageIds}]
    # PySpark does not give the executors; the driver is one of them.
    known: Any = spark._jsc
    return Counted(
        sum(stage.numCompletedTasks for stage in stages if stage), len(known.sc().statusTracker().getExecutorInfos()) - 1
    )
