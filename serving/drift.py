"""What a run would change for readers, of the offsets that both layers have counted; the views drift_… keep it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from serving.database import Connection, answering, one_value, refusing, transaction


@dataclass(frozen=True)
class Drift:
    """How a run's rows of a view compare with what readers had of the same offsets; the view drift_summary explains each."""

    view_name: str
    row_count: int
    rows_differ: int
    unexplained: int
    dropped: int
    repeated: int
    ledger_difference: int
    allowed_drops: int
    verdict: Literal["equal", "explained", "wrong"]

    def text(self) -> str:
        """For people, in one line."""
        return (
            f"{self.view_name}: of {self.row_count:,} rows {self.rows_differ:,} differ from what readers had "
            f"({self.dropped:,} events dropped, {self.repeated:,} repeats counted, {self.unexplained:,} rows unexplained): "
            f"{self.verdict}"
        )


@dataclass(frozen=True)
class DifferingRow:
    """A row that is not what readers had: of each measure that differs, its value for readers and the run's.

    A sketch's value is how many it stands for; None means that there is no such row.
    """

    bucket: datetime
    keys: dict[str, str]
    cause: str
    values: dict[str, tuple[int | None, int | None]]

    def place(self) -> str:
        """Bucket and keys, as a WHERE clause has them."""
        return " ".join(
            f"{key}={value!r}" for key, value in {"bucket": f"{self.bucket:%Y-%m-%d %H:%M}Z", **self.keys}.items()
        )

    def text(self) -> str:
        """What differs."""
        parts = (f"{measure} was {had}, recomputed {new}" for measure, (had, new) in self.values.items())
        return f"{self.cause}: {'; '.join(parts)}"


def compare(connection: Connection, run_id: int, false_positive_rate: float) -> list[Drift]:
    """What the run, whose rows are all written, would change for readers; recorded for the views drift_…. Role batch.

    Empty, and nothing is recorded, if the run covers offsets that were taken over from the speed layer: readers had less
    then. `false_positive_rate` is the speed layer's. Raises RunRefused if the run has ended.
    """
    with refusing(), transaction(connection):
        # One snapshot: garbage collection may end the run meanwhile and delete what it is compared with.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        if not one_value(connection, "SELECT serving.compare(%s, %s)", [run_id, false_positive_rate]):
            return []
        columns = ", ".join(field.name for field in fields(Drift))
        query = f"SELECT {columns} FROM drift_summary WHERE run_id = %s ORDER BY view_name"
        return [Drift(*row) for row in connection.execute(query.encode(), [run_id])]


def differing_rows(connection: Connection, run_id: int, view_name: str, limit: int) -> list[DifferingRow]:
    """The first rows of drift_rows of a compared run, unexplained ones first. Role batch."""
    with answering(connection):
        rows = connection.execute(
            "SELECT bucket, keys, cause, array_agg(measure), array_agg(speed_value), array_agg(batch_value) FROM drift_rows "
            "WHERE run_id = %s AND view_name = %s GROUP BY bucket, keys, cause "
            "ORDER BY cause <> 'unexplained', bucket, keys LIMIT %s",
            [run_id, view_name, limit],
        ).fetchall()
    return [
        DifferingRow(bucket, keys, cause, dict(zip(measures, zip(had, new, strict=True), strict=True)))
        for bucket, keys, cause, measures, had, new in rows
    ]
