"""How far a long command is, on stderr: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

_PLAIN_EVERY_S = 5.0


class LineProgress:
    """Lines, rate and, if the total is known, percent of bytes."""

    def __init__(self, title: str, total_bytes: int | None = None) -> None:
        self._title, self._total = title, total_bytes
        self._started = self._printed = time.monotonic()
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task(title, total=total_bytes, text="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, lines: int, read_bytes: int | None = None) -> None:
        """Show the new state; cheap enough to call every few thousand lines."""
        now = time.monotonic()
        text = f"{lines:,} lines, {lines / max(now - self._started, 1e-3):,.0f}/s"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=read_bytes, text=text)
        elif now - self._printed >= _PLAIN_EVERY_S:
            self._printed = now
            share = f", {100 * read_bytes / self._total:.0f} %" if self._total and read_bytes is not None else ""
            print(f"{self._title}: {text}{share}", file=sys.stderr, flush=True)
