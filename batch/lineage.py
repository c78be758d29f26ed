"""One OpenLineage event a run, told when the run has ended; no run fails for it.

Its run id is the correlation id of all that the run logs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from batch.run import Done
from batch.watch import Watch
from contract.settings import Settings


class Lineage:
    """Tells of the run within the block, as far as `watch` has seen it; `done` is set to what it was, if it ended well."""

    def __init__(self, settings: Settings, correlation_id: str, watch: Watch, say: Callable[[str], None]) -> None:
        self._settings, self._id, self._watch, self._say = settings, correlation_id, watch, say
        self._began_at = datetime.now(UTC)
        self.done: Done | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        watch = self._watch
        if not watch.run_id:
            return
        # guard: no run fails because nobody hears of it
        try:
            # It takes a second to load, which readers need not wait for.
            from batch.lineage_event import Ended, tell

            tell(self._settings, Ended(watch.run_id, self._id, self._began_at, watch.is_published, self.done, error))
        except Exception as problem:
            self._say(f"run {watch.run_id}: its OpenLineage event was not told: {problem}")
