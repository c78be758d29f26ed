"""Edits of the NameNode since its last checkpoint, as many as a past leaves; of folders, of which one call makes many.

One by one, as the archiver makes them, two hundred thousand take some ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable

from hdfs import InsecureClient

from contract.settings import Settings
from tests.age.past import Past

CHECKPOINT_EDITS = 200_000
"""As compose/conf/hadoop has it: with so many more the NameNode's image is made anew."""
_EDITS_A_FILE = 8
"""Of a file that the archiver writes: made, its block added, closed, renamed, once deleted, and what merges add."""
_DAY_MS = 86_400_000
_DEPTH = 80
"""So deep paths are on average as long as those of the archive's files."""
_FOLDER = "/braid-edits"


def edits_left(settings: Settings, past: Past) -> int:
    """How many edits a past leaves at most."""
    files = past.days * past.partitions * min(past.events_a_day // past.partitions, _DAY_MS // settings.archive_flush_ms)
    return min(CHECKPOINT_EDITS, _EDITS_A_FILE * files)


def leave_edits(settings: Settings, past: Past, say: Callable[[str], None]) -> int:
    """Leave so many, and nothing else; returns how many."""
    calls = edits_left(settings, past) // _DEPTH
    say(f"leaving {calls * _DEPTH:,} edits of the NameNode")
    client = InsecureClient(settings.webhdfs_url, user="braid", timeout=60)
    for number in range(calls):
        client.makedirs("/".join([_FOLDER, str(number), *(_DEPTH - 1) * "f"]))
    client.delete(_FOLDER, recursive=True)
    return calls * _DEPTH
