"""Back to an earlier run: the views answer from it at once, and speed rows fill what came after its cut."""

from __future__ import annotations

from dataclasses import dataclass

from contract.master import OffsetRange
from serving.database import Connection, answering, refusing


@dataclass(frozen=True)
class RolledBack:
    """`run_id` is live, as a new generation, and `before_run_id` was; of each partition the offsets that speed rows fill."""

    generation: int
    run_id: int
    before_run_id: int
    filled: tuple[OffsetRange, ...]

    def text(self) -> str:
        """For people: a line, and one a partition."""
        head = f"run {self.run_id} is live in place of run {self.before_run_id}, as generation {self.generation}"
        parts = (
            f"partition {part.partition}: batch rows below offset {part.first_offset:,}, "
            f"speed rows from there up to {part.next_offset:,}"
            for part in self.filled
        )
        return "\n".join([head, *parts])


def rollback(connection: Connection, run_id: int | None = None) -> RolledBack:
    """The views answer from a kept run again, by default the one before the live one. Role batch.

    A batch run that was planned before is refused when it publishes. Raises RollbackRefused, and changes nothing, if the run
    is not kept or is live, or if offsets after its cut would be missing.
    """
    with refusing(), answering(connection):
        rows = connection.execute("SELECT * FROM serving.rollback(%s)", [run_id]).fetchall()
    generation, to_run_id, before_run_id = rows[0][:3]
    filled = tuple(OffsetRange(*row[3:]) for row in rows if row[3] is not None)
    return RolledBack(generation, to_run_id, before_run_id, filled)
