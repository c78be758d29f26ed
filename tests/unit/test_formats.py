"""Each line of each format is the event or the reject that it must be, and what is told of a log is right."""

from __future__ import annotations

import hmac
from collections import Counter
from datetime import UTC, datetime

import pytest

from contract.errors import InputError
from contract.event import decode
from ingest.formats.catalogue import FORMATS
from ingest.formats.clients import Pseudonyms, client_address
from ingest.formats.detect import WantedLog
from ingest.formats.events import Events, Rules
from ingest.formats.logged import Rejected
from ingest.formats.notes import Notes
from ingest.formats.nothing_fits import masked
from ingest.formats.talk import is_talk
from ingest.formats.text_formats import HAPROXY
from ingest.formats.times import Times
from ingest.line_records import LineReader
from ingest.readers import reader_for
from tests.fixtures.corpus import KAFKA_TIME_MS
from tests.fixtures.format_corpus import AGENT, AT, CLF_TIME, LOGS, NOT_A_LOG_LINE, V4, V6, Log

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


@pytest.mark.parametrize("key", ["", "k", "k" * 64, "k" * 65, "clé"])
def test_a_pseudonym_is_the_beginning_of_an_hmac(key: str):
    expected = hmac.new(key.encode(), V4.encode(), "sha256").hexdigest()[:32]
    pseudonyms = Pseudonyms(key)
    assert [pseudonyms.of(V4), pseudonyms.of("other.test") == expected, pseudonyms.of(V4)] == [expected, False, expected]


@pytest.mark.parametrize(
    "text", ["2001:db8::1", "2001:DB8:0::1", "[2001:db8::1]:443", "2001:0db8::0001", "2001:db8::1%eth0"]
)
def test_an_address_has_one_spelling(text: str):
    assert client_address(text) == "2001:db8::1"


@pytest.mark.parametrize("text", ["::ffff:192.0.2.7", "::ffff:c000:207", "192.0.2.7:80"])
def test_a_mapped_address_is_the_one_that_it_stands_for(text: str):
    assert client_address(text) == V4


def test_an_address_whose_port_is_told_has_a_port_behind_it():
    assert client_address("2001:db8::1:443", with_port=True) == "2001:db8::1"


def test_visitors_are_the_same_after_they_were_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ingest.formats.events._CACHED", 2)
    texts = [f"192.0.2.{last} - -" for last in (7, 8, 9, 7, 8, 9, 7)]
    visitor_id = Events(Rules("demo"), Pseudonyms(KEY), Times(), Notes()).visitor_id
    assert [visitor_id(text) for text in texts] == [Pseudonyms(KEY).of(text.split()[0]) for text in texts]


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


@pytest.mark.parametrize(
    "text",
    [
        "[29/Nov/2026:18:34:53 -03-30]",
        "18:34:53",
        "2026-11-29 18:34:53:123",
        "at 18:34:53: started",
        "2026-11-29T18:34:53Z",
        "Puma::Server",
        "1.2.3",
    ],
)
def test_a_time_is_shown(text: str):
    assert masked(f"{text} x") == f"{text} x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("192.0.2.7", "xxx.x.x.x"),
        ("client:192.0.2.7,", "client:xxx.x.x.x,"),
        ("192.0.2.7:5000", "xxx.x.x.x:5000"),
        ("2001:db8::7", "xxxx:xxx::x"),
        ("client:2001:db8::7", "client:xxxx:xxx::x"),
        ("[2001:db8::7]:5000", "[xxxx:xxx::x]:5000"),
        ("2001:db8::7:5000", "xxxx:xxx::x:xxxx"),
        ("::1", "::x"),
        ("10:20:30:40:50:60:70:80", "xx:xx:xx:xx:xx:xx:xx:xx"),
        ("2001:db8:0:1", "xxxx:xxx:x:x"),
        ("::ffff:192.0.2.7", "::xxxx:xxx.x.x.x"),
    ],
)
def test_an_address_is_hidden_and_nothing_moves(text: str, shown: str):
    assert masked(f"{text} 18:34:53") == f"{shown} 18:34:53"


def refused(*lines: str) -> str:
    with pytest.raises(InputError) as refusal:
        reader_for("\n".join(lines).encode(), WantedLog("log"), lambda: KEY)
    return str(refusal.value)


def test_a_line_of_requests_is_shown_and_not_what_a_log_begins_with():
    banner = ["A server, version 2", "A server listens", "A server waits"]
    requests = [f"who={V4} when=18:34:0{second} what=/a-{second}" for second in range(4)]
    assert "One of them is 'who=xxx.x.x.x when=18:34:00 what=/a-0'" in refused(*banner, *requests)
    methods = [f"-> {V4} GET /a", f"<- {V4} done", f"<- {V4} closed", f"-> {V4} HEAD /b"]
    assert "One of them is '-> xxx.x.x.x GET /a'" in refused("a GETTER", *methods)


def test_the_commonest_keys_are_told_and_not_those_that_a_log_begins_with():
    lines = ['{"message": "started"}', *('{"who": "x", "when": 1}',) * 2]
    assert "Their keys are who, when;" in refused(*lines)


def test_the_word_of_a_prefix_that_is_not_known_is_nobodys_client():
    line = f'web1 app - 192.0.2.7 - - {CLF_TIME} "GET /a HTTP/1.1" 200 5 "-" "-"'
    assert refused(line, line) == (
        "its lines are of format combined, but none counts: the client is in a later field, the first is a host or of a "
        "prefix that is not known"
    )


def test_a_line_that_ends_within_its_request_is_told_as_cut():
    clf = reader_of(Log("x", "", ((f'{V4} - - {CLF_TIME} "GET /a HTTP/1.1" 200 5', None),)))
    cut = f'{V4} - - {CLF_TIME} "GET /{"x" * 1_000}'.encode()
    clf.record(SOURCE, 0, cut)
    http = f'{V4}:1 [02/Jan/2026:10:00:02.000] in be/s1 0/0/0/2/9 200 5 - - ---- 1/1/0/0/0 0/0 "GET /{"x" * 900}'
    for why in (*clf.notes.rejected, Rejected.of(HAPROXY.stop(http))):
        assert why.reason == NOT_A_LOG_LINE
        assert why.detail.endswith(": the line was cut, as HAProxy does after 1,024 bytes unless `log` has a greater `len`")


def test_what_a_logger_writes_between_requests_may_be_anything_but_what_begins_with_an_address():
    assert is_talk("Starting factory <a factory>", of_logger=True)
    assert not is_talk("Starting factory <a factory>")
    for client in (V4, V6, f'"{V4}"', f"{V4}:5000", f"[{V6}]:5000"):
        assert not is_talk(f"{client} - - {CLF_TIME}", of_logger=True)
