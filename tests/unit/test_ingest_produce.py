"""Sending: what is counted, what a failed delivery says, and how the verbs end."""

from __future__ import annotations

import gzip
import signal
from pathlib import Path

import msgspec
import pytest

from contract.errors import DeliveryFailed
from contract.event import EVENT_ID_LENGTH, MAX_VALUE_BYTES
from contract.rejected_line import RejectedLine, rejected_line
from contract.settings import Settings
from ingest import __main__ as main_module
from ingest.__main__ import main
from ingest.line_records import EventLines
from ingest.lines import InputFile
from ingest.produce import Result, send_records, source_of
from ingest.sender import Sender
from ingest.stop import Stop, stop_on_signals
from tests.fixtures.log_corpus import lines_in, log_lines
from tests.fixtures.memory_producer import MemoryProducer

LINE = b'198.51.100.7 - - [17/May/2015:12:05:03 +0200] "GET /a HTTP/1.1" 200 512'


def sent(lines: list[bytes], producer: MemoryProducer) -> tuple[Result, Sender]:
    sender, result = Sender(Settings(), producer, Stop()), Result()  # type: ignore[arg-type]
    for _ in send_records([log_lines().read(0, b"\n".join(lines))], sender, result):
        pass
    sender.finish()
    return result, sender


def test_every_line_is_counted_as_what_became_of_it():
    producer = MemoryProducer()
    result, sender = sent([LINE, b"", b"  ", b"garbage", LINE], producer)
    assert (result.lines, result.sent, result.unparsed, result.skipped_empty) == (5, 3, 1, 2)
    assert rejected_line(producer.values[1]) == RejectedLine(
        rejected="not_a_log_line", detail="no time at column 8", at="access.log:75", line="garbage"
    )
    assert sender.delivered == 3
    assert result.text() == "5 lines, 3 sent, 1 of them quarantined (did not parse), 2 empty lines skipped"


def test_a_line_too_long_to_be_seen_whole_is_not_skipped_as_empty():
    producer = MemoryProducer()
    result, _ = sent([b" " * MAX_VALUE_BYTES, b" " * (MAX_VALUE_BYTES + 1)], producer)
    assert (result.skipped_empty, result.unparsed) == (1, 1)
    assert producer.values == [b" " * (MAX_VALUE_BYTES + 1)]


def test_a_full_queue_is_waited_for():
    producer = MemoryProducer(room=10)
    result, sender = sent([LINE] * 1_000, producer)
    assert result.sent == sender.delivered == len(producer.values) == 1_000


def test_a_failed_delivery_stops_with_numbers_and_the_next_command():
    with pytest.raises(DeliveryFailed) as failed:
        sent([LINE] * 5_000, MemoryProducer(refuse=True))
    assert str(failed.value) == (
        "Kafka at kafka:29092 did not take 5000 records after 0 delivered ones (Local: Message timed out); "
        "`make status` shows what is up; the same command again sends the rest, what is there counts once"
    )


def test_a_key_is_what_decode_will_take_for_the_visitor():
    record = EventLines().record
    assert record(0, b'{"visitor_id":"a","visitor_id":"b"}') == ("b", b'{"visitor_id":"a","visitor_id":"b"}')
    for line in (b"[]", b'{"visitor_id":null}', b'{"visitor_id":"\xff"}', b"[" * 100_000):
        assert record(0, line) == (None, line)


def test_the_result_for_programs():
    assert msgspec.json.decode(Result(3, 2, 1, 1, {"0": 2}, "read", {"not_a_request": 1}, ["a note"]).json()) == {
        "lines": 3, "sent": 2, "unparsed": 1, "skipped_empty": 1, "next_offsets": {"0": 2}, "read_as": "read",
        "rejected": {"not_a_request": 1}, "notes": ["a note"],
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["topic", "produce", "replay", "replay-quarantine", "simulate", "archive"])
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
        ("log", ["--site", ""], "site '' is not a printable text of 1 to 253 characters; give another with --site"),
        ("log", ["--site", "\udcff"], r"site '\udcff' is not a printable text"),
        ("log", ["--zone", "nowhere"], "log: LOG_ZONE='nowhere' is no zone such as Europe/Berlin, UTC or +02:00"),
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
            signal.raise_signal(signal.SIGINT)
            return super().poll(timeout)

        def flush(self, timeout: float) -> int:
            return 0

        def purge(self) -> None:
            pass

    (tmp_path / "visitor_key").write_text("key")
    (tmp_path / "log").write_bytes((LINE + b"\n") * 30_000)
    monkeypatch.setenv("BRAID_SECRETS_DIR", str(tmp_path))
    monkeypatch.setattr("ingest.produce.connect", lambda settings: Interrupted())
    assert main(["produce", str(tmp_path / "log")]) == 130
    assert capsys.readouterr().err == (
        "read as combined: 1,000 of the first 1,000 lines fit\n"
        "ingest produce: interrupted: of 3,640 lines of log 3,640 are in Kafka as records; "
        "the same command again sends the rest, what is there counts once\n"
    )


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


def test_a_source_is_one_file_of_one_site_as_it_grows():
    source = source_of("access.log", "demo", b"first line")
    assert source.startswith("access.log~")
    assert source == source_of("access.log", "demo", b"first line")
    others = {
        source_of("access.log.1", "demo", b"first line"),
        source_of("access.log", "other", b"first line"),
        source_of("access.log", "demo", b"the first line after a rotation"),
    }
    assert len(others | {source}) == 4
    assert len(source_of("a" * 250, "demo", b"") + ":" + "9" * 20) <= EVENT_ID_LENGTH


def test_a_pipe_is_read_like_a_file(tmp_path: Path):
    content = b"".join(b"line %d\n" % number for number in range(50_000))
    (tmp_path / "log.gz").write_bytes(gzip.compress(content))
    with (tmp_path / "log.gz").open("rb", buffering=0) as pipe, InputFile(Path("name.log"), pipe, 99) as file:
        assert (file.path.name, file.size_bytes, file.first_line()) == ("name.log", 99, b"line 0")
        assert b"".join(line + b"\n" for _, line in lines_in(file)) == content
        assert file.read_bytes == (tmp_path / "log.gz").stat().st_size
