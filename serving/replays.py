"""What a replay must know of the views before it sends, and what becomes of quarantined records that are sent again."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from contract.errors import InputError
from contract.event import REASONS
from contract.replays import Cover, Judged, Wanted
from serving.database import Connection, answering

PART_RECORDS = 100_000
"""So many quarantined records are in memory, or in one call of the database."""


@dataclass(frozen=True)
class Resolved:
    """What became of records that were judged again; `kept` counts those that still are no events, by reason.

    `pending` ones are sent and not counted yet; `unread` ones could not be read.
    """

    sent: int
    resolved: int
    pending: int
    kept: dict[str, int]
    unread: int

    def text(self) -> str:
        """For people."""
        judged = self.resolved + self.pending + sum(self.kept.values()) + self.unread
        parts = [f"{self.sent:,} of {judged:,} quarantined records sent again", f"{self.resolved:,} resolved"]
        if self.pending:
            parts.append(f"{self.pending:,} not counted yet")
        parts += [f"{count:,} stay: {reason}" for reason, count in sorted(self.kept.items())]
        if self.unread:
            parts.append(f"{self.unread:,} are not in the archive yet, try again")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def replay_cover(connection: Connection) -> Cover:
    """What the live run has filters of. Any reader."""
    with answering(connection):
        days = connection.execute("SELECT day FROM replay_cover WHERE bytes = 0 ORDER BY day").fetchall()
        offsets = connection.execute("SELECT partition, batch_next_offset FROM ledger ORDER BY partition").fetchall()
    return Cover(tuple(day for (day,) in days), dict(offsets))


@dataclass
class Judgements:
    """All parts that were judged, as far as their result is asked for: of a record that was sent its offset, 8 bytes."""

    sent: dict[int, array[int]] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    unread: int = 0
    next_offsets: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Iterable[Judged]) -> Judgements:
        """Of these parts, and of no more than one at a time."""
        all_parts = cls()
        for judged in parts:
            for partition, offset, _, _ in judged.sent:
                all_parts.sent.setdefault(partition, array("q")).append(offset)
            all_parts.kept.update(reason for _, _, reason, _ in judged.kept)
            all_parts.unread += judged.unread
            for partition, next_offset in judged.next_offsets.items():
                all_parts.next_offsets[partition] = max(next_offset, all_parts.next_offsets.get(partition, 0))
        return all_parts


def unresolved(connection: Connection, topic: str, reason: str | None, part_records: int = PART_RECORDS) -> Iterator[Wanted]:
    """The quarantined records that are open, of all reasons or of one, in order and in parts, one at least. Any reader.

    What becomes of a part before the next one is asked for changes nothing of that.
    """
    if reason is not None and reason not in REASONS:
        raise InputError(f"REASON={reason!r} is none of {', '.join(REASONS)}")
    told, last = False, (-1, -1)
    while page := _page(connection, topic, last, part_records):
        offsets: dict[int, list[int]] = {}
        for partition, last_offset in page:
            # A page is bounded by the records, open or not: to find so many open ones, all of them may have to be looked at.
            rows = _open(connection, topic, reason, partition, last[1] if partition == last[0] else -1, last_offset)
            if rows:
                offsets[partition] = rows
        if offsets:
            told = True
            yield Wanted(offsets)
        last = page[-1]
    if not told:
        yield Wanted({})


def _page(connection: Connection, topic: str, after: tuple[int, int], records: int) -> list[tuple[int, int]]:
    """The last offset of each partition among the next so many quarantined records."""
    with answering(connection):
        return connection.execute(
            'SELECT partition, max("offset") FROM (SELECT partition, "offset" FROM quarantine '
            'WHERE topic = %s AND (partition, "offset") > (%s, %s) ORDER BY partition, "offset" LIMIT %s) AS page '
            "GROUP BY partition ORDER BY partition",
            [topic, *after, records],
        ).fetchall()


def _open(
    connection: Connection, topic: str, reason: str | None, partition: int, after_offset: int, last_offset: int
) -> list[int]:
    with answering(connection):
        rows = connection.execute(
            'SELECT "offset" FROM quarantine_state '
            "WHERE topic = %s AND state = 'open' AND (%s::text IS NULL OR reason = %s) "
            'AND partition = %s AND "offset" > %s AND "offset" <= %s ORDER BY "offset"',
            [topic, reason, reason, partition, after_offset, last_offset],
        ).fetchall()
    return [offset for (offset,) in rows]


def resolve(connection: Connection, topic: str, judged: Judged) -> None:
    """The judgements are known from now on; repeating the call changes nothing. Role batch."""
    with answering(connection):
        shifts: dict[int, int] = dict(connection.execute("SELECT partition, shift FROM log_positions").fetchall())
    facts: list[dict[str, Any]] = [
        {
            "topic": topic,
            "partition": p,
            "offset": o,
            "sent_partition": sent_partition,
            "sent_offset": sent_offset + shifts.get(sent_partition, 0),
        }
        for p, o, sent_partition, sent_offset in judged.sent
    ]
    facts += [{"topic": topic, "partition": p, "offset": o, "reason": why, "detail": how} for p, o, why, how in judged.kept]
    with answering(connection):
        connection.execute("SELECT serving.resolve(%s)", [Jsonb(facts)])


def resolved(connection: Connection, topic: str, judged: Judgements) -> Resolved:
    """How the judged records stand now. Role batch."""
    states, kept = Counter[str](), Counter(judged.kept)
    for partition, offsets in judged.sent.items():
        for first in range(0, len(offsets), PART_RECORDS):
            with answering(connection):
                rows = connection.execute(
                    "SELECT state, CASE WHEN state = 'open' THEN reason END, count(*) FROM quarantine_state "
                    'WHERE topic = %s AND partition = %s AND "offset" = ANY(%s) GROUP BY 1, 2',
                    [topic, partition, offsets[first : first + PART_RECORDS].tolist()],
                ).fetchall()
            for state, why, count in rows:
                states[state] += count
                if state == "open":
                    kept[why] += count
    sent = sum(map(len, judged.sent.values()))
    return Resolved(sent, states["resolved"], states["sent"], dict(kept), judged.unread)
