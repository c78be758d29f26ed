"""Each second what is alive, what is wrong, and how far everything is, from what was heard; nobody is asked for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from serving.page import problems
from serving.page.board import Board
from serving.page.heard import Heard
from serving.page.reader import ledger

_EVERY_S = 1.0
_HISTORY_S = 10.0
_STANDS_STILL_S = 30.0


class Pulse:
    """`Kafka` and `TimescaleDB`, which are asked all the time, are away as soon as they do not answer."""

    def __init__(self, board: Board, heard: Heard, clock: Callable[[], float]) -> None:
        self._board, self._heard, self._clock = board, heard, clock
        self._last: dict[str, Any] = {}
        self._told_s = time.monotonic()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self.tell()
            await asyncio.sleep(_EVERY_S)

    def stands_still(self) -> str | None:
        """That the page's loops do not go on, if so."""
        stood_s = time.monotonic() - self._told_s
        return f"nobody was told anything for {stood_s:.0f} s" if stood_s > _STANDS_STILL_S else None

    def database_away(self) -> str | None:
        """Why the page has nothing new to show, if so."""
        why = self._heard.database.why_away(self._clock())
        return None if why is None else problems.said_of("TimescaleDB", why)

    def tell(self) -> None:
        """Whoever looks; what is as it was is not told again."""
        heard, now_s = self._heard, self._clock()
        self._told_s = time.monotonic()
        away = {"Kafka": heard.kafka.why_away(now_s), "TimescaleDB": heard.database.why_away(now_s)}
        # Why nobody is there says more than what a client made of it.
        answers = {**heard.answers, **{name: why and (heard.answers.get(name) or why) for name, why in away.items()}}
        for name, why in answers.items():
            heard.outages.see(name, why is None, now_s)
        if not self._board.viewers:
            return
        for name, content in self._known(now_s, answers).items():
            if self._last.get(name) != content:
                self._last[name] = content
                self._board.post(name, content)
        self._board.pulse(
            {
                "now": now_s,
                "known_until": heard.freshness.known_until_s,
                "database": {"at": heard.database.at_s, "away": away["TimescaleDB"]},
                "kafka": {"at": heard.kafka.at_s, "away": away["Kafka"]},
            }
        )

    def _known(self, now_s: float, answers: Mapping[str, str | None]) -> dict[str, Any]:
        heard = self._heard
        rows, wrong = problems.of_servers(heard.servers, answers, heard.status)
        wrong += problems.of_status(heard.status, heard.archive_stood_s(now_s))
        others_answer = answers["Kafka"] is None and answers["TimescaleDB"] is None
        wrong += problems.of_counting(heard.freshness.behind_s(now_s), others_answer)
        wrong += problems.of_ledger(ledger(self._board))
        wrong += problems.of_runs((self._board.last("runs") or {}).get("runs", ()))
        return {
            "servers": rows,
            # As long as not all have been asked, that nothing is wrong says little.
            "problems": {
                "found": [asdict(problem) for problem in wrong],
                "asked": all(row["up"] is not None for row in rows),
            },
            "lag": self._lag(),
            "freshness": heard.freshness.history(now_s // _HISTORY_S * _HISTORY_S),
            "outages": [asdict(outage) for outage in heard.outages.all(now_s)],
        }

    def _lag(self) -> list[dict[str, Any]]:
        """Offsets as Braid counts; what the archive and the live run have is as old as the status."""
        heard = self._heard
        told = {position.partition: position for position in heard.status.positions} if heard.status else {}
        rows = []
        for partition in sorted({*heard.ends, *heard.positions, *told}):
            speed, shift = heard.positions.get(partition, (None, 0))
            end, position = heard.ends.get(partition), told.get(partition)
            kafka = None if end is None or heard.kafka.error else end + shift
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
