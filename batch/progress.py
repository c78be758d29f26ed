"""What a run says of how far it is, to whoever wants to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import SparkContext


class Progress:
    """Nobody wants to know."""

    def begun(self, run_id: int) -> None:
        """The run has this id."""

    def step(self, name: str) -> None:
        """What it does from now on."""

    def planned(self, tasks: int) -> None:
        """The step has so many tasks; it may turn out later that there are more."""

    def advanced(self) -> None:
        """The step has come nearer to its end, by whatever counts where it has no tasks."""

    def published(self) -> None:
        """Readers see the run's rows."""

    @contextmanager
    def on_spark(self, spark: SparkContext) -> Iterator[None]:
        """Within the block the tasks of each step are Spark's. Raises the reason if the watcher broke them off."""
        yield
