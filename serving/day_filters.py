"""Day filters: what the batch layer has counted is known to the speed layer, of each day by one Bloom filter of identities.

A run writes them part by part, each task those of one range of hashes; they are live, kept and deleted with its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from contract.sketches.bloom import BloomFilter, Words, block_choices
from serving.database import Connection, answering, one_value, refusing, transaction


@dataclass(frozen=True)
class DayFilter:
    """What there is to know of a day's filter: the run that wrote it, in how many parts, and how many bits a member sets."""

    run_id: int
    parts: int
    probes: int


@dataclass(frozen=True)
class FilteredDays:
    """As of a publication: the filter of each day; a day without one is left out."""

    generation: int
    filters: Mapping[date, DayFilter]


@dataclass(frozen=True)
class PartQuestion:
    """Whether part `part` of the filter that a run has written of a day has hashes, shape (n,), all in the part's range.

    A part that has at most whole_bytes is given whole.
    """

    run_id: int
    day: date
    part: int
    hashes: NDArray[np.uint64]
    whole_bytes: int


@dataclass(frozen=True)
class PartAnswer:
    """A part's words if it is given whole, else for each hash the block that it is in, if anywhere."""

    words: Words
    is_whole: bool


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
    return FilteredDays(rows[0][0], {day: DayFilter(*written) for _, day, *written in rows if day is not None})


def ask_filters(connection: Connection, questions: Sequence[PartQuestion]) -> list[PartAnswer | None]:
    """The answer to each question; None if there is no such part, or not any more: it has no members. Role speed.

    What is read, sent and held of a part that is not given whole is 64 bytes a hash, however large the part is.
    """
    choices = [block_choices(question.hashes) for question in questions]
    with answering(connection):
        rows = connection.execute(
            # As text, bytes would be twice as many.
            "SELECT * FROM serving.ask_filters(%b::bigint[], %b::date[], %b::int[], %b::int[], %b::bigint[], %b::bigint[])",
            [
                [question.run_id for question in questions],
                [question.day for question in questions],
                [question.part for question in questions],
                np.cumsum([len(some) for some in choices]).tolist(),
                np.concatenate(choices).tolist(),
                [question.whole_bytes for question in questions],
            ],
            binary=True,
        ).fetchall()
    answers: list[PartAnswer | None] = [None] * len(questions)
    for number, is_whole, content in rows:
        answers[number - 1] = PartAnswer(np.frombuffer(content, np.uint64), is_whole)
    return answers
