"""Run in the stack: sends thin history, the same number of events on each of many days, as producers would have sent it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from contract.event import EVENT_SCHEMA
from contract.settings import Settings
from ingest.sender import Record, Sender, connect
from ingest.stop import Stop
from tests.age.database import visits

_DAYS_AT_ONCE = 30
# What is read one after the other is mostly of one page and minute, so that there are some three events to a row.
_WITHIN_S, _PAGE_SKEW = 4, 2.1


def main() -> None:
    """Arguments: how many days before today, how many events on each, seed; oldest first."""
    days, events_a_day, seed = map(int, sys.argv[1:])
    settings = Settings.from_env()
    sender = Sender(settings, connect(settings), Stop())
    sender.send(_records(days, events_a_day, seed))
    sender.finish()
    print(json.dumps({"sent": sender.sent}))


def _records(days: int, events_a_day: int, seed: int) -> Iterator[Record]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    own = [name for name in EVENT_SCHEMA.names() if name not in ("partition", "offset", "kafka_time")]
    for first in range(0, days, _DAYS_AT_ONCE):
        some = min(_DAYS_AT_ONCE, days - first)
        start, span = today - timedelta(days=days - first), timedelta(days=some)
        frame = visits(seed + first, 0, some * events_a_day, start, span, within_s=_WITHIN_S, page_skew=_PAGE_SKEW)
        for event in frame.select(own).iter_rows(named=True):
            event["event_id"] = f"thin{seed}-{first}-{event['event_id']}"
            yield (
                event["visitor_id"],
                msgspec.json.encode({name: value for name, value in event.items() if value is not None}),
            )


if __name__ == "__main__":
    main()
