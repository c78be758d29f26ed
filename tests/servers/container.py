"""Runs a server in a container of its own: no network but its loopback, no rights, and an end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

from tests.servers.inside.exchange import Answer

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 240
_OPTIONS = shlex.split(
    "--rm --init --read-only --tmpfs /tmp:exec,mode=1777 --cap-drop ALL --security-opt no-new-privileges --pull never "
    "--network none --sysctl net.ipv6.conf.all.disable_ipv6=0 --sysctl net.ipv6.conf.lo.disable_ipv6=0 "
    "--cpus 0.7 --memory 1500m --pids-limit 512"
)


class NotRun(Exception):
    """The server did not start, or did not end in time; the reason is what it said."""


@dataclass(frozen=True)
class Ran:
    """What one server logged between two moments, in seconds since 1970, and its answers by the requests' names."""

    version: str
    began_s: float
    ended_s: float
    log: bytes
    answers: dict[str, Answer | None]


def run(name: str) -> Ran:
    """One server, asked all that it is asked; NotRun."""
    image = os.environ["COMPOSE_PROJECT_NAME"]
    command = ["compose/engine", "docker", "run", "--name", image, *_OPTIONS, image, name]
    try:
        ended = subprocess.run(command, cwd=_ROOT, capture_output=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        subprocess.run(["compose/engine", "docker", "rm", "--force", image], cwd=_ROOT, capture_output=True, check=False)
        raise NotRun(f"{name} did not end within {_LIMIT_S} s") from None
    if ended.returncode != 0:
        raise NotRun(ended.stderr.decode("utf-8", "replace").strip() or f"{name} ended with status {ended.returncode}")
    said = json.loads(ended.stdout)
    answers = {it: None if answer is None else Answer(**answer) for it, answer in said["answers"].items()}
    return Ran(said["version"], said["began_s"], said["ended_s"], b64decode(said["log"]), answers)
