"""Run in the stack: writes an access log by seed, then sends it as `make replay` does; says what that alone took."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

from hdfs import InsecureClient

from contract.settings import Settings
from ingest.lines import InputFile
from ingest.produce import produce, wanted_log
from ingest.sample_log import LOG_NAME, SampleLog
from ingest.stop import Stop


def main() -> None:
    """Arguments: how many lines, seed, topic."""
    lines, seed, topic = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as folder:
        truth = SampleLog(lines, days=lines // 1_000_000 + 1, seed=seed).write(Path(folder))
        log = Path(folder) / LOG_NAME
        before, started_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        # Each round is the first that counts the log.
        settings = replace(Settings.from_env(), topic=topic, archive_root=f"/bench-produce/{uuid.uuid4().hex[:12]}")
        summary = produce(settings, InputFile(log), wanted_log(LOG_NAME, "bench"), Stop(), lambda line: None)
        seconds, after = time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    InsecureClient(settings.webhdfs_url, user="braid").delete(settings.archive_root, recursive=True)
    said = {"sent": summary.sent, "unparsed": sum(summary.quarantined.values()), "no_requests": truth.not_requests}
    print(json.dumps(said | {"seconds": seconds, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
