"""Records keep their values, however they come in pieces and are taken out again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import records as module
from contract.event import MAX_VALUE_BYTES, decode, decode_records
from contract.records import PADDING_BYTES, Records, pieces_of
from tests.fixtures.corpus import KAFKA_TIME_MS, VALUES
from tests.fixtures.kafka_records import Row, rows_of

VALUE = st.one_of(st.none(), st.binary(max_size=40), st.sampled_from([case.value for case in VALUES]))
PIECES = st.lists(st.lists(VALUE, max_size=12), max_size=6)


def records_of(pieces: Sequence[Sequence[bytes | None]], shift: int = 0) -> tuple[Records, list[Row]]:
    """The same records in pieces, and as objects, with a gap of offsets before each piece."""
    records, rows = Records(), []
    for number, values in enumerate(pieces):
        first = len(rows) + 5 * number
        of_piece = [(first + at, KAFKA_TIME_MS + at, value) for at, value in enumerate(values)]
        for piece in pieces_of([row[0] for row in of_piece], [row[1] for row in of_piece], values):
            records.add(piece, shift)
        rows += [(offset + shift, time_ms, value) for offset, time_ms, value in of_piece]
    return records, rows


@given(pieces=PIECES, counts=st.lists(st.integers(0, 15), max_size=8), shift=st.sampled_from([0, 100]))
def test_records_are_taken_from_the_front_as_they_were_added(
    pieces: list[list[bytes | None]], counts: list[int], shift: int
):
    records, rows = records_of(pieces, shift)
    for count in counts:
        before = len(records)
        taken = records.take(min(count, before))
        assert rows_of(taken) == rows[: len(taken)]
        assert taken.size_bytes == sum(len(value or b"") for _, _, value in rows[: len(taken)])
        rows = rows[len(taken) :]
        assert len(taken) == min(count, before)
        assert (len(records), records.size_bytes) == (len(rows), sum(len(value or b"") for _, _, value in rows))
    assert rows_of(records) == rows


@given(pieces=PIECES, count=st.integers(0, 30))
def test_records_in_pieces_are_decoded_as_all_at_once(pieces: list[list[bytes | None]], count: int):
    records, rows = records_of(pieces)
    parts = [records.take(min(count, len(records))), records]
    for part, of_part in zip(parts, (rows[: len(parts[0])], rows[len(parts[0]) :]), strict=True):
        one, other = (
            decode_records(3, part, compare=True),
            decode(3, *([row[at] for row in of_part] for at in range(3)), True),
        )
        assert one.events.equals(other.events)
        assert one.rejects.equals(other.rejects)
        assert one.follows.tolist() == other.follows.tolist()


@given(pieces=PIECES, most_bytes=st.integers(0, 200))
def test_as_many_records_fit_as_have_so_many_bytes(pieces: list[list[bytes | None]], most_bytes: int):
    records, rows = records_of(pieces)
    count = records.count_within(most_bytes)
    sizes = [len(value or b"") for _, _, value in rows]
    assert count == len(sizes) or sum(sizes[: count + 1]) > most_bytes
    assert count <= 1 or sum(sizes[:count]) <= most_bytes
    assert count >= min(1, len(sizes))


def test_a_piece_is_bounded_by_records_and_by_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 100)
    values = [bytes(49), bytes(49), b"", bytes(300), None, bytes(99), *[b""] * 4_200]
    pieces = list(pieces_of(range(len(values)), range(len(values)), values))
    assert [len(piece) for piece in pieces][:5] == [2, 1, 1, 1, 1]
    assert all(len(piece) == 1 or len(piece.text) <= 100 + PADDING_BYTES for piece in pieces)
    assert [row[2] for row in rows_of(Records(pieces))] == values
    monkeypatch.setattr(module, "PIECE_BYTES", 1 << 20)
    assert [len(piece) for piece in pieces_of(range(4_200), range(4_200), [b""] * 4_200)] == [2_000, 2_000, 200]


def test_a_value_that_is_too_large_stands_between_others_and_is_rejected():
    event = next(case.value for case in VALUES if case.value and decode(0, [0], [KAFKA_TIME_MS], [case.value]).events.height)
    large = event + b" " * (MAX_VALUE_BYTES - len(event))
    decoded = decode(0, range(4), [KAFKA_TIME_MS] * 4, [event, large + b" ", large, event])
    assert decoded.events["offset"].to_list() == [0, 2, 3]
    assert decoded.rejects.select("offset", "reason", "value_bytes").rows() == [(1, "too_large", MAX_VALUE_BYTES + 1)]
    assert decoded.rejects["value"].to_list() == [large + b" "]


def test_values_are_found_by_their_positions():
    records, rows = records_of([[b"a", None], [], [b"", b"b" * 300]])
    assert records.values_at(np.array([0, 3])) == {0: b"a", 3: b"b" * 300}
    assert records.values_at(np.array([], np.int64)) == {}
    assert list(records.values_at(np.arange(4)).values()) == [row[2] for row in rows]
