"""What a replay must know of the views before it sends, and what becomes of quarantined records that are sent again."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.types.json import Jsonb

from contract.errors import InputError
from contract.event import REASONS
from contract.replays import Cover, Judged, Wanted
from serving.database import Connection, answering


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


def unresolved(connection: Connection, topic: str, reason: str | None) -> Wanted:
    """The quarantined records that are open, of all reasons or of one. Any reader."""
    if reason is not None and reason not in REASONS:
        raise InputError(f"REASON={reason!r} is none of {', '.join(REASONS)}")
    with answering(connection):
        rows = connection.execute(
            'SELECT partition, array_agg("offset" ORDER BY "offset") FROM quarantine_state '
            "WHERE topic = %s AND state = 'open' AND (%s::text IS NULL OR reason = %s) GROUP BY 1 ORDER BY 1",
            [topic, reason, reason],
        ).fetchall()
    return Wanted(dict(rows))


def resolve(connection: Connection, topic: str, judged: Judged) -> None:
    """The judgements are known from now on; repeating the call changes nothing. Role batch."""
    facts: list[dict[str, Any]] = [
        {"topic": topic, "partition": p, "offset": o, "sent_partition": sent_partition, "sent_offset": sent_offset}
        for p, o, sent_partition, sent_offset in judged.sent
    ]
    facts += [{"topic": topic, "partition": p, "offset": o, "reason": why, "detail": how} for p, o, why, how in judged.kept]
    with answering(connection):
        connection.execute("SELECT serving.resolve(%s)", [Jsonb(facts)])


def resolved(connection: Connection, topic: str, judged: Judged) -> Resolved:
    """How the judged records stand now. Role batch."""
    partitions, offsets = [place[0] for place in judged.sent], [place[1] for place in judged.sent]
    with answering(connection):
        rows = connection.execute(
            "SELECT s.state, s.reason FROM quarantine_state AS s "
            'JOIN unnest(%s::int[], %s::bigint[]) AS j (partition, "offset") USING (partition, "offset") WHERE s.topic = %s',
            [partitions, offsets, topic],
        ).fetchall()
    states = Counter(state for state, _ in rows)
    kept = Counter(reason for _, _, reason, _ in judged.kept) + Counter(why for state, why in rows if state == "open")
    return Resolved(len(judged.sent), states["resolved"], states["sent"], dict(kept), judged.unread)
