"""What Braid counts in a log: through the readers and the decoder that `make replay` has, in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from contract.errors import InputError
from contract.event import decode
from ingest.formats.clients import Pseudonyms
from ingest.formats.detect import WantedLog
from ingest.readers import reader_for

SITE = "site.test"
"""The site of a log that names no host."""
_KEY = "the key of a test"
_AHEAD_MS = 86_400_000  # a zone that is read wrong is told as a difference, not as a time that is too far ahead
_HOSTS = "each host is a site of its own"


@dataclass(frozen=True)
class View:
    """What is counted of one request; `client` is an address of a client that is known, or else a pseudonym."""

    site: str
    page: str
    status: int
    bytes_sent: int
    client: str
    referrer: str | None
    user_agent: str | None


@dataclass(frozen=True)
class Counted:
    """What became of a log's lines. Times are in seconds since 1970.

    `with_zone` says that LOG_ZONE= had to be told, `has_hosts` that lines name hosts, each of which is a site.
    """

    lines: int
    views: list[View]
    times_s: list[float]
    durations_ms: list[float]
    rejected: Counter[str] = field(default_factory=Counter)
    read_as: str = ""
    notes: tuple[str, ...] = ()
    with_zone: bool = False
    has_hosts: bool = False


def count(log: bytes, zone: str, clients: list[str], ended_s: float) -> Counted:
    """What is counted of a log whose clients may be these; told its zone if it has none. InputError if it is refused."""
    try:
        return _count(log, None, clients, ended_s)
    except InputError as refused:
        if "LOG_ZONE=" not in str(refused):
            raise
    return _count(log, zone, clients, ended_s)


def _count(log: bytes, zone: str | None, clients: list[str], ended_s: float) -> Counted:
    pseudonyms = Pseudonyms(_KEY)
    known = {pseudonyms.of(client): client for client in clients}
    reader = reader_for(log, WantedLog(SITE, zone=zone), lambda: _KEY)
    records = reader.read("log", 0, log.removesuffix(b"\n"))
    values = records.values
    decoded = decode(0, range(len(values)), [int(ended_s * 1000) + _AHEAD_MS] * len(values), values)
    rows = list(decoded.events.iter_rows(named=True))
    return Counted(
        records.lines,
        [
            View(
                row["site"],
                row["page"],
                row["status"],
                row["bytes_sent"],
                known.get(row["visitor_id"], row["visitor_id"]),
                row["referrer"],
                row["user_agent"],
            )
            for row in rows
        ],
        [row["event_time"].timestamp() for row in rows],
        [row["duration_ms"] for row in rows if row["duration_ms"] is not None],
        Counter(decoded.rejects["reason"].to_list()),
        reader.text(),
        tuple(reader.notes.texts()),
        zone is not None,
        _HOSTS in reader.text(),
    )
