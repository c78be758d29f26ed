"""`make forget`: what somebody wants forgotten becomes a statement, and the archive keeps to it.

Looked at first: how much of it there is, and until when Kafka has it too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from contract.errors import ForgettingUnfinished, InputError
from contract.event import SITE_LENGTH, VISITOR_ID_LENGTH
from contract.forgotten import FOR_EVER_US, KEY, Digest, Keyed, Kind, Rules, Statement, plain_client
from contract.settings import Settings
from contract.source_ids import SourceIds
from ingest.archive_files import ArchiveFiles
from ingest.forget_files import forget, found_in
from ingest.forget_sources import checked, ids_of, keep_sources_to
from ingest.forgotten_log import ForgottenLog, now
from ingest.formats.clients import Pseudonyms
from ingest.register import Register
from ingest.topics import kept_until_ms

_LENGTHS = {"site": SITE_LENGTH, "visitor": VISITOR_ID_LENGTH}
_SAY_EVERY_S = 5.0
Say = Callable[[str], None]


@dataclass
class Amount:
    """How much of the archive is to be forgotten; times are microseconds since 1970, None if there is none."""

    events: Counter[int] = field(default_factory=Counter)
    rejects: Counter[int] = field(default_factory=Counter)
    """By partition."""
    files: int = 0
    first_us: int | None = None
    last_us: int | None = None
    last_kafka_ms: int = 0

    def lines(self) -> list[str]:
        """For people."""
        parts = sorted(self.events.keys() | self.rejects.keys())
        by_partition = (f"partition {p}: {self.events[p]:,} events, {self.rejects[p]:,} rejects" for p in parts)
        times = ""
        if self.first_us is not None and self.last_us is not None:
            first, last = (datetime.fromtimestamp(us / 1e6, UTC) for us in (self.first_us, self.last_us))
            times = f", of {first:%Y-%m-%d %H:%M:%S}Z to {last:%Y-%m-%d %H:%M:%S}Z"
        return [
            f"{self.events.total():,} events and {self.rejects.total():,} rejects in {self.files:,} files{times}",
            *by_partition,
        ]


def digests_of(keyed: Keyed, kind: Kind, what: str | SourceIds, visitor_key: str) -> tuple[Digest, ...]:
    """What a statement says of a site, a visitor or a source; of a visitor also the pseudonym that a log's lines give it."""
    if isinstance(what, SourceIds):
        return keyed.of_source(what)
    checked(what, kind.upper(), _LENGTHS[kind])
    if kind == "site":
        return (Digest(keyed.digest("site", what)),)
    client = plain_client(what)
    spelled = dict.fromkeys([what, client, Pseudonyms(visitor_key).of(client)])
    return (*(Digest(keyed.digest("visitor", text)) for text in spelled), Digest(keyed.digest("client", client)))


def plan(
    settings: Settings, log: ForgottenLog, files: ArchiveFiles, register: Register, kind: Kind, what: str, say: Say
) -> tuple[Statement, Amount]:
    """What would be said, with how much of it the archive has. Changes nothing.

    Raises ForgettingUnfinished if an earlier statement is not done yet, and ArchiveDamaged if a file cannot be read.
    """
    for one in log.said().unfinished:
        raise ForgettingUnfinished.before_another(one.number, one.said_at)
    keyed = Keyed(settings.secret(KEY))
    visitor_key = settings.secret("visitor_key") if kind == "visitor" else ""
    digests = digests_of(keyed, kind, ids_of(register, what) if kind == "source" else what, visitor_key)
    statement = Statement(1, kind, now(), keyed.check, FOR_EVER_US, digests)
    amount = amount_of(files, Rules((statement,), settings.secret(KEY)), say)
    # What is there may have a time that is still to come.
    # guard: all that is there is forgotten, whatever its time
    until_us = max(time.time_ns() // 1_000, 1 + (amount.last_us or 0))
    counts = {"events": amount.events.total(), "rejects": amount.rejects.total()}
    return msgspec.structs.replace(statement, until_us=until_us, **counts), amount


def amount_of(files: ArchiveFiles, rules: Rules, say: Say) -> Amount:
    """How much of the archive the rules forget; reads all of it, a file at a time."""
    amount, said_s = Amount(), time.monotonic()
    for partition in files.partitions():
        for taken, found in found_in(files, partition, rules):
            amount.files += 1
            if time.monotonic() - said_s >= _SAY_EVERY_S:
                said_s = time.monotonic()
                say(f"partition {partition}: {amount.events.total():,} events so far")
            if taken is None:
                continue
            inside, rejects = (
                rows.filter(rows["offset"].is_between(taken.first_offset, taken.next_offset, "left"))
                for rows in (found.events(), found.rejects())
            )
            amount.events[partition] += len(inside)
            amount.rejects[partition] += len(rejects)
            for frame in (inside, rejects):
                if len(frame):
                    amount.last_kafka_ms = max(amount.last_kafka_ms, int(frame["kafka_time"].dt.epoch("ms").max() or 0))  # type: ignore[arg-type]
            if len(inside):
                times_us = inside["event_time"].dt.epoch("us").to_list()
                amount.first_us = min(times_us if amount.first_us is None else [amount.first_us, *times_us])
                amount.last_us = max(times_us if amount.last_us is None else [amount.last_us, *times_us])
    return amount


def in_kafka(settings: Settings, amount: Amount) -> str:
    """Until when Kafka has it too, for people. Raises EngineUnavailable."""
    until_ms = kept_until_ms(settings, amount.last_kafka_ms)
    again = "what comes again is there as long from then on"
    if until_ms is None:
        return f"Kafka keeps it for ever, since topic {settings.topic} has no retention.ms; {again}"
    if until_ms < time.time() * 1_000:
        return f"Kafka has none of it any more, unless it came again; {again}"
    until = datetime.fromtimestamp(until_ms / 1_000, UTC)
    return f"Kafka has none of it any more from {until:%Y-%m-%d %H:%M}Z on, at the latest, by its retention; {again}"


def keep_to(log: ForgottenLog, files: ArchiveFiles, register: Register, say: Say) -> int:
    """All files of the archive keep to what was said, and the register of sources does; returns how many files changed.

    Broken off, it can be called again. It looks into every file, though all statements may be finished: an archiver that
    was cut off may have come late.
    """
    said = log.said()
    rules, replaced = log.rules_of(said), 0
    for partition in files.partitions():
        changed = forget(files, partition, rules)
        say(f"partition {partition}: {changed:,} files replaced")
        replaced += changed
    if count := keep_sources_to(register, rules):
        say(f"{count:,} sources changed in the register")
    for one in said.unfinished:
        log.finish(one.number)
    return replaced


def lift(log: ForgottenLog, register: Register, number: int) -> Statement:
    """What statement `number` forgets counts if it comes again; what is gone stays gone. InputError if it does not stand."""
    statements = log.said().statements
    # guard: only what stands is lifted
    known = {one.number for one in statements if one.kind != "lift"} - {one.lifts for one in statements}
    if number not in known:
        stand = ", ".join(map(str, sorted(known))) or "none"
        raise InputError(f"LIFT={number}: there is no such statement that stands; those that do: {stand}")
    lifted = log.add(Statement(0, "lift", now(), "", lifts=number))
    keep_sources_to(register, log.rules())
    return lifted
