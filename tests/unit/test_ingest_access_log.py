"""A log line is an event or none, never an exception; the real log gives what awk counts."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.event import decode, encode
from ingest.access_log import AccessLog
from ingest.lines import InputFile

REAL_LOG = Path(os.environ.get("BRAID_TEST_LOG") or Path(__file__).parents[3] / "shared/data/access.log")
COMMON = '198.51.100.7 - - [17/May/2015:12:05:03 +0200] "GET /a?q=1 HTTP/1.1" 200 512'
COMBINED = COMMON + ' "https://example.org/" "Mozilla/5.0 (X11)"'
NOW_MS = 1_763_712_000_000


def log() -> AccessLog:
    return AccessLog("access.log", "demo", "a key")


def test_a_common_line():
    event = log().event(17, COMMON.encode())
    assert event is not None
    assert event.visitor_id == log().event(0, COMMON.encode()).visitor_id  # type: ignore[union-attr]
    assert len(event.visitor_id) == 32
    assert encode(event).decode() == (
        '{"event_id":"access.log:17","event_time":"2015-05-17T10:05:03Z","site":"demo","page":"/a?q=1",'
        f'"visitor_id":"{event.visitor_id}","status":200,"bytes_sent":512}}'
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (COMBINED, {"referrer": "https://example.org/", "user_agent": "Mozilla/5.0 (X11)", "duration_ms": None}),
        (COMBINED + " 0.123", {"duration_ms": 123.0}),
        (COMBINED + " -", {"duration_ms": None}),
        (COMBINED + ' "203.0.113.9" 12.0005', {"duration_ms": 12000.5}),
        (COMBINED[:-1], {"user_agent": "Mozilla/5.0 (X11)", "bytes_sent": 512}),
        (COMMON + ' "-" "-"', {"referrer": None, "user_agent": None}),
        (COMMON + r' "-" "a \"quoted\" \\ agent"', {"user_agent": r"a \"quoted\" \\ agent"}),
        (COMMON.replace("512", "-"), {"bytes_sent": 0}),
        (COMMON.replace("/a?q=1 HTTP/1.1", "/old"), {"page": "/old"}),
        (COMMON.replace("/a?q=1", "/a b"), {"page": "/a b"}),
        (COMMON.replace("/a?q=1", r"/a\"b"), {"page": r"/a\"b"}),
        (COMMON.replace("- -", "- John [x] Doe"), {"status": 200}),
        (COMMON.replace("17/May/2015:12", "01/Jan/2015:00"), {"event_time": "2014-12-31T22:05:03Z"}),
        (COMMON.replace("/a?q=1", "/é"), {"page": "/é"}),
        (COMMON.replace("198.51.100.7", "host.example.org"), {"status": 200}),
        (COMMON.replace("198.51.100.7", "2001:db8::1"), {"status": 200}),
    ],
)
def test_lines_that_parse(line: str, expected: dict[str, object]):
    event = log().event(0, line.encode())
    assert {name: getattr(event, name) for name in expected} == expected


@pytest.mark.parametrize(
    "line",
    [
        COMMON.replace("198.51", "256.51"),
        COMMON.replace("198.51.100.7", "-"),
        COMMON.replace("198.51.100.7", "1.2.3"),
        COMMON.replace("May", "Mai"),
        COMMON.replace("17/May", "31/Feb"),
        COMMON.replace("+0200", "+9999"),
        COMMON.replace("2015", "0000"),
        COMMON.replace("17/May/2015:12", "01/Jan/0001:00"),
        COMMON.replace(":03 ", ":60 "),
        COMMON.replace(" 512", " -512"),
        COMMON.replace(" 512", " 5.5"),
        COMMON.replace(" 512", " " + "9" * 19),
        COMMON.replace(" 512", ""),
        COMMON.replace(" 200", " ٢٠٠"),
        COMMON.replace("GET /a?q=1 HTTP/1.1", "-"),
        COMMON.replace("GET /a?q=1 HTTP/1.1", ""),
        COMMON.replace("GET /a?q=1 HTTP/1.1", "GET  HTTP/1.1"),
        COMMON.replace("GET /a?q=1 HTTP/1.1", r"\x16\x03\x01"),
        COMBINED + " garbage",
        COMMON + ' "cut in the referrer',
        "garbage",
        "{}",
    ],
)
def test_lines_that_do_not_parse(line: str):
    assert log().event(0, line.encode()) is None


def test_a_time_after_tomorrow_parses_and_is_rejected_downstream():
    event = log().event(0, COMMON.replace("2015", "9999").encode())
    assert event is not None
    assert decode(0, [0], [NOW_MS], [encode(event)]).rejects["reason"].to_list() == ["too_far_ahead"]


def test_bytes_that_are_not_utf8_become_the_servers_own_escapes():
    assert log().event(0, COMMON.encode().replace(b"/a?q=1", b"/caf\xe9")).page == r"/caf\xe9"  # type: ignore[union-attr]


def test_a_visitor_is_one_however_the_address_is_written_and_another_under_another_key():
    ids = [
        log().event(0, COMMON.replace("198.51.100.7", text).encode()).visitor_id for text in ("2001:DB8:0::1", "2001:db8::1")
    ]  # type: ignore[union-attr]
    assert ids[0] == ids[1]
    assert AccessLog("f", "s", "another").event(0, COMMON.encode()).visitor_id != log().event(0, COMMON.encode()).visitor_id  # type: ignore[union-attr]


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=300)
    | st.builds(lambda at, junk: COMBINED.encode()[:at] + junk, st.integers(0, 130), st.binary(max_size=40))
)
def test_any_bytes_are_an_event_that_can_be_encoded_or_none(line: bytes):
    event = log().event(0, line)
    assert event is None or encode(event)


def test_hostile_lines_take_no_quadratic_time():
    for line in (b"1.1.1.1 - - [" * 5_000, COMMON.encode() + b' "' + b"\\" * 60_000, b'" ' * 30_000, b"[" * 60_000):
        assert log().event(0, line) is None


@pytest.mark.parametrize("packed", [False, True])
def test_the_real_log_gives_what_awk_counts(tmp_path: Path, packed: bool):
    text = REAL_LOG.read_bytes()
    file = tmp_path / "access.log"
    file.write_bytes(gzip.compress(text, 1) if packed else text)
    with InputFile(file) as source:
        parser = log()
        events = [parser.event(offset, line) for offset, line in source.lines()]
    parsed = [event for event in events if event is not None]
    fields = [line.split() for line in text.decode().splitlines()]
    assert len(parsed) == len(events) == len(fields) == 10_000
    assert (
        sum(event.bytes_sent for event in parsed) == sum(int(line[9]) for line in fields if line[9] != "-") == 2_747_282_740
    )
    assert sum(event.status >= 500 for event in parsed) == sum(int(line[8]) >= 500 for line in fields)
    assert len({event.visitor_id for event in parsed}) == 1_753
    assert len({event.event_id for event in parsed}) == 10_000
    decoded = decode(0, range(10_000), [NOW_MS] * 10_000, [encode(event) for event in parsed])
    assert len(decoded.events) == 10_000
