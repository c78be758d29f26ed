"""Asks database, Kafka and all other servers on timers, and puts the answers on the board: once for all who look.

While nobody looks, only Kafka's ends and the speed layer's positions are asked, so that whoever comes sees how fresh the
last hour was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.errors import BraidError
from contract.settings import Settings
from serving.log_ends import HighWatermarks
from serving.page import problems, questions
from serving.page.asked import QUESTIONS, TAIL, Question, first_row
from serving.page.board import Board
from serving.page.budgets import memory
from serving.page.freshness import Freshness
from serving.page.line import Line, Refused
from serving.page.outages import Outages
from serving.page.scope import Scope
from serving.page.series import columns
from serving.page.servers import Server, ask_all, servers
from serving.page.shares import Shares
from serving.page.source import Source
from serving.status import Status, read_status

BUSY_S, IDLE_S, RETRY_S = 0.25, 2.0, 0.5
"""Between two looks at positions: while somebody watches, while nobody does, and after a failure."""
KAFKA_S = 0.5
_PULSE_S, _PROBE_S, _STATUS_S = 1.0, 3.0, 30.0
_HISTORY_S = 10.0


class Watch:
    """Runs until it is cancelled."""

    def __init__(
        self, settings: Settings, board: Board, compose_file: Path, variables: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        self._settings, self._board, self._clock = settings, board, clock
        self._compose_file, self._variables = compose_file, variables
        self._servers: tuple[Server, ...] = servers(settings)
        self._database, self._kafka = Source(), Source()
        self._freshness, self._outages, self._shares = Freshness(), Outages(), Shares()
        self._ends: dict[int, int] = {}
        self._positions: dict[int, tuple[int, int]] = {}
        self._changes = 0
        self._told: dict[Scope, tuple[int, datetime, bool]] = {}
        self._answers: dict[str, str | None] = {}
        self._status: Status | None = None
        self._status_wanted = asyncio.Event()
        self._archive_since: dict[int, tuple[int, float]] = {}
        self._live_run: Any = None

    async def run(self) -> None:
        """All loops at once; what goes wrong in one and is not foreseen ends all."""
        async with asyncio.TaskGroup() as tasks:
            for loop in (self._ask_positions, self._ask_questions, self._ask_kafka, self._ask_servers, self._ask_status):
                tasks.create_task(loop())
            tasks.create_task(self._pulse())

    async def _ask_positions(self) -> None:
        line = Line(self._settings)
        try:
            while True:
                asked_s = self._clock()
                try:
                    positions, _ = await line.ask(questions.positions)
                    self._database.answered(self._clock())
                    self._take_positions(asked_s, positions)
                    for scope in self._board.scopes:
                        await self._ask_tail(line, scope)
                except (BraidError, Refused) as error:
                    self._database.error = str(error)
                    await asyncio.sleep(RETRY_S)
                else:
                    await self._rest(BUSY_S)
        finally:
            line.close()

    async def _rest(self, busy_s: float) -> None:
        """So long while somebody looks; while nobody does, until somebody comes, and not too long."""
        if self._board.viewers:
            await asyncio.sleep(busy_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._board.somebody.wait()

    def _take_positions(self, asked_s: float, positions: dict[int, tuple[int, int]]) -> None:
        if positions != self._positions:
            self._positions = positions
            self._changes += 1
        in_flight = {row["partition"]: row["in_flight"] for row in self._ledger()}
        counted = {p: offset - shift - in_flight.get(p, 0) for p, (offset, shift) in positions.items()}
        self._freshness.is_counted(asked_s, counted)

    async def _ask_tail(self, line: Line, scope: Scope) -> None:
        """The last two rows, as soon as anything was counted."""
        key = ("tail", scope)
        now = datetime.fromtimestamp(self._clock(), UTC)
        since = scope.range.begin(now) + scope.range.span - 2 * scope.range.step
        is_late = self._freshness.is_late(self._clock())
        seen = (self._changes, since, is_late)
        if self._told.get(scope) == seen or not self._shares.is_due(key, time.monotonic()):
            return
        self._told[scope] = seen
        started_s = time.monotonic()
        try:
            rows, took_s = await line.ask(questions.series, scope, since)
        except Refused as error:
            self._board.fail("series", str(error), scope)
            self._shares.asked(key, TAIL, time.monotonic(), time.monotonic() - started_s, len(self._board.scopes))
            return
        self._shares.asked(key, TAIL, time.monotonic(), took_s, len(self._board.scopes))
        self._post_rows("tail", scope, since, rows)

    def _post_rows(self, name: str, scope: Scope, since: datetime, rows: list[Any]) -> None:
        now_s, step_s = self._clock(), int(scope.range.step.total_seconds())
        outages = self._outages.of("Kafka", now_s)
        table = columns(rows, int(since.timestamp()), now_s, step_s, self._freshness.known_until_s, outages)
        self._board.post(name, {"step_s": step_s, "columns": table}, scope)

    async def _ask_questions(self) -> None:
        line = Line(self._settings)
        try:
            while True:
                scopes = self._board.scopes
                self._forget_scopes(scopes)
                for question in QUESTIONS if scopes else ():
                    for scope in scopes if question.scoped else [None]:
                        if self._shares.is_due((question.name, scope), time.monotonic()):
                            await self._ask_one(line, question, scope, len(scopes))
                await self._rest(BUSY_S)
        finally:
            line.close()

    async def _ask_one(self, line: Line, question: Question, scope: Scope | None, scopes: int) -> None:
        started_s = time.monotonic()
        since = first_row(question, scope, datetime.fromtimestamp(self._clock(), UTC)) if scope else None
        try:
            answer, took_s = await line.ask(question.ask, *([scope, since] if scope else []))
        except BraidError:
            # The loop of positions says so; nothing is asked until it is back.
            await asyncio.sleep(RETRY_S)
            return
        except Refused as error:
            self._board.fail(question.name, str(error), scope)
            took_s = time.monotonic() - started_s
        else:
            self._take_answer(question, scope, since, answer)
        self._shares.asked(
            (question.name, scope), question.share, time.monotonic(), took_s, scopes if question.scoped else 1
        )

    def _take_answer(self, question: Question, scope: Scope | None, since: datetime | None, answer: Any) -> None:
        if question.name == "series" and scope and since:
            self._post_rows("series", scope, since, answer)
            # It may be older than the rows that were told meanwhile.
            self._told.pop(scope, None)
            self._shares.hurry(("tail", scope))
            return
        if question.name in ("pages", "referrers") and since:
            answer = {"since": since.timestamp(), "rows": answer, "view": questions.referrer_view()}
        self._board.post(question.name, answer, scope)
        if question.name == "runs" and answer["live"] != self._live_run:
            # The seam has moved: what batch counted and what speed did is another share of the same sum.
            self._live_run = answer["live"]
            for moved in self._board.scopes:
                for name in ("series", "totals", "pages", "referrers"):
                    self._shares.hurry((name, moved))

    def _forget_scopes(self, scopes: list[Scope]) -> None:
        for scope in [scope for scope in self._told if scope not in scopes]:
            del self._told[scope]
            for name in ("tail", *(question.name for question in QUESTIONS)):
                self._shares.forget((name, scope))

    async def _ask_kafka(self) -> None:
        thread = ThreadPoolExecutor(1, "page-kafka")
        watermarks = HighWatermarks(self._settings)
        try:
            while True:
                asked_s = self._clock()
                try:
                    ends = await asyncio.get_running_loop().run_in_executor(thread, watermarks.ask)
                except BraidError as error:
                    self._kafka.error = str(error)
                    await asyncio.sleep(RETRY_S)
                    continue
                self._ends = ends
                self._freshness.kafka_has(asked_s, ends)
                self._kafka.answered(self._clock())
                await self._rest(KAFKA_S)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    async def _ask_servers(self) -> None:
        while True:
            if self._board.viewers:
                answers = await ask_all(self._servers)
                if any((answers[name] is None) != (self._answers.get(name) is None) for name in answers):
                    self._status_wanted.set()
                self._answers = answers
            await self._rest(_PROBE_S)

    async def _ask_status(self) -> None:
        """What `make status` knows beside all that; it asks for seconds if a server is away."""
        thread = ThreadPoolExecutor(1, "page-status")
        try:
            while True:
                if self._board.viewers:
                    self._status_wanted.clear()
                    await self._take_status(thread)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_STATUS_S):
                            await self._status_wanted.wait()
                else:
                    await self._rest(BUSY_S)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    async def _take_status(self, thread: ThreadPoolExecutor) -> None:
        try:
            self._status = await asyncio.get_running_loop().run_in_executor(thread, read_status, self._settings)
        # A server that goes away while it is asked may make a client raise anything; what it is, is said of the server.
        except Exception as error:
            self._board.fail("budgets", " ".join(str(error).split()) or type(error).__name__)
            return
        self._watch_archive(self._status)
        self._board.post("budgets", self._budgets(self._status))

    def _watch_archive(self, status: Status) -> None:
        now_s = self._clock()
        for position in status.positions:
            at, since_s = self._archive_since.get(position.partition, (None, now_s))
            if position.archive is None:
                continue
            moved = position.archive != at or not position.archive_lag
            self._archive_since[position.partition] = (position.archive, now_s if moved else since_s)

    def _budgets(self, status: Status) -> dict[str, Any]:
        disk = asdict(status.disk) if status.disk else None
        return {"disk": disk, "memory": memory(self._compose_file, self._variables)}

    async def _pulse(self) -> None:
        """Each second what is alive, what is wrong, and how far everything is."""
        last: dict[str, Any] = {}
        while True:
            now_s = self._clock()
            away = {"Kafka": self._kafka.why_away(now_s), "TimescaleDB": self._database.why_away(now_s)}
            # Why nobody is there says more than what a client made of it.
            answers = {**self._answers, **{name: why and (self._answers.get(name) or why) for name, why in away.items()}}
            for name, why in answers.items():
                self._outages.see(name, why is None, now_s)
            if self._board.viewers:
                for name, content in self._known(now_s, answers).items():
                    if last.get(name) != content:
                        last[name] = content
                        self._board.post(name, content)
                self._board.pulse(
                    {
                        "now": now_s,
                        "known_until": self._freshness.known_until_s,
                        "database": {"at": self._database.at_s, "away": away["TimescaleDB"]},
                        "kafka": {"at": self._kafka.at_s, "away": away["Kafka"]},
                    }
                )
            await asyncio.sleep(_PULSE_S)

    def _known(self, now_s: float, answers: Mapping[str, str | None]) -> dict[str, Any]:
        rows, wrong = problems.of_servers(self._servers, answers, self._status)
        stood_s = {p: now_s - since_s for p, (_, since_s) in self._archive_since.items()}
        wrong += problems.of_status(self._status, stood_s)
        others_answer = answers["Kafka"] is None and answers["TimescaleDB"] is None
        wrong += problems.of_counting(self._freshness.behind_s(now_s), others_answer)
        wrong += problems.of_ledger(self._ledger())
        wrong += problems.of_runs((self._board.last("runs") or {}).get("runs", ()))
        return {
            "servers": rows,
            # As long as not all have been asked, that nothing is wrong says little.
            "problems": {
                "found": [asdict(problem) for problem in wrong],
                "asked": all(row["up"] is not None for row in rows),
            },
            "lag": self._lag(),
            "freshness": self._freshness.history(now_s // _HISTORY_S * _HISTORY_S),
            "outages": [asdict(outage) for outage in self._outages.all(now_s)],
        }

    def _ledger(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (self._board.last("ledger") or {}).get("partitions", [])
        return rows

    def _lag(self) -> list[dict[str, Any]]:
        """Offsets as Braid counts; what the archive and the live run have is as old as the status."""
        told = {position.partition: position for position in self._status.positions} if self._status else {}
        rows = []
        for partition in sorted({*self._ends, *self._positions, *told}):
            speed, shift = self._positions.get(partition, (None, 0))
            end, position = self._ends.get(partition), told.get(partition)
            kafka = None if end is None or self._kafka.error else end + shift
            rows.append(
                {
                    "partition": partition,
                    "kafka": kafka,
                    "speed": speed,
                    "speed_lag": None if kafka is None or speed is None else max(0, kafka - speed),
                    "archive": position.archive if position else None,
                    "archive_lag": position.archive_lag if position else None,
                    "batch": position.batch if position else None,
                    "held_back": position.held_back if position else None,
                }
            )
        return rows
