"""Asks the database on two connections: one for what is live, the other for all else. So a slow question delays no event.

While nobody looks, only the speed layer's positions are asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from contract.errors import BraidError
from contract.settings import Settings
from serving.page import questions
from serving.page.asked import QUESTIONS, TAIL, Question, first_row
from serving.page.board import Board
from serving.page.heard import Heard
from serving.page.line import Line, Refused
from serving.page.scope import Scope
from serving.page.series import columns
from serving.page.shares import Shares

BUSY_S, RETRY_S = 0.25, 0.5
"""Between two looks while somebody watches, and after a failure."""


class Reader:
    """Both loops run until they are cancelled."""

    def __init__(self, settings: Settings, board: Board, heard: Heard, clock: Callable[[], float]) -> None:
        self._settings, self._board, self._heard, self._clock = settings, board, heard, clock
        self._shares = Shares()
        self._changes = 0
        self._told: dict[Scope, tuple[int, datetime, bool]] = {}
        self._live_run: Any = None

    async def ask_positions(self) -> None:
        """All the time, and then the last rows."""
        line = Line(self._settings)
        try:
            while True:
                asked_s = self._clock()
                try:
                    positions, _ = await line.ask(questions.positions)
                    self._heard.database.answered(self._clock())
                    self._take_positions(asked_s, positions)
                    for scope in self._board.scopes:
                        await self._ask_tail(line, scope)
                except (BraidError, Refused) as error:
                    self._heard.database.error = str(error)
                    await asyncio.sleep(RETRY_S)
                else:
                    await self._board.rest(BUSY_S)
        finally:
            line.close()

    async def ask_questions(self) -> None:
        """Each as often as its share lets it."""
        line = Line(self._settings)
        try:
            while True:
                scopes = self._board.scopes
                self._forget_scopes(scopes)
                for question in QUESTIONS if scopes else ():
                    for scope in scopes if question.scoped else [None]:
                        if self._shares.is_due((question.name, scope), time.monotonic()):
                            await self._ask_one(line, question, scope, len(scopes))
                await self._board.rest(BUSY_S)
        finally:
            line.close()

    def _take_positions(self, asked_s: float, positions: dict[int, tuple[int, int]]) -> None:
        if positions != self._heard.positions:
            self._heard.positions = positions
            self._changes += 1
        in_flight = {row["partition"]: row["in_flight"] for row in ledger(self._board)}
        counted = {p: offset - shift - in_flight.get(p, 0) for p, (offset, shift) in positions.items()}
        self._heard.freshness.is_counted(asked_s, counted)

    async def _ask_tail(self, line: Line, scope: Scope) -> None:
        """The last two rows, as soon as anything was counted."""
        key = ("tail", scope)
        now = datetime.fromtimestamp(self._clock(), UTC)
        since = scope.range.begin(now) + scope.range.span - 2 * scope.range.step
        is_late = self._heard.freshness.is_late(self._clock())
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
        outages = self._heard.outages.of("Kafka", now_s)
        table = columns(rows, int(since.timestamp()), now_s, step_s, self._heard.freshness.known_until_s, outages)
        self._board.post(name, {"step_s": step_s, "columns": table}, scope)

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


def ledger(board: Board) -> list[dict[str, Any]]:
    """As it was told last."""
    rows: list[dict[str, Any]] = (board.last("ledger") or {}).get("partitions", [])
    return rows
