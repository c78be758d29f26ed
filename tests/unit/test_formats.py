"""Each line of each format is the event or the reject that it must be, and what is told of a log is right."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from contract.errors import InputError
from contract.event import decode
from ingest.formats.catalogue import FORMATS
from ingest.formats.clients import Pseudonyms
from ingest.formats.detect import WantedLog
from ingest.line_records import LineReader
from ingest.readers import reader_for
from tests.fixtures.corpus import KAFKA_TIME_MS
from tests.fixtures.format_corpus import AGENT, AT, CLF_TIME, LOGS, V4, V6, Log

KEY, SOURCE = "a key", "source"
HOSTILE = (
    *(
        "a",
        " ",
        '"',
        "\\",
        '" ',
        "[",
        "]",
        "/",
        "=> generated ",
        "{",
        "}",
        ":",
        " - ",
        ' "x"',
        " 200",
        '" 200 - 0 1 0 - "x" ',
    ),
    *(f"{V4}:1 ", f"{CLF_TIME} ", "a.", " -> ", "\\x", "1.", "0/", "\t", "|", "(", ")"),
)


def encoded(line: str) -> bytes:
    """As it stands in a file: half a surrogate is a byte that is not UTF-8."""
    return line.encode("utf-8", "surrogateescape")


def reader_of(log: Log) -> LineReader:
    wanted = WantedLog("log", log.site, log.format, log.zone, log.keys)
    return reader_for(b"\n".join(encoded(line) for line, _ in log.lines), wanted, lambda: KEY)


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_each_line_of_each_format_is_what_it_must_be(log: Log):
    reader = reader_of(log)
    assert reader.text().startswith(f"read as {log.read_as}")
    offset, expected_reasons = 0, Counter[str]()
    for line, expected in log.lines:
        record = reader.record(SOURCE, offset, encoded(line))
        if expected is None:
            assert record is None
        else:
            assert record is not None
            key, value = record
            decoded = decode(0, [offset], [KAFKA_TIME_MS], [value])
            if isinstance(expected, str):
                expected_reasons[expected] += 1
                assert decoded.rejects["reason"].to_list() == [expected]
            else:
                event = decoded.events.row(0, named=True)
                visitor = Pseudonyms(KEY).of(expected["client"])
                facts = {name: item for name, item in expected.items() if name != "client"} | {"visitor_id": visitor}
                if "event_time" in facts:
                    facts["event_time"] = datetime.fromisoformat(facts["event_time"])
                assert {name: event[name] for name in facts} == facts
                assert (key, event["event_id"]) == (visitor, f"{SOURCE}:{offset}")
        offset += len(encoded(line)) + 1


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_a_block_gives_what_its_lines_give(log: Log):
    one, other = reader_of(log), reader_of(log)
    block = b"\r\n".join(encoded(line) for line, _ in log.lines)
    found = one.read(SOURCE, 0, block)
    offset, alone = 0, []
    for line in block.split(b"\n"):
        alone.append(other.record(SOURCE, offset, line.removesuffix(b"\r")))
        offset += len(line) + 1
    assert list(zip(found.keys, found.values, strict=True)) == [record for record in alone if record is not None]
    assert (found.lines, one.notes.lines) == (len(log.lines), len(log.lines))
    assert one.notes.rejected.total() == found.keys.count(None)


def test_every_format_is_in_the_corpus():
    detected = {log.read_as.partition(":")[0].partition(" ")[0] for log in LOGS}
    assert detected == {one.name for one in FORMATS} - {"vhost"}


@pytest.mark.parametrize("log", [log for log in LOGS if log.zone], ids=lambda log: log.name)
def test_without_a_zone_it_is_told_that_it_is_missing(log: Log):
    with pytest.raises(InputError) as refused:
        reader_for(b"\n".join(encoded(line) for line, _ in log.lines), WantedLog("log"), lambda: KEY)
    assert "whose times have no zone; say of which zone they are, as LOG_ZONE=Europe/Berlin" in str(refused.value)


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_hostile_lines_of_any_format_cost_no_more_than_their_length(one):
    """No time is asserted, but what tries each way through 64 KiB takes minutes."""
    begins = ["", *(line for log in LOGS if log.read_as.startswith(one.name) for line, _ in log.lines)][:6]
    form = one.form([line for line in begins if line])
    for begin in begins:
        for atom in HOSTILE:
            line = begin[: len(begin) * 2 // 3] + atom * (60_000 // len(atom))
            form.read(line)
            form.stop(line)


def test_what_is_before_the_counted_lines_still_says_how_they_are_read():
    fields = "#Fields: c-ip date time cs-method cs-uri-stem sc-status"
    other = "#Fields: date time c-ip cs-method cs-uri-stem sc-status"
    line = f"2026-01-02 10:00:00 {V4} GET /a 200"
    reader = reader_for(f"{fields}\n{V4} 2026-01-02 10:00:00 GET /a 200\n".encode(), WantedLog("log"), lambda: KEY)
    assert reader.read(SOURCE, 900, line.encode()).keys == [None]
    reader.pass_over([other.encode()])
    assert reader.read(SOURCE, 900, line.encode()).keys == [Pseudonyms(KEY).of(V4)]


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    line = f'{V4} - - {CLF_TIME} "GET /a HTTP/1.1" 200 5 "-" "{AGENT}"'
    reader = reader_for(b"\xef\xbb\xbf" + line.encode(), WantedLog("log"), lambda: KEY)
    assert reader.read(SOURCE, 0, b"\xef\xbb\xbf" + line.encode()).keys == [Pseudonyms(KEY).of(V4)]
    event = b'{"event_id":"e","visitor_id":"v"}'
    marked = b"\xef\xbb\xbf" + event
    assert reader_for(marked, WantedLog("log"), lambda: KEY).record(SOURCE, 0, marked) == ("v", event)


def test_times_are_those_of_the_zone_on_that_day():
    lines = [f'{V4} - - [02/{month}/2025 11:00:00] "GET / HTTP/1.1" 200 -'.encode() for month in ("Jan", "Jul")]
    reader = reader_for(b"\n".join(lines), WantedLog("log", zone="Europe/Berlin"), lambda: KEY)
    times = (
        decode(0, [0, 1], [KAFKA_TIME_MS] * 2, reader.read(SOURCE, 0, b"\n".join(lines)).values)
        .events["event_time"]
        .to_list()
    )
    assert times == [datetime(2025, 1, 2, 10, tzinfo=UTC), datetime(2025, 7, 2, 9, tzinfo=UTC)]
    assert AT.endswith("Z")
    assert V6
