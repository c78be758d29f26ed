"""Commands that have a stack of their own end in one line where they cannot go on."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.fixtures.own_stack import told


@pytest.fixture(autouse=True)
def _earlier_handler() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_a_command_that_fails_is_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended, told("drill"):
        subprocess.run(["false", "up"], check=True)
    assert (ended.value.code, capsys.readouterr().err) == (1, "drill: false up failed; the reason is above\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_is_said(number: int, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended, told("age"):
        signal.raise_signal(number)
    assert (ended.value.code, capsys.readouterr().err) == (130, "age: interrupted\n")


def test_a_wrong_answer_is_for_the_command_to_say():
    with pytest.raises(AssertionError, match="an answer"), told("heal"):
        raise AssertionError("an answer")
