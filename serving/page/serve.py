"""One process: uvicorn, the page, what fills its board, and what says how it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from contract.probes import Probes
from contract.settings import Settings
from contract.web import beside, serve_http
from serving.page.app import page
from serving.page.board import MOST_VIEWERS, Board
from serving.page.cookbook import questions
from serving.page.sql_box import SqlBox
from serving.page.watch import Watch

_LEAVE_S = 1
"""Streams never end by themselves: whoever looks comes again."""


def serve(
    settings: Settings,
    host: str,
    port: int,
    compose_file: Path,
    cookbook_file: Path,
    variables: Mapping[str, str],
    log: Callable[[str], None],
) -> None:
    """Until SIGTERM or Ctrl-C."""
    board = Board(time.time)
    watch = Watch(settings, board, compose_file, variables, time.time)
    app = page(
        board,
        SqlBox(settings),
        questions(cookbook_file.read_text(encoding="utf-8")),
        lambda: beside(watch.run(), lambda text: log(f"page: {text}")),
    )
    # Its own port, for the page answers to nobody but this machine's browser.
    with Probes(watch.pulse.database_away, watch.pulse.stands_still).served(settings.metrics_port):
        serve_http(app, host, port, 2 * MOST_VIEWERS, _LEAVE_S)
