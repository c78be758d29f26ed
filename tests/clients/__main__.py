"""Asks a database of Braid's with the clients that people have, one value of each type that readers see, and compares.

Each client is a pinned package in an image of its own, and asks as its users do: as role reader, from another container. One
row a client: the type that arrived where the value is the database's, and else what became of it, or why it was refused.
A row that differs from the one in docs/clients.md is red, until --write has written it there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.clients.clients import CLIENTS, Client
from tests.clients.questions import QUESTIONS
from tests.clients.report import HEAD, Arrived, row, rows_of, with_table
from tests.fixtures.named import named

_ROOT = Path(__file__).resolve().parents[2]
_TABLE = _ROOT / "docs" / "clients.md"
_LIMIT_S = 180
_IN_STACK = ("compose/engine", "compose", "run", "--rm", "-T", "--no-deps")


class NotAsked(Exception):
    """The client did not start, or did not end in time; the reason is what it said."""


def main() -> int:
    """Exit status: 0 all are as the page says, 1 one is not or did not start, 2 wrong usage, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which clients, by the beginning of a name (default: all)")
    parser.add_argument("--list", action="store_true", help="show the clients and ask with none")
    parser.add_argument("--write", action="store_true", help="write the rows in docs/clients.md anew")
    options = parser.parse_args()
    clients = named(parser, "client", CLIENTS, options.names)
    if options.list:
        print("\n".join(one.name for one in clients))
        return 0
    if "COMPOSE_PROJECT_NAME" not in os.environ:
        sys.exit("clients: started by itself, it has no image: `make clients` builds it")
    try:
        return _report(clients, options.write)
    except KeyboardInterrupt:
        print("clients: interrupted", file=sys.stderr)
        return 130


def _report(clients: Sequence[Client], write: bool) -> int:
    text = _TABLE.read_text(encoding="utf-8")
    known = rows_of(text)
    print(HEAD, flush=True)
    found = {}
    for client, line in _rows(clients, json.loads(_output([*_IN_STACK, "tests", "python", "-m", "tests.clients.fill"]))):
        print(line, flush=True)
        found[client.name] = line
    wrong = [one.name for one in clients if one.name not in found or found[one.name] != known.get(one.name)]
    if write:
        rows = known | found
        _TABLE.write_text(with_table(text, [rows[one.name] for one in CLIENTS if one.name in rows]), encoding="utf-8")
        wrong = [name for name in wrong if name not in found]
    for name in wrong:
        print(f"clients: FAILED: {name}: docs/clients.md has {known.get(name, 'no such row')}", file=sys.stderr)
    print(f"clients: {len(clients) - len(wrong)} passed, {len(wrong)} failed", file=sys.stderr)
    return 1 if wrong else 0


def _rows(clients: Sequence[Client], truth: Mapping[str, str]) -> Iterator[tuple[Client, str]]:
    questions = json.dumps([vars(question) | {"sql": question.sql} for question in QUESTIONS])
    for client in clients:
        try:
            yield (
                client,
                row(client, Arrived(**json.loads(_output([*_IN_STACK, "clients", *client.command], questions))), truth),
            )
        except NotAsked as reason:
            print(f"clients: {client.name}: {reason}", file=sys.stderr)


def _output(command: Sequence[str], given: str = "") -> str:
    """What it prints; NotAsked."""
    try:
        ended = subprocess.run(
            command, cwd=_ROOT, input=given, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotAsked(f"did not end within {_LIMIT_S} s") from None
    if ended.returncode != 0 or not ended.stdout.strip():
        raise NotAsked(ended.stderr.strip()[-2_000:] or f"ended with status {ended.returncode}")
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
