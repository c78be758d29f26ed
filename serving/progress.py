"""Waiting for the pipeline, with progress on stderr: until offsets are counted, until the merged views answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from contract.errors import EngineUnavailable, TimedOut
from contract.resumption import Resumption
from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, Role, connect, transaction
from serving.log_ends import in_the_way
from serving.standstill import Standstill

_POLL_S = 0.2
# After so long without progress, Kafka is asked whether an open transaction is the reason, and so often.
_ASK_EVERY_S = 10.0
_COUNTED = "counted by the speed layer"


def wait_for_offsets(
    settings: Settings, wanted: Mapping[int, int], timeout_s: float, console: Console, role: Role = "reader"
) -> None:
    """Returns when the speed layer has counted every partition up to the wanted next offset.

    Raises TimedOut once it has counted none of the missing offsets for `timeout_s`.
    """
    standstill = Standstill(timeout_s, time.monotonic)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with connect(settings, role) as connection:
        behind = _behind(connection, wanted)
        if not behind:
            return
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(_COUNTED, total=sum(behind.values()))
            transaction, ask_s = None, _ASK_EVERY_S
            while behind:
                stands_at = {partition: wanted[partition] - missing for partition, missing in behind.items()}
                if standstill.see(-sum(behind.values())):
                    transaction, ask_s = None, _ASK_EVERY_S
                if standstill.too_long:
                    raise _stands_still(settings, stands_at, wanted, standstill.stood_s)
                if standstill.stood_s >= ask_s:
                    transaction, ask_s = in_the_way(settings, stands_at), standstill.stood_s + _ASK_EVERY_S
                progress.update(task, description=f"{_COUNTED}: {transaction.text()}" if transaction else _COUNTED)
                time.sleep(_POLL_S)
                behind = _behind(connection, wanted)
                progress.update(task, completed=(progress.tasks[task].total or 0) - sum(behind.values()))


def _stands_still(settings: Settings, stands_at: Mapping[int, int], wanted: Mapping[int, int], stood_s: float) -> TimedOut:
    """Names the open transaction if all wait for one, or else the partition that misses most."""
    transaction = in_the_way(settings, stands_at)
    partition = transaction.partition if transaction else max(stands_at, key=lambda one: wanted[one] - stands_at[one])
    reason = transaction.text() if transaction else None
    return TimedOut.waiting_for_speed(partition, stands_at[partition], wanted[partition], stood_s, reason)


def wait_for_views(settings: Settings, with_traffic: bool, timeout_s: float, console: Console) -> None:
    """Returns when the first merged view has views from batch and from speed, or without traffic, when it answers.

    Raises TimedOut once none of the two has come for `timeout_s`: one that grows does not bring the other.
    """
    standstill = Standstill(timeout_s, time.monotonic)
    last = "no answer yet"
    with console.status("waiting for the merged views") as line:
        while True:
            try:
                with connect(settings, "reader") as connection:
                    batch, speed = _from_each_strand(connection)
                last = f"{batch} views from batch, {speed} from speed"
                if not with_traffic or (batch and speed):
                    return
                standstill.see((batch > 0) + (speed > 0))
            except (EngineUnavailable, psycopg.Error) as error:
                last = " ".join(str(error).split())
            if standstill.too_long:
                raise TimedOut.waiting_for_views(VIEWS[0].name, last, standstill.stood_s)
            line.update(f"waiting for the merged views: {last}")
            time.sleep(_POLL_S)


def wait_for_archive(plan: Callable[[], Resumption], timeout_s: float, console: Console) -> None:
    """Returns when `plan` names nothing that Kafka has kept of a lost log and that is not archived.

    Raises TimedOut once the archive has stored nothing more of it for `timeout_s`.
    """
    standstill = Standstill(timeout_s, time.monotonic)
    with console.status("waiting for the archive") as line:
        while missing := plan().unarchived:
            first = missing[0]
            standstill.see(-sum(part.kept_offset - part.archived_offset for part in missing))
            if standstill.too_long:
                raise TimedOut.waiting_for_archive(
                    first.partition, first.archived_offset, first.kept_offset, standstill.stood_s
                )
            line.update(
                f"waiting for the archive: partition {first.partition} is at {first.archived_offset} of {first.kept_offset}"
            )
            time.sleep(_POLL_S)


def _behind(connection: Connection, wanted: Mapping[int, int]) -> dict[int, int]:
    """How many offsets are missing, for each partition where some are."""
    # Offsets in flight are passed but in no view yet: a run that took them over has still to publish.
    with transaction(connection):
        # Producers know the log's own offsets.
        rows = connection.execute(
            "SELECT partition, ledger.next_offset - in_flight - shift FROM ledger JOIN log_positions USING (partition)"
        ).fetchall()
    reached: dict[int, int] = dict(rows)
    missing = {partition: offset - reached.get(partition, 0) for partition, offset in wanted.items()}
    return {partition: offsets for partition, offsets in missing.items() if offsets > 0}


def _from_each_strand(connection: Connection) -> tuple[int, int]:
    view = VIEWS[0]
    counted = view.measures[0].name
    query = psycopg.sql.SQL("SELECT coalesce(sum({}), 0)::bigint, coalesce(sum({}), 0)::bigint FROM {}").format(
        *map(psycopg.sql.Identifier, (f"batch_{counted}", f"speed_{counted}", view.name))
    )
    batch, speed = connection.execute(query).fetchall()[0]
    return batch, speed
