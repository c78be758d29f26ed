"""Waiting for the pipeline, with progress on stderr: until offsets are counted, until the merged views answer."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from contract.errors import EngineUnavailable, TimedOut
from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, Role, connect, transaction

_POLL_S = 0.2


def wait_for_offsets(
    settings: Settings, wanted: Mapping[int, int], timeout_s: float, console: Console, role: Role = "reader"
) -> None:
    """Returns when the speed layer has counted every partition up to the wanted next offset. Raises TimedOut."""
    deadline = time.monotonic() + timeout_s
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with connect(settings, role) as connection, Progress(*columns, console=console) as progress:
        behind = _behind(connection, wanted)
        task = progress.add_task("counted by the speed layer", total=sum(behind.values()))
        while behind:
            if time.monotonic() > deadline:
                partition, missing = max(behind.items(), key=lambda item: item[1])
                raise TimedOut.waiting_for_speed(partition, wanted[partition] - missing, wanted[partition], timeout_s)
            time.sleep(_POLL_S)
            behind = _behind(connection, wanted)
            progress.update(task, completed=(progress.tasks[task].total or 0) - sum(behind.values()))


def wait_for_views(settings: Settings, with_traffic: bool, timeout_s: float, console: Console) -> None:
    """Returns when the first merged view has a batch part and a speed part, or without traffic, when it answers."""
    deadline = time.monotonic() + timeout_s
    last = "no answer yet"
    with console.status("waiting for the merged views") as line:
        while True:
            try:
                with connect(settings, "reader") as connection:
                    batch, speed = _parts(connection)
                last = f"{batch} views from batch, {speed} from speed"
                if not with_traffic or (batch and speed):
                    return
            except (EngineUnavailable, psycopg.Error) as error:
                last = " ".join(str(error).split())
            if time.monotonic() > deadline:
                raise TimedOut.waiting_for_views(VIEWS[0].name, last, timeout_s)
            line.update(f"waiting for the merged views: {last}")
            time.sleep(_POLL_S)


def _behind(connection: Connection, wanted: Mapping[int, int]) -> dict[int, int]:
    """How many offsets are missing, for each partition where some are."""
    # Offsets in flight are passed but in no view yet: a run that took them over has still to publish.
    with transaction(connection):
        rows = connection.execute("SELECT partition, next_offset - in_flight FROM ledger").fetchall()
    reached: dict[int, int] = dict(rows)
    missing = {partition: offset - reached.get(partition, 0) for partition, offset in wanted.items()}
    return {partition: offsets for partition, offsets in missing.items() if offsets > 0}


def _parts(connection: Connection) -> tuple[int, int]:
    view = VIEWS[0]
    counted = view.measures[0].name
    query = psycopg.sql.SQL("SELECT coalesce(sum({}), 0)::bigint, coalesce(sum({}), 0)::bigint FROM {}").format(
        *map(psycopg.sql.Identifier, (f"batch_{counted}", f"speed_{counted}", view.name))
    )
    batch, speed = connection.execute(query).fetchall()[0]
    return batch, speed
