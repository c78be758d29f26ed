"""What must be true after every step: merged = oracle, the ledger exact, the archive without gap."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import psycopg
import pyarrow.parquet as pq

from contract.master import MASTER, QUARANTINE, archived_next_offset, covering
from contract.views import VIEWS, with_rollups
from tests.oracle import Record, Rejected, event_of, expected_rows, pipeline
from tests.simulate.world import World

_LEDGER = (
    "SELECT partition, next_offset, in_flight, received, counted, duplicate, quarantined, difference FROM ledger ORDER BY 1"
)
# Offsets that a run took over from a lagging speed layer, and that no live run covers.
_IN_FLIGHT = """
SELECT r.partition, r.speed_offset, r.next_offset FROM serving.run_cut AS r
LEFT JOIN serving.live_cut AS c USING (partition)
WHERE r.next_offset > coalesce(c.next_offset, 0) AND r.next_offset > r.speed_offset ORDER BY 1, 2
"""


class Checker:
    """Compares a world with the truth; `eye` is a connection of its own, as superuser."""

    def __init__(self, world: World, eye: psycopg.Connection[Any]) -> None:
        self._world, self._eye = world, eye
        self._commits = -1
        self._files: dict[str, tuple[bytes, int]] = {}
        self._positions: dict[int, int] = {}
        self._archived: dict[int, int] = {}
        self._judged: dict[int, list[tuple[Record, str]]] = {}

    def check(self) -> None:
        """AssertionError that says what differs."""
        if self._world.sessions.commits != self._commits:
            self._commits = self._world.sessions.commits
            self._check_database()
        if self._world.store.files != self._files:
            self._check_archive()
            self._files = dict(self._world.store.files)

    def check_end(self) -> None:
        """All that was produced is counted, by a batch run, unless records were deleted before they were read."""
        self._commits = -1
        self.check()
        if not self._world.records_are_lost():
            ledger = self._eye.execute("SELECT partition, next_offset, batch_next_offset, in_flight FROM ledger").fetchall()
            ends = self._world.producers.ends()
            assert {p: (a, b, c) for p, a, b, c in ledger} == {p: (end, end, 0) for p, end in ends.items()}

    def _check_database(self) -> None:
        with self._eye.transaction():
            self._eye.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            ledger = self._eye.execute(_LEDGER).fetchall()
            in_flight = self._eye.execute(_IN_FLIGHT).fetchall()
            merged = {view.name: self._rows(view) for view in with_rollups(VIEWS)}
            drift = self._eye.execute("SELECT * FROM drift_summary WHERE verdict <> 'equal'").fetchall()
            quarantine = self._eye.execute('SELECT partition, "offset" FROM quarantine ORDER BY 1, 2').fetchall()
        assert not drift, f"batch and speed rows of the same offsets differ: {drift}"
        holes = {partition: [(a, b) for p, a, b in in_flight if p == partition] for partition, *_ in ledger}
        records: list[Record] = []
        rejected: list[tuple[int, int]] = []
        for partition, next_offset, flying, *counts in ledger:
            assert next_offset >= self._positions.get(partition, 0), f"partition {partition} went back to {next_offset}"
            self._positions[partition] = next_offset
            assert flying == sum(b - a for a, b in holes[partition]), f"partition {partition}: {flying} offsets in flight"
            judged = [
                one
                for one in self._judge(partition)
                if one[0][1] < next_offset and not any(a <= one[0][1] < b for a, b in holes[partition])
            ]
            records += [record for record, verdict in judged if verdict == "counted"]
            rejected += [record[:2] for record, verdict in judged if verdict == "quarantined"]
            truth = [sum(v == verdict for _, v in judged) for verdict in ("counted", "duplicate", "quarantined")]
            assert counts == [len(judged), *truth, 0], (
                f"partition {partition}: ledger {counts}, truth {[len(judged), *truth]}"
            )
        assert quarantine == rejected, f"quarantine {quarantine}, truth {rejected}"
        for name, rows in _expected(tuple(records)).items():
            assert merged[name] == rows, f"{name}: merged {_sums(merged[name])}, truth {_sums(rows)}"

    def _rows(self, view: Any) -> list[tuple[Any, ...]]:
        columns = ", ".join((*view.group, *(measure.name for measure in view.measures)))
        rows = self._eye.execute(f"SELECT {columns} FROM {view.name} ORDER BY {', '.join(view.group)}")  # type: ignore[arg-type]
        return [(*row[:-2], bytes.fromhex(row[-2].removeprefix("\\x")), row[-1]) for row in rows]

    def _judge(self, partition: int) -> list[tuple[Record, str]]:
        judged = self._judged.setdefault(partition, [])
        known = judged[-1][0][1] + 1 if judged else 0
        for record in self._world.producers.records(partition, known):
            try:
                event_of(record[3], record[2])
                judged.append((record, "duplicate" if self._world.producers.is_again(*record[:2]) else "counted"))
            except Rejected:
                judged.append((record, "quarantined"))
        return judged

    def _check_archive(self) -> None:
        root = self._world.settings.archive_root
        for partition in self._world.topic.partitions:
            files = self._world.master_files(partition)
            archived = archived_next_offset(files)
            assert archived >= self._archived.get(partition, 0), (
                f"partition {partition}: the archive went back to {archived}"
            )
            self._archived[partition] = archived
            judged = self._judge(partition)
            for piece in covering(partition, files, archived):
                inside = [one for one in judged if piece.file.first_offset <= one[0][1] < piece.file.next_offset]
                events = [record[1] for record, verdict in inside if verdict != "quarantined"]
                assert self._offsets(piece.file.path(root, MASTER)) == events, f"{piece.file}: events"
                rejects = [record[1] for record, verdict in inside if verdict == "quarantined"]
                assert self._offsets(piece.file.path(root, QUARANTINE)) == rejects, f"{piece.file}: rejects"

    def _offsets(self, path: str) -> list[int]:
        content = self._world.store.files.get(path)
        return [] if content is None else _read_offsets(content[0])


@lru_cache(maxsize=1_000)
def _read_offsets(content: bytes) -> list[int]:
    return pq.read_table(io.BytesIO(content), columns=["offset"])["offset"].to_pylist()


@lru_cache(maxsize=1_000)
def _expected(records: tuple[Record, ...]) -> dict[str, list[tuple[Any, ...]]]:
    outcome = pipeline(records)
    return {view.name: expected_rows(outcome, view.name) for view in with_rollups(VIEWS)}


def _sums(rows: list[tuple[Any, ...]]) -> str:
    return f"{len(rows)} rows, {sum(row[-5] for row in rows)} views"
