"""The files that servers of files have: what apps/answers.py answers, as far as files can."""

from __future__ import annotations

import os
from email.utils import parsedate_to_datetime
from pathlib import Path

from tests.servers.inside.apps.answers import LAST_CHANGED, PAGE

_FILES = {"index.html": PAGE, "page.html": PAGE, "empty.txt": b""}


def write_site(folder: Path) -> None:
    """The files, changed last when all servers say so."""
    folder.mkdir()
    changed = parsedate_to_datetime(LAST_CHANGED).timestamp()
    for name, content in _FILES.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (changed, changed))
