"""Run in the stack: writes an access log by seed, then sends it as `make replay` does; says what that alone took."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contract.settings import Settings
from ingest.lines import InputFile
from ingest.produce import produce
from ingest.stop import Stop

_AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) Firefox/149.0", "Mozilla/5.0 (iPhone) Safari/26.1", "Googlebot/2.1")
_START = datetime(2026, 5, 17, tzinfo=UTC)


def main() -> None:
    """Arguments: how many lines, seed, topic."""
    lines, seed, topic = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        _write(log, lines, seed)
        before, started_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        result = produce(replace(Settings.from_env(), topic=topic), InputFile(log), "bench", "log", Stop())
        seconds, after = time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"sent": result.sent, "unparsed": result.unparsed, "seconds": seconds, "cpu_s": cpu_s}))


def _write(log: Path, lines: int, seed: int) -> None:
    rng = random.Random(seed)
    addresses = [f"203.0.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(20_000)]
    with log.open("w", encoding="ascii") as file:
        for number in range(lines):
            moment = _START + timedelta(milliseconds=5 * number)
            file.write(
                f"{rng.choice(addresses)} - - [{moment:%d/%b/%Y:%H:%M:%S %z}] "
                f'"GET /section/{int(rng.paretovariate(1)) % 400} HTTP/1.1" '
                f'{rng.choice((200, 200, 200, 304, 404))} {rng.randrange(100_000)} "-" "{rng.choice(_AGENTS)}"\n'
            )


if __name__ == "__main__":
    main()
