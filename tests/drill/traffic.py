"""Producers of a drill, run as a user runs them, and what each was told is in Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fixtures.stack import ROOT, Stack

RATE = 2_000
_LATE, _TWICE = 0.05, 0.01
_ENDS_WITHIN_S = 150
LOG = ROOT / "build" / "drill-traffic.log"


def _ingest(stack: Stack, *arguments: str) -> subprocess.Popen[str]:
    with LOG.open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ingest", *arguments, "--json"],
            cwd=ROOT,
            env=os.environ | {"BRAID_KAFKA_BOOTSTRAP": stack.settings.kafka_bootstrap},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _acknowledged(producer: subprocess.Popen[str], within_s: float = _ENDS_WITHIN_S) -> int:
    said, _ = producer.communicate(timeout=within_s)
    assert producer.returncode == 0, f"the producer failed with {producer.returncode}; see {LOG.relative_to(ROOT)}"
    return int(json.loads(said)["sent"])


class Traffic:
    """The simulator at 2,000 events/s from `with` to its end; afterwards `acknowledged` records are in Kafka."""

    def __init__(self, stack: Stack, site: str, seed: int, malformed: float) -> None:
        shares = ("--late", str(_LATE), "--twice", str(_TWICE), "--malformed", str(malformed))
        self._producer = _ingest(stack, "simulate", "--rate", str(RATE), "--seed", str(seed), "--site", site, *shares)
        self.acknowledged = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._producer.terminate()
        try:
            if error is None:
                self.acknowledged = _acknowledged(self._producer)
        finally:
            self._producer.kill()
            self._producer.wait()


def produce(stack: Stack, events: Iterable[bytes], file: Path) -> int:
    """Send events as a file of JSON lines; returns how many are in Kafka, all of them."""
    file.write_bytes(b"".join(event + b"\n" for event in events))
    return _acknowledged(_ingest(stack, "produce", str(file), "--format", "jsonl"))
