"""A reader that asks the merged views every so often, as role reader, whatever happens to the stack meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from contract.errors import BraidError
from contract.settings import Settings
from serving.database import Connection, connect
from tests.drill.judge import Poll
from tests.oracle import VIEWS

_SKETCHES_EVERY = 20
_TIMEOUT = "5s"
_SKETCHED = next(iter(VIEWS))
# In the order of Totals; a view has all of them, or the first.
_SUMMED = ("views", "errors", "bytes_sent")


def _question(sketches: bool) -> sql.Composed:
    """One statement, so one snapshot: the ledger's rows, each view's sums, and the sketches if wanted."""
    parts: list[sql.Composable] = [
        sql.SQL(
            "(SELECT array_agg(ARRAY[partition, next_offset, in_flight, received - forgotten, counted, duplicate,"
            " quarantined, abs(difference)]) FROM ledger)"
        ),
        sql.SQL("(SELECT cut FROM runs WHERE kind <> 'audit' ORDER BY run_id DESC LIMIT 1)"),
        sql.SQL(
            "((SELECT coalesce(sum(next_offset - first_offset), 0)::bigint FROM lost_offsets WHERE run_id IS NOT NULL)"
            " + (SELECT count(*) FROM forgotten WHERE run_id IS NOT NULL))"
        ),
    ]
    parts += [
        sql.SQL("(SELECT ARRAY[{}]::bigint[] FROM {} WHERE site = ANY(%(sites)s))").format(
            sql.SQL(", ").join(
                sql.SQL("coalesce(sum({}), 0)").format(sql.Identifier(name)) for name in _SUMMED if name in measures
            ),
            sql.Identifier(view),
        )
        for view, (_, _, measures) in VIEWS.items()
    ]
    if sketches:
        parts += [
            sql.SQL("(SELECT sketch_merge({}) FROM {} WHERE site = ANY(%(sites)s))").format(
                sql.Identifier(measure), sql.Identifier(f"{_SKETCHED}_sketches")
            )
            for measure in ("visitors", "latency")
        ]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(parts))


_SUMS, _SUMS_AND_SKETCHES = _question(sketches=False), _question(sketches=True)


def poll(connection: Connection, sites: Sequence[str], sketches: bool = False) -> Poll:
    """What the views and the ledger show now."""
    row = connection.execute(_SUMS_AND_SKETCHES if sketches else _SUMS, {"sites": list(sites)}).fetchone()
    assert row is not None
    ledger, cut, gone, *by_view = row[: 3 + len(VIEWS)]
    ledger = ledger or []
    totals = [sum(column) for column in zip(*ledger, strict=True)][3:] or [0] * 5
    seen = None
    if sketches and row[-2] is not None:
        seen = (bytes.fromhex(row[-2].removeprefix("\\x")), row[-1])
    return Poll(
        time.monotonic(),
        {line[0]: line[1] for line in ledger},
        {view: tuple(sums) for view, sums in zip(VIEWS, by_view, strict=True)},
        *totals,
        seen,
        {line[0]: line[2] for line in ledger if line[2]},
        {int(partition): offset for partition, offset in (cut or {}).items()},
        gone,
    )


class Reader:
    """Polls from `with` to its end, on a connection that is made anew when it fails; `failed` polls had no answer."""

    def __init__(self, settings: Settings, sites: Sequence[str], period_s: float) -> None:
        self._settings, self._sites, self._period_s = settings, sites, period_s
        self.polls: list[Poll] = []
        self.failed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def positions(self) -> Mapping[int, int]:
        """Of the last poll."""
        return self.polls[-1].positions if self.polls else {}

    @property
    def views(self) -> int:
        """Events of the drill's sites in the last poll."""
        return self.polls[-1].sums[_SKETCHED][0] if self.polls else 0

    def _run(self) -> None:
        connection: Connection | None = None
        due_s = time.monotonic()
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = connect(self._settings, "reader")
                    connection.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(_TIMEOUT)))
                self.polls.append(poll(connection, self._sites, len(self.polls) % _SKETCHES_EVERY == 0))
            except (psycopg.Error, BraidError):
                self.failed += 1
                if connection is not None:
                    connection.close()
                connection = None
            due_s = max(due_s + self._period_s, time.monotonic())
            self._stop.wait(due_s - time.monotonic())
        if connection is not None:
            connection.close()
