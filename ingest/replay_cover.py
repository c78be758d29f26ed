"""Which repeats the speed layer recognises: recent ones by itself, older ones by what batch runs have written of their days.

Everything else would be counted again until the next batch run, so it is not sent into the topic that is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from contract.errors import ReplayRefused
from contract.replays import Cover
from contract.settings import Settings
from ingest.replay_selection import Selection

# The rest is for what comes while the replay is under way.
_WINDOW_SHARE = 0.5


def require_cover(settings: Settings, selection: Selection, cover: Cover, ends: Mapping[int, int]) -> None:
    """ReplayRefused if a copy of an event of the selection might be counted again; `ends` is where each partition ends."""
    coming: Counter[int] = Counter()
    for piece in selection.pieces:
        coming[piece.slice.file.partition] += piece.span.rows
    for piece in sorted(selection.pieces, key=lambda piece: piece.slice.file):
        partition, first = piece.slice.file.partition, piece.slice.first_offset
        recent = ends.get(partition, 0) + coming[partition] - int(settings.dedupe_window_offsets * _WINDOW_SHARE)
        old = min(piece.slice.next_offset, recent)
        covered = cover.next_offsets.get(partition, 0)
        # guard: old repeats are recognised
        if max(first, covered) < old:
            raise ReplayRefused.not_run(partition, max(first, covered), old, settings.topic)
        uncovered = sorted(set(cover.uncovered_days).intersection(piece.days))
        # guard: repeats of old days are recognised
        if first < old and uncovered:
            raise ReplayRefused.not_covered(uncovered, partition, first, old, settings.topic)
