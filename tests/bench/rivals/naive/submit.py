"""Run in the stack: brings the naive topology to Storm, or takes it away again, with streamparse's own command.

The supervisors need nothing of it beforehand: as usual with streamparse, the code travels in the topology's jar.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from contract.settings import Settings

_NAME = "naive"
_CODE = Path(__file__).parent


def main() -> None:
    """Argument: of each partition, the offset before which its records are counted; none takes the topology away."""
    next_offset = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        _write_project(Path(folder), Settings.from_env())
        if next_offset:
            options = ["--local_jar_path", "naive.jar", "--force", "--option", f"naive.next_offset={next_offset[0]}"]
            _sparse(folder, "submit", "--name", "naive_topology", "--override_name", _NAME, *options)
        else:
            _sparse(folder, "kill", "--name", _NAME)


def _sparse(project: str, verb: str, *options: str) -> None:
    sparse = [sys.executable, "-W", "ignore", str(Path(sys.executable).with_name("sparse")), verb, *options]
    # Without --wait, Storm lets a killed topology linger for a whole message timeout.
    subprocess.run([*sparse, "--environment", _NAME, "--wait", "1", "--timeout", "60000"], cwd=project, check=True)


def _write_project(project: Path, settings: Settings) -> None:
    """What sparse wants: a config.json, and a jar whose folder `resources` the components run in."""
    without = dict.fromkeys(("use_ssh_for_nimbus", "use_virtualenv", "install_virtualenv"), False)
    nimbus = {"nimbus": f"{settings.nimbus_host}:6627", "log": {"level": "info"}, **without}
    config = {"serializer": "json", "topology_specs": str(_CODE), "envs": {_NAME: nimbus}}
    (project / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with zipfile.ZipFile(project / "naive.jar", "w") as jar:
        jar.write(_CODE / "naive_parts.py", "resources/naive_parts.py")


if __name__ == "__main__":
    main()
