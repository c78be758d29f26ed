"""Submits the topology with `sparse submit`, once: a topology that runs this very code already is left alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from thriftpy2.thrift import TException

from contract.errors import EngineUnavailable
from contract.settings import Settings

with warnings.catch_warnings():
    # Of pkg_resources and old ciphers: nothing that whoever submits could do anything about.
    warnings.simplefilter("ignore")
    from streamparse.util import get_nimbus_client

Answer = TypeVar("Answer")

NAME = "braid"
_SOURCE = Path(__file__).resolve().parent.parent
_PACKAGES = ("contract", "serving", "speed")
_NIMBUS_PORT = 6627
_WAIT_S = 150
_DIGEST_OPTION = "braid.digest"


def submit(settings: Settings, force: bool = False) -> str:
    """Make the topology on Nimbus the one of this code and these settings; says what was done."""
    digest = code_digest(settings)
    if not force and _until_it_works(settings, lambda: _running_digest(settings)) == digest:
        return f"topology {NAME} already runs version {digest}"
    with tempfile.TemporaryDirectory() as project:
        _write_project(Path(project), settings)
        # A Nimbus that has just started answers questions before it leads and takes a topology.
        _until_it_works(settings, lambda: _sparse_submit(project, digest))
    return f"topology {NAME} submitted as version {digest}"


def _sparse_submit(project: str, digest: str) -> None:
    command = [sys.executable, "-W", "ignore", str(Path(sys.executable).with_name("sparse")), "submit"]
    command += ["--name", "topology", "--override_name", NAME, "--environment", NAME, "--local_jar_path", "topology.jar"]
    # Without --wait, Storm lets a killed topology linger for a whole message timeout.
    command += ["--force", "--wait", "1", "--timeout", "60000", "--option", f"{_DIGEST_OPTION}={digest}"]
    done = subprocess.run(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise OSError((done.stdout.strip().splitlines() or ["sparse submit said nothing"])[-1])
    sys.stderr.write(done.stdout)


def _until_it_works(settings: Settings, ask: Callable[[], Answer]) -> Answer:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return ask()
        except (TException, OSError) as error:
            if time.monotonic() > deadline:
                raise EngineUnavailable.at("Nimbus", f"{settings.nimbus_host}:{_NIMBUS_PORT}", error) from error
            time.sleep(1)


def code_digest(settings: Settings) -> str:
    """Names the code and the settings that a topology runs; no secret is part of it."""
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for package in _PACKAGES:
        for file in sorted((_SOURCE / package).rglob("*.py")):
            digest.update(file.relative_to(_SOURCE).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _write_project(project: Path, settings: Settings) -> None:
    """What sparse wants: a config.json, and a jar with a resources folder (the code is in the supervisor's image)."""
    nimbus = {
        "nimbus": f"{settings.nimbus_host}:{_NIMBUS_PORT}",
        "use_ssh_for_nimbus": False,
        "use_virtualenv": False,
        "install_virtualenv": False,
        "log": {"level": "info"},
    }
    config = {"serializer": "json", "topology_specs": str(_SOURCE / "speed"), "envs": {NAME: nimbus}}
    (project / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with zipfile.ZipFile(project / "topology.jar", "w") as jar:
        jar.writestr("resources/README", "The components of this topology are installed on the supervisors.\n")


def _running_digest(settings: Settings) -> str | None:
    """The version of the running topology; None if there is no topology."""
    nimbus = get_nimbus_client(host=settings.nimbus_host, port=_NIMBUS_PORT)
    try:
        for topology in nimbus.getClusterInfo().topologies or []:
            if topology.name == NAME and topology.status == "ACTIVE":
                config: dict[str, Any] = json.loads(nimbus.getTopologyConf(topology.id))
                return str(config.get(_DIGEST_OPTION))
        return None
    finally:
        nimbus.close()
