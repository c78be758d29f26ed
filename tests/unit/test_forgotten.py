"""What is forgotten: a function of the record and of what was said, and of nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ForgottenKeyLost
from contract.event import Decoded, decode
from contract.forgotten import Digest, Keyed, Kind, Rules, Statement, plain_client
from contract.offset_set import pack, unpack
from contract.source_ids import IdRange, SourceIds
from ingest.forget import digests_of
from ingest.formats.clients import Pseudonyms
from ingest.formats.logged import Rejected

KEY, VISITOR_KEY = "a key", "another key"
KEYED = Keyed(KEY)
CAME_MS = 1_763_712_000_000
UNTIL = datetime(2025, 11, 21, tzinfo=UTC)
UNTIL_US = int(UNTIL.timestamp()) * 1_000_000
EARLY, LATE = "2025-11-20T23:59:59.999999Z", "2025-11-21T00:00:00Z"


def value(number: int = 1, **fields: Any) -> bytes:
    event = {"event_id": f"log~1:{number}", "event_time": EARLY, "site": "shop", "page": "/", "visitor_id": "v"}
    return json.dumps(event | {"status": 200, "bytes_sent": 1} | fields).encode()


def decoded(*values: bytes | None) -> Decoded:
    return decode(0, list(range(len(values))), [CAME_MS] * len(values), list(values), compare=True)


def statement(kind: Kind, what: str | SourceIds, number: int = 1, until_us: int = UNTIL_US) -> Statement:
    digests = digests_of(KEYED, kind, what, VISITOR_KEY)
    return Statement(number, kind, "2025-11-21T00:00:00+00:00", KEYED.check, until_us, digests)


def forgotten(rules: Rules, *values: bytes | None) -> list[int]:
    """Which of the values are, by their places; what is kept must be all others, in order."""
    received = decoded(*values)
    kept, offsets = rules.keep(received)
    left = sorted([*kept.events["offset"].to_list(), *kept.rejects["offset"].to_list()])
    assert left == [place for place in range(len(values)) if place not in offsets]
    assert len(kept.follows) == len(kept.events)
    return sorted(offsets.tolist())


def rules(*statements: Statement) -> Rules:
    return Rules(statements, KEY)


def test_of_a_site_all_is_forgotten_that_happened_before_it_was_said_whenever_it_comes():
    early, late, other = value(), value(2, event_time=LATE), value(3, site="shop2")
    assert forgotten(rules(statement("site", "shop")), early, late, other, early) == [0, 3]


@pytest.mark.parametrize("said", ["203.0.113.7", "2001:db8::1", "2001:0DB8:0:0::0001", "client.example", "v"])
def test_a_visitor_is_known_as_itself_and_as_the_pseudonym_that_logs_give_it(said: str):
    pseudonym = Pseudonyms(VISITOR_KEY).of(plain_client(said))
    values = [
        value(1, visitor_id=said),
        value(2, visitor_id=pseudonym),
        value(3, visitor_id="w"),
        value(4, site=said, visitor_id="w"),
    ]
    assert forgotten(rules(statement("visitor", said)), *values) == [0, 1]


def test_of_a_source_just_its_ids_are_forgotten_whatever_their_time():
    ids = SourceIds((IdRange("log~1", 0, 10), IdRange("log~2", 5)))
    made = [("log~1", 0), ("log~1", 9), ("log~1", 10), ("log~2", 4), ("log~2", 5), ("log~2", 10**17), ("log~12", 1)]
    values = [value(0, event_id=f"{source}:{byte}", event_time=LATE) for source, byte in made]
    values += [value(0, event_id=text) for text in ("log~1", "log~1:", "log~1:x", "a\nlog~1:1")]
    assert forgotten(rules(statement("source", ids)), *values) == [0, 1, 4, 5]


def test_what_is_no_event_is_forgotten_if_it_names_what_was_forgotten_and_no_later_time():
    site = [
        value(1, status=9),
        value(2, status=9, event_time=LATE),
        value(3, status=9, event_time="yesterday"),
        value(4, status=9, site="other"),
        value(5)[:-2],
        b"",
        None,
        b"\xff" + value(6),
        # It did not happen after it came.
        value(7, event_time="2031-01-01T00:00:00Z"),
    ]
    # Of bytes that are not UTF-8 what can be read is read.
    assert forgotten(rules(statement("site", "shop", until_us=CAME_MS * 1_000 + 1)), *site) == [0, 1, 2, 4, 7, 8]
    visitor = [
        b'203.0.113.7 - - [broken "GET / HTTP/1.1" 200 5',
        b"2025/11/20 [error] client: 203.0.113.7, server",
        b"203.0.113.70 - -",
        b'{"visitor_id":"somebody","x":"203.0.113.7"',
        b"::ffff [2001:db8::7] -",
        b'x "203.0.113.7:8080" from 10.0.0.1.',
    ]
    assert forgotten(rules(statement("visitor", "203.0.113.7")), *visitor) == [0, 1, 5]
    assert forgotten(rules(statement("visitor", "2001:db8:0:0:0:0:0:7")), *visitor) == [4]
    assert forgotten(rules(statement("visitor", "client.example")), b"client.example - -", b"- client.example") == [0]
    source = rules(statement("source", SourceIds((IdRange("log~1"),))))
    assert forgotten(source, value(1, status=9), value(2, event_id="log~2:1", status=9)) == [0]


def test_a_line_of_a_log_that_is_no_event_is_known_by_its_site_its_source_and_who_asked():
    line = Rejected("not_a_request", "request", "no request")
    values = [
        line.value("log~1:5", b'203.0.113.7 - - [20/Nov/2025] "-" 408 0', "shop"),
        line.value("log~2:5", b'203.0.113.70 - - [20/Nov/2025] "-" 408 0', "other"),
        line.value("log~3:5", b"client.example - -", ""),
    ]
    assert decoded(*values).rejects["reason"].to_list() == ["not_a_request"] * 3
    assert forgotten(rules(statement("site", "shop")), *values) == [0]
    assert forgotten(rules(statement("source", SourceIds((IdRange("log~2", 0, 6),)))), *values) == [1]
    assert forgotten(rules(statement("source", SourceIds((IdRange("log~2", 0, 5),)))), *values) == []
    assert forgotten(rules(statement("visitor", "203.0.113.7")), *values) == [0]
    assert forgotten(rules(statement("visitor", "client.example")), *values) == [2]


def test_a_statement_that_is_lifted_forgets_nothing_and_needs_no_key():
    lift = Statement(2, "lift", "2025-11-22T00:00:00+00:00", "", lifts=1)
    said = statement("site", "shop")
    assert forgotten(rules(said, lift), value()) == []
    assert not Rules((said, lift), "a key that is not that one")
    assert forgotten(rules(said, lift, statement("site", "shop", 3)), value()) == [0]
    assert rules(said, lift).version == 2


def test_with_another_key_nobody_can_tell_what_is_forgotten():
    with pytest.raises(ForgottenKeyLost, match=r"forgotten_key is not the one that statement 1 .* `make forget LIFT=1`"):
        Rules((statement("site", "shop"),), "a key that is not that one")


def test_the_later_of_two_statements_holds_for_what_both_forget():
    later = statement("site", "shop", 2, UNTIL_US + 1)
    for said in ((statement("site", "shop"), later), (later, statement("site", "shop", 3))):
        assert forgotten(rules(*said), value(event_time=LATE)) == [0]


def test_a_statement_says_nothing_of_what_it_is_about():
    import msgspec

    said = msgspec.json.encode(statement("visitor", "203.0.113.7"))
    assert b"203.0" not in said
    assert Keyed("k").digest("site", "a") != Keyed("l").digest("site", "a") != Keyed("l").digest("visitor", "a")
    assert all(len(Digest(KEYED.digest("site", text)).of) == 32 for text in ("", "x" * 300))


@given(st.integers(0, 1 << 40), st.sets(st.integers(0, 300)))
def test_offsets_are_packed_and_come_back(first: int, places: set[int]):
    offsets = [first + place for place in places]
    text = pack(first, first + 301, offsets)
    assert unpack(first, text).tolist() == sorted(offsets)
    assert bool(text) == bool(places)
    assert pack(first, first + 301, np.array(sorted(offsets), np.int64)) == text
