"""Edits of the NameNode since its last checkpoint, as many as a past leaves; renames, as the archiver makes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hdfs import InsecureClient

from contract.settings import Settings
from tests.age.past import Past

CHECKPOINT_EDITS = 200_000
"""As compose/conf/hadoop has it: with so many more the NameNode's image is made anew."""
_EDITS_A_FILE = 8
"""Of a file that the archiver writes: made, its block added, closed, renamed, once deleted, and what merges add."""
_DAY_MS = 86_400_000
_AT_ONCE = 8
_FOLDER = "/braid-edits"


def edits_left(settings: Settings, past: Past) -> int:
    """How many edits a past leaves at most."""
    files = past.days * past.partitions * min(past.events_a_day // past.partitions, _DAY_MS // settings.archive_flush_ms)
    return min(CHECKPOINT_EDITS, _EDITS_A_FILE * files)


def leave_edits(settings: Settings, past: Past, say: Callable[[str], None]) -> int:
    """Leave so many, and nothing else; returns how many."""
    count = edits_left(settings, past)
    say(f"leaving {count:,} edits of the NameNode")
    client = InsecureClient(settings.webhdfs_url, user="braid", timeout=60)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(partial(_rename_often, settings.webhdfs_url, count // _AT_ONCE), range(_AT_ONCE)))
    client.delete(_FOLDER, recursive=True)
    return count // _AT_ONCE * _AT_ONCE


def _rename_often(url: str, times: int, number: int) -> None:
    client = InsecureClient(url, user="braid", timeout=60)
    names = [f"{_FOLDER}/{number}-{side}" for side in ("there", "here")]
    client.makedirs(names[0])
    for turn in range(times):
        client.rename(names[turn % 2], names[(turn + 1) % 2])
