"""Memory that each container may take, as compose has it, and what the machine has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")


def memory_limits(compose_file: Path, environ: Mapping[str, str]) -> dict[str, int]:
    """Bytes by service, of those that stay; variables have the value of `environ`, or else their default.

    What only METRICS=1 starts is not there without it.
    """
    left_out = set() if environ.get("METRICS") == "1" else {"metrics"}
    services = YAML(typ="safe").load(compose_file.read_text(encoding="utf-8"))["services"]
    return {
        name: _bytes(str(service["mem_limit"]), environ) * int(_filled(str(service.get("scale", 1)), environ))
        for name, service in services.items()
        if service.get("restart") == "unless-stopped" and not left_out.intersection(service.get("profiles", ()))
    }


def _filled(text: str, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: environ.get(match["name"]) or match["default"], text)


def _bytes(text: str, environ: Mapping[str, str]) -> int:
    filled = _filled(text, environ).strip().lower().removesuffix("b")
    return int(filled[:-1]) * _UNITS[filled[-1]] if filled[-1] in _UNITS else int(filled)


def machine_memory(meminfo: str) -> dict[str, int]:
    """Bytes that the machine has, and that are available, from the text of /proc/meminfo."""
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", meminfo, re.MULTILINE))
    return {"total_bytes": int(found["MemTotal"]) << 10, "available_bytes": int(found["MemAvailable"]) << 10}


def memory(compose_file: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Both, for the page."""
    return {
        "limits": memory_limits(compose_file, environ),
        "machine": machine_memory(Path("/proc/meminfo").read_text(encoding="ascii")),
    }
