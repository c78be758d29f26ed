"""Whole stack: a log that grows, what was counted of which file, a pipe, and logs that cannot be counted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.stack import ROOT, Stack


def lines(first: int, count: int) -> bytes:
    line = b'198.51.100.%d - - [17/May/2015:12:05:03 +0000] "GET /%d HTTP/1.1" 200 %d "-" "agent"\n'
    return b"".join(line % (number % 50, number, number) for number in range(first, first + count))


def replay(stack: Stack, log: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return stack.run("make", "--silent", "replay", f"LOG={log}", *words, check=check)


def views(stack: Stack, site: str) -> int:
    ((views,),) = stack.ask(f"SELECT coalesce(sum(views), 0)::int FROM site_traffic WHERE site = '{site}'")
    return int(views)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the containers' user may read."""
    made = Path(tempfile.mkdtemp(prefix="braid-logs-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_what_is_new_in_a_log_is_counted_and_listed(stack: Stack, tmp_path: Path):
    log = tmp_path / "access.log"
    log.write_bytes(lines(0, 100))
    assert replay(stack, log, "SITE=grows").stdout.startswith("100 lines: 100 counted, 0 repeats")
    log.write_bytes(lines(0, 130) + b"garbage\n")
    summary = json.loads(replay(stack, log.rename(tmp_path / "access.log.1"), "SITE=grows", "FORMAT=json").stdout)
    assert (summary["counted"], summary["repeats"], summary["quarantined"]) == (30, 100, {"not_a_log_line": 1})
    assert views(stack, "grows") == 130
    expected = ("access.log.1", 131, 130, 0, 1)
    columns = "name, lines, counted, repeats, quarantined"
    assert stack.ask(f"SELECT {columns} FROM sources WHERE site = 'grows'") == [expected]
    listed = json.loads(stack.run("make", "--silent", "sources", "FORMAT=json").stdout)
    (row,) = [row for row in listed if row["site"] == "grows"]
    assert tuple(row[name] for name in columns.split(", ")) == expected


def test_a_log_is_followed_through_rotation_until_it_is_told_to_stop(stack: Stack, folder: Path):
    log = folder / "access.log"
    log.write_bytes(lines(0, 10))
    log.chmod(0o644)
    environment = os.environ | {"LOG": str(log), "SITE": "followed"}
    follower = subprocess.Popen([ROOT / "compose" / "follow"], env=environment, stderr=subprocess.PIPE, text=True)

    def are_counted(number: int) -> None:
        assert follower.poll() is None, follower.communicate()[1]
        assert views(stack, "followed") == number

    try:
        eventually(lambda: are_counted(10), within_s=120)
        with log.open("ab") as file:
            file.write(lines(10, 5))
        eventually(lambda: are_counted(15), within_s=60)
        log.rename(folder / "access.log.1")
        log.write_bytes(lines(15, 5))
        log.chmod(0o644)
        eventually(lambda: are_counted(20), within_s=60)
        follower.send_signal(signal.SIGTERM)
        _, said = follower.communicate(timeout=60)
    finally:
        follower.kill()
    assert "stopped: 20 lines, 20 of them counted; the next start goes on there" in said

    def is_listed() -> None:
        assert stack.ask("SELECT sum(counted)::int FROM sources WHERE site = 'followed'") == [(20,)]

    eventually(is_listed, within_s=60)


def test_a_pipe_is_counted_line_by_line(stack: Stack):
    command = ["make", "--silent", "replay", "LOG=/dev/stdin", "SITE=piped"]
    pipe = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert pipe.stdin

    def are_counted(number: int) -> None:
        assert pipe.poll() is None
        assert views(stack, "piped") == number

    try:
        for number in range(3):
            pipe.stdin.write(lines(number, 1))
            pipe.stdin.flush()
            eventually(lambda number=number: are_counted(number + 1), within_s=120)  # type: ignore[misc]
        said, _ = pipe.communicate(timeout=60)
    finally:
        pipe.kill()
    assert said.decode().startswith("3 lines: 3 counted")


def test_a_log_that_cannot_be_counted_is_refused_with_what_to_do(stack: Stack, tmp_path: Path):
    log = tmp_path / "uvicorn.log"
    log.write_bytes(b'INFO:     192.0.2.7:50000 - "GET / HTTP/1.1" 200 OK\n' * 3)
    before = stack.ask("SELECT sum(received) FROM ledger")
    done = replay(stack, log, check=False)
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert "it cannot be counted: its lines have no time, as uvicorn writes them by default" in done.stderr
    assert "Traceback" not in done.stderr
    zoneless = tmp_path / "zoneless.log"
    zoneless.write_bytes(lines(0, 3).replace(b" +0000]", b"]"))
    assert "say of which zone they are, as LOG_ZONE=Europe/Berlin" in replay(stack, zoneless, check=False).stderr
    assert stack.ask("SELECT sum(received) FROM ledger") == before
    replay(stack, zoneless, "SITE=zoned", "LOG_ZONE=Europe/Berlin")
    assert views(stack, "zoned") == 3
