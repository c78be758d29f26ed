"""What a log line becomes, and that the real log gives what awk counts; more lines are in the corpus and in fuzzing."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from contract.event import decode, encode
from ingest.access_log import AccessLog
from ingest.lines import InputFile
from tests.fixtures.log_corpus import COMMON, lines_in

REAL_LOG = Path(os.environ.get("BRAID_TEST_LOG") or Path(__file__).parents[3] / "shared/data/access.log")
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


def test_a_visitor_is_one_however_the_address_is_written_and_another_under_another_key():
    ids = [
        log().event(0, COMMON.replace("198.51.100.7", text).encode()).visitor_id for text in ("2001:DB8:0::1", "2001:db8::1")
    ]  # type: ignore[union-attr]
    assert ids[0] == ids[1]
    assert AccessLog("f", "s", "another").event(0, COMMON.encode()).visitor_id != log().event(0, COMMON.encode()).visitor_id  # type: ignore[union-attr]


@pytest.mark.parametrize("packed", [False, True])
def test_the_real_log_gives_what_awk_counts(tmp_path: Path, packed: bool):
    text = REAL_LOG.read_bytes()
    file = tmp_path / "access.log"
    file.write_bytes(gzip.compress(text, 1) if packed else text)
    with InputFile(file) as source:
        parser = log()
        events = [parser.event(offset, line) for offset, line in lines_in(source)]
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
