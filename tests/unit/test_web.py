"""What goes on beside a web server ends with it, and ends it."""

from __future__ import annotations

import asyncio
import signal

import pytest

from contract.web import beside


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those that the process sent to itself."""
    sent: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    return sent


def test_what_ends_by_itself_ends_the_process_and_says_why(signals: list[int]):
    said: list[str] = []

    async def work() -> None:
        raise ZeroDivisionError("a mistake")

    async def story() -> None:
        async with beside(work(), said.append):
            while not signals:
                await asyncio.sleep(0)

    asyncio.run(story())
    assert signals == [signal.SIGTERM]
    assert said == ["ZeroDivisionError('a mistake')"]


def test_it_is_ended_with_the_block_however_that_ends(signals: list[int]):
    said: list[str] = []
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def story(error: type[Exception] | None = None) -> None:
        async with beside(work(), said.append):
            await asyncio.sleep(0)
            if error:
                raise error

    asyncio.run(story())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(story(ZeroDivisionError))
    assert (len(ended), said, signals) == (2, [], [])
