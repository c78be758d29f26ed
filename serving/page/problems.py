"""What is wrong, in words, and the command that helps: from what servers answer, and from what does not advance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.page.servers import Server
from serving.report import open_transaction_notices, still_shown_notices, unread_notices
from serving.status import Status
from serving.turn import duration

STANDS_STILL_S = 15.0
ARCHIVE_STANDS_STILL_S = 60.0
"""Files are written every few seconds."""
_COMMAND = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Problem:
    """`what` is wrong, what that `means`, and commands. A `grave` one is an outage."""

    what: str
    means: str
    commands: Sequence[str]
    grave: bool = True


def of_servers(
    every: Sequence[Server], answers: Mapping[str, str | None], status: Status | None
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Each server with whether it is up and what it says, and a problem for each that is not.

    One that takes connections may still answer that it is not well: that is what the status knows.
    """
    told = {part.name: part for part in status.health} if status else {}
    rows, problems = [], []
    for server in every:
        asked = told.get(server.status_name or "")
        why_not = answers.get(server.name, "not asked yet")
        up: bool | None = None if server.name not in answers else why_not is None
        detail = why_not or (asked.detail if asked else "is ready" if server.path else "takes connections")
        # guard: a server that answers nonsense is not well
        if up and asked and not asked.up:
            up, detail = False, asked.detail
        rows.append({"name": server.name, "service": server.service, "up": up, "detail": detail})
        if up is False:
            problems.append(Problem(said_of(server.name, detail), server.without, server.advice()))
    return rows, problems


def said_of(server: str, why: str) -> str:
    """Why it is away, with its name, which some reasons begin with."""
    return why if why.startswith(server) else f"{server}: {why}"


def of_status(status: Status | None, archive_stood_s: Mapping[int, float]) -> list[Problem]:
    """What `make status` would say."""
    if status is None:
        return []
    gaps = (
        f"partition {g.partition}: offsets [{g.first_offset}, {g.next_offset}) are in no file of the archive: {g.advice}"
        for g in status.archive_gaps
    )
    grave = [*status.lost_positions, *gaps]
    others = [
        *open_transaction_notices(status),
        *unread_notices(status),
        *still_shown_notices(status),
        *(status.disk.warnings if status.disk else ()),
    ]
    problems = [*map(_noticed, grave), *(_noticed(text, grave=False) for text in others)]
    for partition, stood_s in archive_stood_s.items():
        if stood_s > ARCHIVE_STANDS_STILL_S:
            problems.append(
                Problem(
                    f"the archive of partition {partition} has not advanced for {duration(stood_s)}, and Kafka has more",
                    "batch runs cover nothing newer",
                    ["make logs S=archiver"],
                )
            )
    return problems


def _noticed(text: str, grave: bool = True) -> Problem:
    return Problem(text, "", _COMMAND.findall(text), grave)


def of_counting(age_s: float | None, others_answer: bool) -> list[Problem]:
    """Whether the speed layer comes along, where Kafka and the database are no reason not to."""
    if age_s is None or age_s < STANDS_STILL_S or not others_answer:
        return []
    return [
        Problem(
            f"the speed layer is {duration(age_s)} behind",
            "what came since then is not in the numbers yet; it is in Kafka, and is counted later",
            ["make logs S=supervisor", "make status"],
        )
    ]


def of_ledger(rows: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Nothing disappears silently."""
    return [
        Problem(
            f"partition {row['partition']}: the ledger does not add up, {row['difference']:+,} records",
            "records are missing, or counted twice",
            ["make audit"],
        )
        for row in rows
        if row["difference"] != 0
    ]


def of_runs(rows: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """The last run that has ended, audits aside, if it failed."""
    ended = [row for row in rows if row["kind"] != "audit" and row["state"] in ("published", "failed")]
    if not ended or ended[0]["state"] != "failed":
        return []
    return [
        Problem(
            f"run {ended[0]['run_id']} failed: {ended[0]['error'] or 'its driver was gone'}",
            "the views answer from the run before and what came since, so nothing is missing",
            ["make batch"],
            grave=False,
        )
    ]
