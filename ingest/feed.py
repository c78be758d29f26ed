"""The pieces of a file in order, of which some can be given back, and all, to begin again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from contract.errors import InputError
from ingest.lines import InputFile
from ingest.pieces import Piece

HELD_BYTES = 64 << 20
"""So much of a pipe, which cannot be read again, stays in memory."""


class Feed:
    """Of a file that is read from its beginning."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self._back: deque[Piece] = deque()
        self._reading: Iterator[Piece] | None = None
        self._held: list[Piece] | None = None if file.can_restart else []
        self._held_bytes = 0

    def pieces(self, final: bool = False) -> Iterator[Piece]:
        """Those that follow, as InputFile has them."""
        while True:
            while self._back:
                yield self._back.popleft()
            if self._reading is None:
                self._reading = self.file.pieces(final)
            piece = next(self._reading, None)
            if piece is None:
                self._reading = None
                return
            self._hold(piece)
            yield piece

    def give_back(self, pieces: Iterable[Piece]) -> None:
        """They come next."""
        self._back.extendleft(reversed(list(pieces)))

    def restart(self) -> None:
        """The first piece comes next. InputError if that is in memory no more, and cannot be read again."""
        if self.file.can_restart:
            self.file.restart()
            self._back.clear()
            self._reading = None
        elif self._held is not None:
            self._back = deque(self._held)
        else:
            raise InputError(
                f"{self.file.path} came through a pipe and is needed from its beginning once more: after more than "
                f"{HELD_BYTES >> 20} MiB it differs from each log that is known, or another replay counted it meanwhile; "
                "nothing more was sent. The same command with AGAIN=1 counts it, and what is counted already counts once"
            )

    def _hold(self, piece: Piece) -> None:
        if self._held is not None:
            self._held_bytes += len(piece.data)
            self._held.append(piece)
            if self._held_bytes > HELD_BYTES:
                self._held = None
