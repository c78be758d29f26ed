"""One batch run computes at a time: who has the turn, and how far it is. What readers see is the fence's business alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import class_row

from serving.database import Connection, answering, one_value, refusing


@dataclass(frozen=True)
class GoingOn:
    """A run that has not ended, as its driver told it last: at which `step`, how many of the step's tasks have ended (of 0:
    it has none, and something else was counted), for how long it has not come further, and for how long its driver has said
    nothing."""

    run_id: int
    kind: str
    started_at: datetime
    age_s: float
    step: str | None
    tasks_done: int | None
    tasks: int | None
    stood_s: float
    silent_s: float

    def text(self) -> str:
        """For people, in one line."""
        since = f"{self.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        how_far = (self.step or "beginning") + (f", {self.tasks_done} of {self.tasks} tasks done" if self.tasks else "")
        silent = f"; its driver has said nothing for {duration(self.silent_s)}" if self.silent_s > SILENT_S else ""
        return (
            f"run {self.run_id} ({self.kind}) goes on since {since}, for {duration(self.age_s)}: "
            f"{how_far}, the last advance {duration(self.stood_s)} ago{silent}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"started_at": self.started_at.isoformat()}


SILENT_S = 30.0
"""A driver says every few seconds how far it is. One that says nothing for so long stands still, or cannot reach the
database."""


def duration(seconds: float) -> str:
    """Such as 9 s, 2 min 5 s, 3 h 20 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def take_turn(connection: Connection, run_id: int | None = None) -> bool:
    """The session has the turn until it ends, unless another one has it; runs whose driver is gone are marked. Role batch.

    `run_id` is a run of the caller's own that has begun before.
    """
    with answering(connection):
        return bool(one_value(connection, "SELECT serving.take_turn(%s)", [run_id]))


def record_progress(connection: Connection, run_id: int, step: str, tasks_done: int, tasks: int) -> None:
    """Whoever asks is told from now on that the run is so far. Role batch. RunRefused if it has ended."""
    with refusing(), answering(connection):
        connection.execute("SELECT serving.record_progress(%s, %s, %s, %s)", [run_id, step, tasks_done, tasks])


def going_on(connection: Connection) -> list[GoingOn]:
    """Runs that have not ended, audits too, the latest first. Role batch or reader."""
    with answering(connection), connection.cursor(row_factory=class_row(GoingOn)) as cursor:
        return cursor.execute(
            "SELECT run_id, kind, started_at, extract(epoch FROM clock_timestamp() - started_at)::float8 AS age_s, "
            "step, tasks_done, tasks, "
            "extract(epoch FROM clock_timestamp() - coalesce(advanced_at, started_at))::float8 AS stood_s, "
            "extract(epoch FROM clock_timestamp() - coalesce(seen_at, started_at))::float8 AS silent_s "
            "FROM runs WHERE state = 'running' ORDER BY run_id DESC"
        ).fetchall()
