"""Lines per CPU second of each format, read one by one and judged as the summary does: `python -m tests.format_speed`.

The lines are those of tests/fixtures/format_corpus.py that count, again and again. Numbers of a machine that does other work
too are lower, by half if its cores share their time.
"""

from __future__ import annotations

import time

from ingest.formats.detect import WantedLog
from ingest.readers import reader_for
from ingest.tally import Judge
from tests.fixtures.format_corpus import LOGS, Log

_BLOCK_LINES, _BLOCKS = 2_000, 6
_NOW_MS = 1_796_000_000_000


def lines_per_second(log: Log) -> float:
    """How many of a log's lines are read and judged in a second of the processor."""
    encoded = [(line.encode("utf-8", "surrogateescape"), isinstance(said, dict)) for line, said in log.lines]
    beginning = b"\n".join(line for line, _ in encoded)
    counting = [line for line, counts in encoded if counts]
    block = b"\n".join(counting * (_BLOCK_LINES // len(counting)))
    reader = reader_for(beginning, WantedLog("log", log.site, log.format, log.zone, log.keys), lambda: "key")
    reader.read("log", 0, beginning)  # directives that hold for the lines behind them
    judge = Judge(lambda: _NOW_MS, reader.own_ids)
    lines, began_s = 0, time.process_time()
    for number in range(_BLOCKS):
        lines += judge.tally(reader.read("log", len(beginning) + number * len(block), block)).lines
    return lines / (time.process_time() - began_s)


if __name__ == "__main__":
    for log in LOGS:
        print(f"{lines_per_second(log):9,.0f} lines/s  {log.name}", flush=True)
