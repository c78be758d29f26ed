"""Run in the stack: sends simulated events whose times are spread evenly over some days, or are one moment."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice

from contract.settings import Settings
from ingest.sender import Sender, connect
from ingest.simulate import Shares, events
from ingest.stop import Stop


def main() -> None:
    """Arguments: how many events, how many days ago the oldest is and how many the newest, seed; oldest first."""
    count, oldest_days, newest_days, seed = map(int, sys.argv[1:])
    settings, asked = Settings.from_env(), 0
    start, step = datetime.now(UTC) - timedelta(days=oldest_days), timedelta(days=oldest_days - newest_days) / count

    def now() -> datetime:
        nonlocal asked
        asked += 1
        return start + min(asked, count) * step

    sender = Sender(settings, connect(settings), Stop())
    sender.send(islice(events(seed, now, f"history{seed}", shares=Shares(late=0)), count))
    sender.finish()
    print(json.dumps({"sent": sender.sent}))


if __name__ == "__main__":
    main()
