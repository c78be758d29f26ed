"""Run in the stack: makes a past up to now, in a topic, an archive and a database that are empty."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime

from contract.compiled import load_all
from contract.settings import Settings
from tests.age.edits import leave_edits
from tests.age.making import make
from tests.age.past import Past


def main() -> None:
    """Arguments: days, events a day. Prints what was made, and in how many seconds, as JSON."""
    days, events_a_day = map(int, sys.argv[1:])
    settings, started_s = Settings.from_env(), time.monotonic()
    load_all()
    past = Past(datetime.now(UTC).replace(microsecond=0), days, events_a_day, settings.topic_partitions)
    made = make(settings, past, _say)
    edits = leave_edits(settings, past, _say)
    print(json.dumps(asdict(made) | {"edits": edits, "seconds": round(time.monotonic() - started_s, 1)}))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
