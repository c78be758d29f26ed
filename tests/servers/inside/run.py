"""One server: started, asked, ended; what it logged beside what the client knows."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.servers.inside.exchange import Answer, ask_all
from tests.servers.inside.requests import REQUESTS, SIXTH, Request
from tests.servers.inside.server import APP_PORT, PORT, RUN, SITE, STDERR, STDOUT, Server
from tests.servers.inside.site import write_site

_START_S, _STOP_S, _WRITE_S = 60.0, 15.0, 10.0
_STEP_S = 0.05
_LONGEST_SAID = 1_500
_CONF = Path(__file__).with_name("conf")
_MODULES = Path("/opt/braid/node_modules")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)+[0-9A-Za-z.]*")


class NotStarted(Exception):
    """The server does not listen, with what it said."""


@dataclass(frozen=True)
class Ran:
    """Seconds since 1970 of the first request and the last answer, the log as it is, and requests with their answers."""

    version: str
    began_s: float
    ended_s: float
    log: bytes
    asked: list[tuple[Request, Answer | None]]


def run(server: Server) -> Ran:
    """Starts it, asks it all, ends it, and reads its log; NotStarted."""
    _configure(server)
    log = Path(server.log_file)
    behind = _started(server.behind, APP_PORT, server.zone, f"{RUN}/behind.stdout", f"{RUN}/behind.stderr")
    with behind, _started(server.command, PORT, server.zone, STDOUT, STDERR):
        requests = [it for it in REQUESTS if server.has_ipv6 or it.client != SIXTH]
        began_s = time.time()
        asked = ask_all(requests, PORT)
        ended_s = time.time()
        if server.after:
            subprocess.run(shlex.split(server.after), stdout=sys.stderr, timeout=_STOP_S, check=True)
        _settle(log)
    return Ran(_version(server), began_s, ended_s, log.read_bytes(), asked)


def _configure(server: Server) -> None:
    Path(RUN).mkdir()
    write_site(Path(SITE))
    if not server.conf:
        return
    conf = Path(RUN) / server.conf
    conf.parent.mkdir(exist_ok=True)
    conf.write_text((_CONF / server.conf).read_text().replace("@LOG@", server.log))
    if server.name == "Tomcat":
        # What it has besides its own configuration: which file is a page, and where it may write.
        shutil.copy("/usr/share/tomcat10/etc/web.xml", conf.parent)
        (Path(RUN) / "temp").mkdir()


@contextmanager
def _started(command: str, port: int, zone: str, out: str, err: str) -> Iterator[None]:
    """The command runs, and the port answers, until the end; what it says goes to files. Without a command, nothing."""
    if not command:
        yield
        return
    with open(out, "ab") as stdout, open(err, "ab") as stderr:
        process = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | {"TZ": zone},
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                said = "".join(Path(name).read_text(errors="replace")[-_LONGEST_SAID:] for name in (out, err))
                how = "does not listen" if process.returncode is None else f"ended with {process.returncode}"
                raise NotStarted(f"{command} {how}: {said}")
            time.sleep(_STEP_S)
        yield
    finally:
        _end_process(process)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _settle(log: Path) -> None:
    """Until the log has not grown for a while: what is written later is written when the server ends."""
    end = time.monotonic() + _WRITE_S
    size, since = -1, time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < 1:
        if (now := _size(log)) != size:
            size, since = now, time.monotonic()
        time.sleep(_STEP_S)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _version(server: Server) -> str:
    if server.version:
        told = subprocess.run(
            shlex.split(server.version), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        match = _NUMBER.search(told.stdout)
        return match[0] if match else "?"
    module = _MODULES / server.package / "package.json"
    return json.loads(module.read_text())["version"] if module.exists() else version(server.package)
