"""Each record, line and file of the corpora is judged as it must be; the corpus reaches every reason."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.errors import InputError
from contract.event import EVENTS, decode
from contract.rejected_line import rejected_line
from ingest.lines import InputFile
from tests.fixtures.corpus import EVENT, KAFKA_TIME_MS, MALFORMED, TIME, VALUES, Case, malformed
from tests.fixtures.judges import by_decode, by_oracle
from tests.fixtures.log_corpus import FILES, LINES, FileCase, lines_in, log_lines

YEAR_2200_MS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize("case", VALUES, ids=lambda case: f"{case.kind}: {case.name[:40]!a}")
def test_each_value_is_the_event_or_the_reject_that_it_must_be(case: Case):
    expected = case.expected if isinstance(case.expected, str) else EVENT | {"event_time": TIME} | case.expected
    assert by_decode([case.value], KAFKA_TIME_MS) == [expected]
    assert by_oracle(case.value, KAFKA_TIME_MS) == expected


def test_names_are_unique_and_every_reason_is_reached():
    assert len({(case.kind, case.name) for case in VALUES}) == len(VALUES)
    assert {case.expected for case in VALUES if isinstance(case.expected, str)} == set(EVENTS.reasons)


def test_malformed_values_are_rejected_at_any_time():
    values = [value for of_kind in MALFORMED.values() for value in of_kind]
    for kafka_time_ms in (KAFKA_TIME_MS, YEAR_2200_MS):
        assert len(decode(0, range(len(values)), [kafka_time_ms] * len(values), values).rejects) == len(values)
    assert all(MALFORMED.values())
    assert max(map(len, values)) < 1_000_000


def test_malformed_values_are_drawn_from_every_class_and_the_same_for_a_seed():
    drawn = [malformed(random.Random(seed)) for seed in range(1_000)]
    assert drawn == [malformed(random.Random(seed)) for seed in range(1_000)]
    assert [kind for kind, values in MALFORMED.items() if not set(values) & set(drawn)] == []
    assert set(decode(0, range(1_000), [KAFKA_TIME_MS] * 1_000, drawn).rejects["reason"]) == set(EVENTS.reasons)


@pytest.mark.parametrize("case", LINES, ids=lambda case: f"{case.kind}: {case.name[:40]!a}")
def test_each_line_is_the_event_or_the_reject_that_it_must_be(case: Case):
    assert case.value is not None
    record = log_lines().record("access.log", 17, case.value)
    assert record is not None
    key, value = record
    (judgement,) = by_decode([value], KAFKA_TIME_MS)
    if isinstance(case.expected, str):
        assert judgement == case.expected
        line = rejected_line(value)
        if line is not None:
            text = case.value.decode("utf-8", "backslashreplace")
            assert (key, line.at, line.line) == (None, "access.log:17", text[: len(line.line)])
            assert len(line.line) == min(len(text), 8_000)
        else:
            assert key is not None or value == case.value
    else:
        assert judgement == {"event_id": "access.log:17", "site": "demo", "visitor_id": key} | case.expected


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_each_file_is_the_lines_or_the_refusal_that_it_must_be(case: FileCase, tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(case.content())

    def lines() -> tuple[tuple[int, bytes], ...]:
        with InputFile(path) as file:
            return tuple(lines_in(file))

    if isinstance(case.expected, tuple):
        assert lines() == case.expected
    else:
        with pytest.raises(InputError) as refused:
            lines()
        assert str(refused.value).startswith(f"{path} ")
        assert case.expected in str(refused.value)
