"""What is said is a line of text, or one of JSON that says who and when and to what it belongs."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from contract import logs
from contract.errors import ConfigurationError
from contract.settings import Settings


@pytest.fixture(autouse=True)
def _unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_bound", {})


def test_text_is_the_line_alone(capsys: pytest.CaptureFixture[str]):
    logger = logs.begin("ingest archive", Settings())
    logs.bind(correlation_id="abc")
    logger.info("%s", "100 % of it")
    assert capsys.readouterr() == ("", "100 % of it\n")


def test_json_has_time_level_process_message_and_what_is_bound(capsys: pytest.CaptureFixture[str]):
    logger = logs.begin("batch run", Settings(log_format="json", log_level="debug"))
    before = datetime.now(UTC)
    logs.bind(correlation_id="abc")
    logger.warning("run %s:\n%s", 12, '"published"')
    logger.info("a commit", extra={"partition": 1, "counted": 7})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    at = datetime.fromisoformat(first.pop("time"))
    assert abs((at - before).total_seconds()) < 60
    assert first == {
        "level": "WARNING",
        "process": "batch run",
        "message": 'run 12:\n"published"',
        "correlation_id": "abc",
    }
    assert (second["partition"], second["counted"], second["correlation_id"]) == (1, 7, "abc")


def test_a_stack_trace_stays_one_line(capsys: pytest.CaptureFixture[str]):
    logger = logs.begin("speed sketch_bolt", Settings(log_format="json"))
    try:
        raise ZeroDivisionError("a record")
    except ZeroDivisionError:
        logger.exception("not counted")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: a record" in json.loads(line)["exc_info"]


def test_once_begun_again_a_line_is_said_once(capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        logs.begin("ingest archive", Settings()).info("once")
    assert capsys.readouterr().err == "once\nonce\n"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (Settings(log_format="xml"), "BRAID_LOG_FORMAT='xml' is not text or json"),
        (Settings(log_level="all"), "BRAID_LOG_LEVEL='all' is not info or debug"),
    ],
)
def test_what_is_no_format_and_no_level_is_refused(settings: Settings, complaint: str):
    with pytest.raises(ConfigurationError, match=complaint):
        logs.begin("any", settings)
