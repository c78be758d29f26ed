"""Events in the order of their times, though files have them in the order in which they came, late ones among them.

A file is read when the first of its events is next. What comes later waits on the local disk, so in memory are one file and
one window of time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from contract.columns import integers
from ingest.replay_selection import Piece

_WINDOW_ROWS = 200_000
_SHORTEST_WINDOW_US = 1_000_000


def window_us(pieces: Sequence[Piece]) -> int:
    """So long a window that it holds a bounded number of events, if they are evenly spread."""
    first, last = min(piece.span.first_time_us for piece in pieces), max(piece.span.last_time_us for piece in pieces)
    rows = sum(piece.span.rows for piece in pieces)
    return max(_SHORTEST_WINDOW_US, (last + 1 - first) * _WINDOW_ROWS // rows)


def in_time_order(
    pieces: Sequence[Piece], read: Callable[[Piece], pl.DataFrame], width_us: int, folder: Path
) -> Iterator[pl.DataFrame]:
    """Frames of events with rising times, equal ones by partition and offset. `folder` is empty, and so in the end."""
    to_read = sorted(pieces, key=lambda piece: piece.span.first_time_us, reverse=True)
    waiting: dict[int, list[Path]] = {}
    while to_read or waiting:
        window = min([piece.span.first_time_us // width_us for piece in to_read[-1:]] + list(waiting))
        parts = []
        while to_read and to_read[-1].span.first_time_us // width_us <= window:
            number_read = len(pieces) - len(to_read)
            for number, part in _by_window(read(to_read.pop()), width_us):
                if number == window:
                    parts.append(part)
                    continue
                path = folder / f"{number}-{number_read}.arrow"
                part.write_ipc(path, compression="lz4")
                waiting.setdefault(number, []).append(path)
        for path in waiting.pop(window, ()):
            parts.append(pl.read_ipc(path))
            path.unlink()
        if parts:
            yield pl.concat(parts).sort("event_time", "partition", "offset")


def _by_window(frame: pl.DataFrame, width_us: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """The frame's rows by the number of the window that their time is in."""
    in_order = frame.sort("event_time", maintain_order=True)
    numbers = integers(in_order["event_time"]) // width_us
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for first, after in itertools.pairwise(bounds):
        if first < after:
            yield int(numbers[first]), in_order[first:after]
