"""How far a long command is, on stderr: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

_PLAIN_EVERY_S = 5.0


class _Bar:
    """Of how much is completed and a text. It knows how long it has been there."""

    def __init__(self, title: str, total: float | None) -> None:
        self._title, self._total = title, total
        self._started = self._printed = time.monotonic()
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task(title, total=total, text="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def passed_s(self) -> float:
        """Seconds since the start, never 0."""
        return max(time.monotonic() - self._started, 1e-3)

    def _show(self, text: str, completed: float | None) -> None:
        now = time.monotonic()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=completed, text=text)
        elif now - self._printed >= _PLAIN_EVERY_S:
            self._printed = now
            share = f", {100 * completed / self._total:.0f} %" if self._total and completed is not None else ""
            print(f"{self._title}: {text}{share}", file=sys.stderr, flush=True)


class LineProgress(_Bar):
    """Lines, rate and, if the total is known, percent of bytes."""

    def __init__(self, title: str, total_bytes: int | None = None) -> None:
        super().__init__(title, total_bytes)

    def update(self, lines: int, read_bytes: int | None = None) -> None:
        """Show the new state; cheap enough to call every few thousand lines."""
        self._show(f"{lines:,} lines, {lines / self.passed_s:,.0f}/s", read_bytes)


class ReplayProgress(_Bar):
    """Events, rate, the time of the last one, how late that was, and how long the rest takes."""

    def __init__(self, title: str) -> None:
        super().__init__(title, 1.0)

    def update(
        self, events: int, position: datetime, share: float, late_s: float | None = None, left_s: float | None = None
    ) -> None:
        """Show the new state, of which `share` from 0 to 1 is done; without `left_s` the rest takes as long as that took."""
        if left_s is None and share > 0:
            left_s = self.passed_s * (1 - share) / share
        parts = (
            f"{events:,} events, {events / self.passed_s:,.0f}/s",
            f"at {position:%Y-%m-%d %H:%M:%S}Z",
            "" if late_s is None else f"{max(late_s, 0.0):.1f} s late",
            "" if left_s is None else f"{duration(left_s)} left",
        )
        self._show(", ".join(filter(None, parts)), min(share, 1.0))


def duration(seconds: float) -> str:
    """A duration for people, in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600:,} h {whole % 3_600 // 60} min"
