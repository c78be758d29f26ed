"""The archiver in a world: the real one, of today's version or of one from before the event had its duration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from ingest.forgotten_log import ForgottenLog
from tests.fixtures.changed_modules import DECLARATION, OF_THE_ARCHIVER, WITHOUT_DURATION, beside
from tests.simulate.engines import Clock
from tests.simulate.process import point

if TYPE_CHECKING:
    from tests.simulate.world import World


def run_archiver(world: World, knows_duration: bool) -> None:
    """The body of an archiver's process."""
    modules = _of_today() if knows_duration else _before_the_duration()
    archiver = modules["ingest.archive"].Archiver(
        world.settings,
        lambda: world.consumer({}),
        world.topic.described,
        modules["ingest.archive_files"].ArchiveFiles(world.store, world.settings.archive_root),
        _NeverStop(world.clock),
        world.history.append,
        world.clock.monotonic,
        world.clock.time,
        rules=ForgottenLog(world.store, world.settings).rules,
    )
    archiver.run()


def _of_today() -> Mapping[str, ModuleType]:
    return {name: import_module(name) for name in OF_THE_ARCHIVER}


@cache
def _before_the_duration() -> Mapping[str, ModuleType]:
    return beside({DECLARATION: WITHOUT_DURATION}, OF_THE_ARCHIVER)


@dataclass(frozen=True)
class _NeverStop:
    """ingest.stop.Stop of a process that nobody asks to stop."""

    clock: Clock

    def is_set(self) -> bool:
        point("archiver: not told to stop")
        return False

    def wait(self, seconds: float) -> bool:
        self.clock.sleep(seconds)
        return False
