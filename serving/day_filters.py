"""Day filters: what the batch layer has counted is known to the speed layer, of each day by one Bloom filter of identities.

A run writes them part by part, each task those of one range of hashes; they are live, kept and deleted with its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from contract.sketches.bloom import BloomFilter
from serving.database import Connection, answering, one_value, refusing, transaction


@dataclass(frozen=True)
class FilteredDays:
    """As of a publication: which run has written the filter of a day; a day without one is left out."""

    generation: int
    run_of_day: dict[date, int]


def write_filters(
    connection: Connection, run_id: int, part: int, parts: int, filters: Mapping[date, tuple[int, BloomFilter]]
) -> bool:
    """Of each day how many events have their hashes in range `part` of `parts` equal ones, and their filter. Role batch.

    True if this call wrote them, False if an earlier one did. Raises RunRefused if the run has ended.
    """
    with refusing(), transaction(connection):
        written = one_value(
            connection,
            # As text, bytes would be twice as many, and take four times as long.
            "SELECT serving.write_filters(%s, %s, %s, %s::date[], %s::int[], %s::bigint[], %b::bytea[])",
            [
                run_id,
                part,
                parts,
                list(filters),
                [bloom.probes for _, bloom in filters.values()],
                [events for events, _ in filters.values()],
                [bloom.words.tobytes() for _, bloom in filters.values()],
            ],
        )
    return bool(written)


def filtered_days(connection: Connection) -> FilteredDays:
    """What is live now. Role speed."""
    with answering(connection):
        rows = connection.execute("SELECT * FROM serving.filtered_days()").fetchall()
    return FilteredDays(rows[0][0], {day: run_id for _, day, run_id in rows if day is not None})


def day_filter(connection: Connection, run_id: int, day: date) -> BloomFilter:
    """The filter that a run has written of a day; an empty one if it was deleted meanwhile. Role speed."""
    with answering(connection):
        # As text, bytes would be twice as many.
        rows = connection.execute("SELECT * FROM serving.day_filter(%s, %s)", [run_id, day], binary=True).fetchall()
    if not rows:
        return BloomFilter([None], probes=1)
    _, parts, probes, _ = rows[0]
    words = {part: np.frombuffer(content, np.uint64) for part, _, _, content in rows}
    return BloomFilter([words.get(part) for part in range(parts)], probes)
