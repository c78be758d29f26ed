"""Runs real servers, sends each the same valid requests, counts their logs as `make replay` does, and compares.

Each server runs alone in a container without a network. A client beside it knows what it asked and what came back, to the
byte. Views, visitors, bytes and pages that Braid counts in the log must be those, but for what is known of the server and
written in tests/servers/known.py: a server that begins to write something else is red, as is a fact that is no longer so.
One row a server; a number that differs from the client's has the client's behind it. With --write, the rows of servers that
pass are written in docs/servers.md anew.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.fixtures.named import named
from tests.servers.container import NotRun, run
from tests.servers.inside.server import Server
from tests.servers.inside.servers import SERVERS
from tests.servers.judge import Judgement, judge
from tests.servers.known import KNOWN, NOTHING
from tests.servers.report import HEAD, row, with_rows

_TABLE = Path(__file__).resolve().parents[2] / "docs" / "servers.md"


def main() -> int:
    """Exit status: 0 all are as they are known to be, 1 one is not or did not start, 2 wrong usage, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.servers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which servers, by the beginning of a name (default: all)")
    parser.add_argument("--list", action="store_true", help="show the servers and run none")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="the result (default: table)")
    parser.add_argument("--write", action="store_true", help="write the rows of those that pass in docs/servers.md anew")
    options = parser.parse_args()
    servers = named(parser, "server", SERVERS, options.names)
    if options.list:
        print("\n".join(one.name for one in servers))
        return 0
    if "COMPOSE_PROJECT_NAME" not in os.environ:
        sys.exit("servers: started by itself, it has no image: `make servers` builds it")
    try:
        judgements = list(_all(servers, options.format, options.write))
    except KeyboardInterrupt:
        print("servers: interrupted", file=sys.stderr)
        return 130
    if options.format == "json":
        print(json.dumps([asdict(it) | {"passed": it.passed} for it in judgements], indent=2))
    failed = len(servers) - sum(it.passed for it in judgements)
    print(f"servers: {len(servers) - failed} passed, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def _all(servers: Sequence[Server], style: str, write: bool) -> Iterator[Judgement]:
    if style == "table":
        print(HEAD, flush=True)
    for number, server in enumerate(servers, 1):

        def say(what: str, name: str = f"server {number} of {len(servers)}, {server.name}") -> None:
            print(f"{name}: {what}", file=sys.stderr, flush=True)

        try:
            judgement = judge(server.name, server.zone, run(server.name), KNOWN.get(server.name, NOTHING))
        except NotRun as reason:
            say(f"FAILED: {reason}")
            continue
        for wrong in judgement.wrong:
            say(f"FAILED: {wrong}")
        if style == "table":
            print(row(judgement), flush=True)
        if write and judgement.passed:
            text = with_rows(_TABLE.read_text(encoding="utf-8"), [judgement], [one.name for one in SERVERS])
            _TABLE.write_text(text, encoding="utf-8")
        yield judgement


if __name__ == "__main__":
    sys.exit(main())
