"""Sending: what a failed delivery says, what becomes of lines, and how the verbs end."""

from __future__ import annotations

import gzip
import io
import os
import re
import signal
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from contract.errors import DeliveryFailed, InputError
from contract.event import MAX_VALUE_BYTES
from contract.rejected_line import RejectedLine, rejected_line
from contract.settings import Settings
from ingest import __main__ as main_module
from ingest.__main__ import main
from ingest.line_records import EventLines
from ingest.lines import InputFile
from ingest.produce import produce, wanted_log
from ingest.sender import Sender
from ingest.stop import Stop, stop_on_signals
from ingest.summary import Summary
from tests.fixtures.eventually import eventually
from tests.fixtures.log_corpus import lines_in
from tests.fixtures.memory import MemoryStore
from tests.fixtures.memory_producer import MemoryProducer

LINE = b'198.51.100.7 - - [17/May/2015:12:05:03 +0200] "GET /a HTTP/1.1" 200 512'
EVENT = (
    '{"event_id":"%s","event_time":"2015-05-17T10:05:03Z","site":"demo","page":"/","visitor_id":"v",'
    '"status":%s,"bytes_sent":5}'
)


class Place:
    """A Kafka and a register of its own; `count` counts a file as `make replay LOG=` does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.producer, self.store, self._folder = MemoryProducer(), MemoryStore(), folder
        self.said: list[str] = []
        (folder / "visitor_key").write_text("key")
        monkeypatch.setattr("ingest.produce.connect", lambda settings: self.producer)
        monkeypatch.setattr("ingest.produce.next_offsets", lambda settings: {"0": len(self.producer.records)})

    def count(
        self,
        content: bytes,
        site: str | None = "demo",
        name: str = "log",
        keys: dict[str, str] | None = None,
        **options: bool,
    ) -> Summary:
        file = InputFile(Path(name), io.BytesIO(content), len(content))  # type: ignore[arg-type]
        settings = Settings(secrets_dir=str(self._folder))
        wanted = wanted_log(name, site, keys=keys)
        return produce(settings, file, wanted, Stop(), self.said.append, store=self.store, **options)

    def events(self) -> list[dict[str, Any]]:
        """All records, which are events."""
        return [msgspec.json.decode(value) for value in self.producer.values]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_every_line_is_counted_as_what_became_of_it(place: Place):
    lines = [LINE, b"", b"  ", b"garbage", LINE, LINE.replace(b'" 200', b'" 099'), LINE.replace(b"2015", b"9999")]
    summary = place.count(b"\n".join(lines) + b"\n")
    assert (summary.lines, summary.counted, summary.empty, summary.sent) == (7, 2, 2, 5)
    assert summary.quarantined == {"not_a_log_line": 1, "out_of_range": 1, "too_far_ahead": 1}
    assert place.said == ["read as combined: 4 of the first 5 lines fit"]
    rejected = rejected_line(place.producer.values[1])
    assert rejected is not None
    where = {"at": rejected.at, "line": "garbage", "site": "demo"}
    assert rejected == RejectedLine(rejected="not_a_log_line", detail="no time at column 8", **where)
    assert rejected.at.endswith(f":{len(LINE) + 5}")
    assert summary.text() == (
        "7 lines: 2 counted, 0 repeats, 3 quarantined (not_a_log_line 1, out_of_range 1, too_far_ahead 1), "
        "2 empty or remarks"
    )
    assert summary.notes == ["1 of 7 lines did not parse, most often: 1 x not_a_log_line: no time at column 8"]
    source = msgspec.json.decode(summary.json())["source"]
    assert (source["lines"], source["counted"], source["quarantined"]) == (7, 2, summary.quarantined)
    assert summary.next_offsets == {"0": 5}


def test_json_lines_are_judged_by_the_decoder_and_an_id_that_comes_again_is_a_repeat(place: Place):
    lines = [EVENT % ("a", 200), EVENT % ("b", '"200"'), EVENT % ("a", 200), EVENT % ("c", 600), "{"]
    summary = place.count("\n".join([*lines, ""]).encode(), site=None)
    assert (summary.lines, summary.counted, summary.repeats, summary.sent) == (5, 1, 1, 5)
    assert summary.quarantined == {"wrong_type": 1, "out_of_range": 1, "not_json": 1}
    with pytest.raises(
        InputError, match="its lines are events, each of which says its own site, so SITE=demo is not for them"
    ):
        place.count("\n".join([*lines, lines[0], ""]).encode())


def test_what_was_counted_before_is_a_repeat_and_is_sent_only_if_that_is_wanted(place: Place):
    place.count(LINE + b"\ngarbage\n")
    summary = place.count(LINE + b"\ngarbage\n" + LINE + b"\n", name="renamed.1")
    assert (summary.lines, summary.counted, summary.repeats, summary.quarantined) == (3, 1, 2, {})
    assert summary.source
    assert (summary.source.lines, summary.source.counted, summary.source.names) == (3, 2, ("log", "renamed.1"))
    before = place.producer.values[:]
    again = place.count(LINE + b"\ngarbage\n" + LINE + b"\n", again=True)
    assert place.producer.values == [*before, *before]
    assert again.text() == "3 lines: 0 counted, 3 repeats (3 of them sent again), 0 quarantined, 0 empty or remarks"
    assert again.source == summary.source


def test_a_line_without_its_end_waits_unless_it_is_final(place: Place):
    summary = place.count(LINE + b"\n" + LINE[:-3])
    assert (summary.lines, summary.counted, summary.left) == (1, 1, 1)
    assert summary.text().endswith(
        "0 empty or remarks; the last line has no end yet and is left for next time, FINAL=1 takes it as it is"
    )
    assert place.count(LINE + b"\n" + LINE).counted == 0
    summary = place.count(LINE + b"\n" + LINE, final=True)
    assert (summary.counted, summary.left) == (1, 0)


def test_a_line_too_long_to_be_seen_whole_is_not_skipped_as_empty(place: Place):
    summary = place.count(b"\n".join([LINE, b" " * MAX_VALUE_BYTES, b" " * (MAX_VALUE_BYTES + 1), b""]))
    assert (summary.counted, summary.empty, summary.quarantined) == (1, 1, {"too_large": 1})
    assert place.producer.values[1] == b" " * (MAX_VALUE_BYTES + 1)


def test_a_file_that_fits_nothing_is_refused_and_nothing_is_sent(place: Place):
    with pytest.raises(InputError, match=r"log: no line of the first 2 is of a format that is known, so nothing was sent"):
        place.count(b"what is this\nand this\n")
    assert (place.producer.values, place.store.files) == ([], {})


def test_lines_of_csv_are_counted_as_a_logs_are(place: Place):
    keys = {"page": "url", "client": "ip", "status": "code", "event_time": "at", "bytes_sent": "7"}
    header, row = b"at,ip,url,code\r\n", b'2026-01-02T03:04:05Z,192.0.2.%d,"/a,%d",200.0\r\n'
    two = header + row % (1, 1) + row % (2, 2)
    assert place.count(two, keys=keys).counted == 2
    bad = b'2026-01-02T03:04:05Z,192.0.2.1,"/a\r\nb",200\r\n'
    summary = place.count(two + row % (3, 3) + bad, keys=keys, name="renamed.csv")
    assert (summary.counted, summary.repeats, summary.quarantined) == (1, 3, {"not_a_log_line": 2})
    del place.producer.records[3:]
    events = place.events()
    assert [(event["page"], event["site"], event["status"], event["bytes_sent"]) for event in events] == [
        (f"/a,{number}", "demo", 200, 7) for number in (1, 2, 3)
    ]
    assert len({event["visitor_id"] for event in events}) == 3


def test_a_parquet_file_is_one_source(place: Place):
    content = io.BytesIO()
    table = {
        "at": [datetime(2026, 1, 2, tzinfo=UTC)] * 3,
        "who": ["a", "b", None],
        "page": ["/1", "/2", "/3"],
        "status": [200.0, 404.0, 200.0],
    }
    pl.DataFrame(table).write_parquet(content)
    keys = {"event_time": "at", "visitor_id": "who", "bytes_sent": "0"}
    summary = place.count(content.getvalue(), keys=keys, name="views.parquet")
    assert (summary.lines, summary.counted, summary.quarantined) == (3, 2, {"missing_field": 1})
    assert [(event["page"], event["status"], event["site"]) for event in place.events()[:2]] == [
        ("/1", 200, "demo"),
        ("/2", 404, "demo"),
    ]
    again = place.count(gzip.compress(content.getvalue()), keys=keys, name="other")
    assert (again.counted, again.repeats, len(place.producer.records)) == (0, 3, 3)
    with pytest.raises(InputError, match=r"views.parquet: it has no column for event_time, visitor_id, bytes_sent"):
        place.count(content.getvalue(), "other", name="views.parquet")


def test_a_directive_holds_for_lines_that_come_later(place: Place):
    begun = b"#Fields: c-ip date time cs-method cs-uri-stem sc-status\n192.0.2.1 2026-01-02 10:00:00 GET /a 200\n"
    more = b"#Fields: date time c-ip cs-method cs-uri-stem sc-status\n2026-01-02 10:00:00 192.0.2.1 GET /b 200\n"
    last = b"2026-01-02 10:00:00 192.0.2.1 GET /c 200\n"
    for content in (begun, begun + more, begun + more + last):
        assert place.count(content).counted == 1
    assert [event["page"] for event in place.events()] == ["/a", "/b", "/c"]
    assert len({event["visitor_id"] for event in place.events()}) == 1


def test_a_pipe_of_which_nothing_can_be_read_yet_waits_for_more(place: Place, tmp_path: Path):
    reading, writing = os.pipe()
    pipe = open(reading, "rb", buffering=0)  # noqa: SIM115 (produce closes it)
    os.write(writing, b"Server starts\n")
    file = InputFile(Path("stdin"), pipe, live=True)
    settings, said = Settings(secrets_dir=str(tmp_path)), []

    def read() -> None:
        said.append(produce(settings, file, wanted_log("stdin", "demo"), Stop(), print, store=place.store))

    thread = threading.Thread(target=read)
    thread.start()
    eventually(lambda: _equal(file.position, len(b"Server starts\n")), within_s=60)
    os.write(writing, LINE + b"\n")
    eventually(lambda: _equal(len(place.producer.values), 2), within_s=60)
    os.close(writing)
    thread.join()
    assert [(one.counted, one.quarantined) for one in said] == [(1, {"not_a_log_line": 1})]


def test_a_pipe_of_which_nothing_can_be_read_to_its_end_is_refused(place: Place, tmp_path: Path):
    reading, writing = os.pipe()
    os.write(writing, b"Server starts\n")
    os.close(writing)
    pipe = open(reading, "rb", buffering=0)  # noqa: SIM115 (produce closes it)
    file = InputFile(Path("stdin"), pipe, live=True)
    with pytest.raises(InputError, match="stdin: no line of the first 1 is of a format"):
        produce(Settings(secrets_dir=str(tmp_path)), file, wanted_log("stdin"), Stop(), print, store=place.store)


def _equal(found: object, expected: object) -> None:
    assert found == expected


def test_a_pipe_of_no_known_size_is_counted_line_by_line_until_it_ends(place: Place, tmp_path: Path):
    reading, writing = os.pipe()
    pipe = open(reading, "rb", buffering=0)  # noqa: SIM115 (produce closes it)
    file = InputFile(Path("stdin"), pipe, live=True)
    said: list[Summary] = []
    thread = threading.Thread(
        target=lambda: said.append(
            produce(Settings(secrets_dir=str(tmp_path)), file, wanted_log("stdin", "demo"), Stop(), print, store=place.store)
        )
    )
    thread.start()

    def arrived(number: int) -> None:
        assert len(place.producer.values) == number

    for number in (1, 3, 5):
        os.write(writing, LINE + b"\n" + LINE[:20])
        eventually(partial(arrived, number), within_s=60)
        os.write(writing, LINE[20:] if number == 5 else b"\n")
    os.close(writing)
    thread.join()
    assert [(one.lines, one.counted, one.left) for one in said] == [(5, 3, 1)]
    assert said[0].source
    assert said[0].source.quarantined == {"not_a_log_line": 2}


def test_a_full_queue_is_waited_for():
    producer = MemoryProducer(room=10)
    sender = Sender(Settings(), producer, Stop())  # type: ignore[arg-type]
    sender.send([(None, LINE)] * 1_000)
    sender.finish()
    assert sender.sent == sender.delivered == len(producer.values) == 1_000


def test_a_failed_delivery_stops_with_numbers_and_the_next_command():
    sender = Sender(Settings(), MemoryProducer(refuse=True), Stop())  # type: ignore[arg-type]
    sender.send([(None, LINE)] * 5_000)
    with pytest.raises(DeliveryFailed) as failed:
        sender.poll()
    assert str(failed.value) == (
        "Kafka at kafka:29092 did not take 5000 records after 0 delivered ones (Local: Message timed out); "
        "`make status` shows what is up; the same command again sends the rest, what is there counts once"
    )


def test_a_key_is_what_decode_will_take_for_the_visitor():
    record = partial(EventLines().record, "")
    assert record(0, b'{"visitor_id":"a","visitor_id":"b"}') == ("b", b'{"visitor_id":"a","visitor_id":"b"}')
    for line in (b"[]", b'{"visitor_id":null}', b'{"visitor_id":"\xff"}', b"[" * 100_000):
        assert record(0, line) == (None, line)


@pytest.mark.parametrize(
    "verb", ["topic", "produce", "follow", "sources", "replay", "replay-quarantine", "simulate", "archive"]
)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "usage: python -m ingest" in capsys.readouterr().out


def test_an_unusable_file_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["produce", str(tmp_path)]) == 1
    assert capsys.readouterr() == ("", f"ingest produce: {tmp_path} cannot be read: Is a directory\n")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("log", ["--site", ""], "site '' is not a printable text of 1 to 253 characters; give another with SITE="),
        ("log", ["--site", "\udcff"], r"site '\udcff' is not a printable text"),
        ("log", ["--zone", "nowhere"], "LOG_ZONE='nowhere' is no zone such as Europe/Berlin, UTC or +02:00"),
        ("log", ["--map", "page"], "MAP= has 'page', which is not of the form field=name"),
        ("log", [], "secret /nowhere/visitor_key cannot be read; `make up` creates the secrets"),
    ],
)
def test_an_unusable_name_site_or_key_is_said_before_anything_is_sent(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: list[str],
    message: str,
):
    monkeypatch.setenv("BRAID_SECRETS_DIR", "/nowhere")
    (tmp_path / name).write_bytes(LINE)
    assert main(["produce", str(tmp_path / name), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_its_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def interrupted(settings: Settings) -> bool:
        raise KeyboardInterrupt("interrupted: 3 records")

    monkeypatch.setattr(main_module, "ensure_topic", interrupted)
    assert main(["topic"]) == 130
    assert capsys.readouterr().err == "ingest topic: interrupted: 3 records\n"


def test_ctrl_c_while_sending_says_what_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Interrupted(MemoryProducer):
        def poll(self, timeout: float) -> int:
            if len(self.records) > 1_000:
                signal.raise_signal(signal.SIGINT)
            return super().poll(timeout)

        def flush(self, timeout: float) -> int:
            return 0

        def purge(self) -> None:
            pass

    (tmp_path / "visitor_key").write_text("key")
    (tmp_path / "log").write_bytes((LINE + b"\n") * 30_000)
    monkeypatch.setenv("BRAID_SECRETS_DIR", str(tmp_path))
    producer = Interrupted()
    monkeypatch.setattr("ingest.produce.connect", lambda settings: producer)
    monkeypatch.setattr("ingest.produce.Hdfs", lambda url: MemoryStore())
    assert main(["produce", str(tmp_path / "log")]) == 130
    said = re.fullmatch(
        "read as combined: 1,000 of the first 1,000 lines fit\n"
        r"ingest produce: interrupted: of ([0-9,]+) lines of log ([0-9,]+) are in Kafka as records; "
        r"the same command again sends the rest, what is there counts once\n",
        capsys.readouterr().err,
    )
    assert said
    sent, arrived = (int(number.replace(",", "")) for number in said.groups())
    assert 0 < sent <= arrived == len(producer.records) < 30_000


def test_a_stop_waits_no_longer_than_it_must_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        assert not stop.wait(0.01)
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(60)
        stop.raise_if_interrupted()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stop.raise_if_interrupted()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_pipe_is_read_like_a_file(tmp_path: Path):
    content = b"".join(b"line %d\n" % number for number in range(50_000))
    (tmp_path / "log.gz").write_bytes(gzip.compress(content))
    with (tmp_path / "log.gz").open("rb", buffering=0) as pipe, InputFile(Path("name.log"), pipe, 99) as file:
        assert (file.path.name, file.size_bytes, file.is_compressed) == ("name.log", 99, True)
        assert b"".join(line + b"\n" for _, line in lines_in(file)) == content
        assert file.read_bytes == (tmp_path / "log.gz").stat().st_size
