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
"""A run bears so long that it has no executor, unless another application of the master's has them."""
SAY_EVERY_S = 30.0
_LOOK_EVERY_S, _TELL_EVERY_S, _AGAIN_S = 2.0, 5.0, 2.0


@dataclass(frozen=True)
class Counted:
    """Of Spark: how many tasks of the step have ended, and how many executors there are."""

    tasks_done: int
    executors: int


class Watch(Progress):
    """Beside the run, until the block ends: the database is told how far it is, and `say` when it comes no further.

    `turn` is the session that has the turn, None for an audit, which takes none. If that session is lost, another one takes
    the turn if it is free. Jobs of a run that is marked as ended, or that has no executor for too long, are cancelled.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        turn: Connection | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._say, self._turn, self._has_turn = settings, say, turn, turn is not None
        self._clock_s = clock_s
        self._run_id = 0
        self._step, self._tasks, self._done = "beginning", 0, 0
        self._spark: SparkContext | None = None
        self._given_up: BraidError | None = None
        self._ended, self._changed = Event(), Event()
        self._stands, self._lacks = Standstill(SAY_EVERY_S, clock_s), Standstill(EXECUTOR_WAIT_S, clock_s)
        self._position, self._say_at_s = 0, SAY_EVERY_S
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
        self._run_id = run_id
        self._advanced()

    def step(self, name: str) -> None:
        self._step, self._tasks, self._done = name, 0, 0
        if self._spark:
            # Its tasks are counted by this.
            self._spark.setJobGroup(name, name)
        self._advanced()

    def planned(self, tasks: int) -> None:
        self._tasks = tasks
        self._changed.set()

    @contextmanager
    def on_spark(self, spark: SparkContext) -> Iterator[None]:
        self._spark = spark
        self._lacks = Standstill(EXECUTOR_WAIT_S, self._clock_s)
        try:
            yield
        except (PySparkException, Py4JError):
            if self._given_up:
                raise self._given_up from None
            raise
        finally:
            self._spark = None

    def see(self, counted: Counted, spark: SparkContext) -> None:
        """Of Spark this is so now."""
        if counted.tasks_done != self._done:
            self._done = counted.tasks_done
            self._advanced()
        if counted.executors or not is_standalone(self._settings):
            self._lacks = Standstill(EXECUTOR_WAIT_S, self._clock_s)
            return
        # guard: a run that nobody computes ends
        if self._lacks.too_long:
            reason, passes = why_no_executor(self._settings, str(spark.applicationId))
            if passes:
                self._lacks = Standstill(EXECUTOR_WAIT_S, self._clock_s)
            else:
                self._give_up(NoExecutor.of_run(self._run_id, self._lacks.stood_s, reason))

    def sign(self, executors: int | None) -> None:
        """Say what is waited for, if nothing has come for a while."""
        if self._stands.stood_s < self._say_at_s:
            return
        self._say_at_s += SAY_EVERY_S
        tasks = f", {self._done} of {self._tasks} tasks done" if self._tasks else ""
        without = ""
        spark = self._spark
        if executors == 0 and spark and is_standalone(self._settings):
            without = f"; no executor of Spark: {why_no_executor(self._settings, str(spark.applicationId))[0]}"
        self._say(f"run {self._run_id}: {self._step}{tasks}, no advance for {duration(self._stands.stood_s)}{without}")

    def _advanced(self) -> None:
        self._position += 1
        self._stands.see(self._position)
        self._say_at_s = SAY_EVERY_S
        self._changed.set()

    def _give_up(self, error: BraidError) -> None:
        self._given_up = self._given_up or error

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            executors = None
            # Spark may be ending.
            with suppress(Py4JError, OSError, AttributeError, TypeError):
                if spark := self._spark:
                    counted = _counted(spark, self._step)
                    executors = counted.executors
                    self.see(counted, spark)
                    if self._given_up:
                        # Each time: it may have been between two jobs.
                        spark.cancelAllJobs()
            self.sign(executors)

    def _tell(self) -> None:
        while not self._ended.is_set():
            try:
                with self._session() as connection:
                    while not self._ended.is_set():
                        if self._run_id:
                            record_progress(connection, self._run_id, self._step, self._done, self._tasks)
                        self._changed.wait(_TELL_EVERY_S)
                        self._changed.clear()
            except RunRefused as refusal:
                # It was published, or it is of no use any more.
                self._give_up(refusal)
                return
            except (BraidError, psycopg.Error):
                self._ended.wait(_AGAIN_S)

    def _session(self) -> Connection:
        if self._turn is not None:
            first, self._turn = self._turn, None
            return first
        connection = connect(self._settings, "batch")
        if self._has_turn:
            take_turn(connection, self._run_id or None)
        return connection


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


def _counted(spark: SparkContext, group: str) -> Counted:
    tracker = spark.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    stages = [tracker.getStageInfo(stage) for stage in {stage for job in jobs if job for stage in job.stageIds}]
    # PySpark does not give the executors; the driver is one of them.
    known: Any = spark._jsc
    return Counted(
        sum(stage.numCompletedTasks for stage in stages if stage), len(known.sc().statusTracker().getExecutorInfos()) - 1
    )
