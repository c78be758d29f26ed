"""Values of events as records for Kafka, or why they are none; contract/event.py judges, as it will in every layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from contract.event import FIELDS, Event, Reject, encode, read
from ingest.collector.visitors import NOT_FOLLOWED
from ingest.sender import Record

_WITHOUT_VISITOR = "missing required field `visitor_id`"
_FIELD = re.compile(r"`(?:\$\.)?(\w+)`|^(event_time) ")


class _OnlyKnown(Event, forbid_unknown_fields=True):
    """An event without further fields."""


_exactly_known = msgspec.json.Decoder(_OnlyKnown).decode


@dataclass(frozen=True)
class Refusal:
    """An event that is none: at which place of the request it is, and what the decoder says of it."""

    index: int
    field: str | None
    reason: str
    detail: str


@dataclass(frozen=True)
class Judged:
    """The records of one request, in its order, and how many are of each site; none of them goes if one is refused."""

    records: list[Record]
    sites: Counter[str]
    refusals: list[Refusal]


def judged(values: Sequence[bytes], visitor: str, is_followed: bool, now_ms: int) -> Judged:
    """Each value becomes a record, whose key is its visitor as with every producer of ours, or a refusal.

    `visitor` is whose those are that name none. If nobody is to be followed, all are NOT_FOLLOWED's, written anew of the
    known fields alone, since an unknown one may say who it was; their keys are their ids, so that they lie everywhere, and
    what is sent again meets its first copy.
    """
    found = read(values, now_ms)
    values = list(values)
    nameless = [at for at, each in enumerate(found) if isinstance(each, Reject) and _WITHOUT_VISITOR in each.detail]
    if nameless:
        named = [_named(values[at], visitor) for at in nameless]
        for at, value, each in zip(nameless, named, read(named, now_ms), strict=True):
            values[at], found[at] = value, each
    records: list[Record] = []
    sites: Counter[str] = Counter()
    refusals = []
    for at, (value, each) in enumerate(zip(values, found, strict=True)):
        if isinstance(each, Reject):
            refusals.append(Refusal(at, _field_of(each), each.reason, each.detail))
            continue
        sites[each.site] += 1
        # guard: who is not to be followed has no visitor of his own
        if is_followed:
            records.append((each.visitor_id, value))
        else:
            each.visitor_id = NOT_FOLLOWED
            records.append((each.event_id, encode(each)))
    return Judged(records, sites, refusals)


def _named(value: bytes, visitor: str) -> bytes:
    """The event with a visitor: in wire form if it has known fields only, else as it was with one more."""
    with_visitor = b'{"visitor_id":' + msgspec.json.encode(visitor) + b"," + value.lstrip()[1:]
    try:
        return encode(_exactly_known(with_visitor))
    except msgspec.DecodeError:
        return with_visitor


def _field_of(reject: Reject) -> str | None:
    """The field that is wrong, if it is one of an event's."""
    match = _FIELD.search(reject.detail.rpartition(" - at ")[2])
    field = match and (match[1] or match[2])
    if reject.reason == "too_far_ahead":
        return "event_time"
    return field if field in FIELDS else None
