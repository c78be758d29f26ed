"""The past that `make age` writes: what it holds, which files it leaves, and how figures are compared."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from contract.event import decode_records
from contract.master import OffsetRange
from contract.settings import Settings
from ingest.archive_plan import current, plan_merge, superseded
from ingest.hdfs import FileInfo
from tests.age.layout import _FILE_BYTES, _ROW_BYTES, Layout, flushes
from tests.age.past import LATE_DAYS, Past, Sent
from tests.age.report import Figure, rows_of

END = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(8))
def test_the_layout_is_what_the_archivers_rules_leave_whatever_was_written(seed: int):
    """Here nothing is taken together and nothing is left out: the rules see every file, each time."""
    chance = random.Random(seed)
    settings = replace(
        Settings(), archive_merge_files=chance.choice([2, 3, 5, 24]), archive_grace_ms=chance.choice([0, 20_000, 60_000])
    )
    layout, rows = Layout(settings, 0), chance.choice([3, 500, 20_000, 80_000])
    files: dict[OffsetRange, FileInfo] = {}
    since_tidy, next_offset = settings.archive_merge_files - 1, 0

    def write(offsets: OffsetRange, at_ms: int) -> None:
        size_bytes = _FILE_BYTES + _ROW_BYTES * (offsets.next_offset - offsets.first_offset)
        files[offsets] = FileInfo(offsets.file_name, size_bytes, at_ms)

    for number in range(200):
        at_ms, first_offset = 5_000 * number, next_offset
        next_offset += chance.randint(1, 2 * rows)
        offsets = OffsetRange(0, first_offset, next_offset)
        layout.put(offsets, at_ms)
        write(offsets, at_ms)
        since_tidy += 1
        if since_tidy >= settings.archive_merge_files:
            since_tidy = 0
            for old in superseded(files, at_ms - settings.archive_grace_ms):
                del files[old]
            if parts := plan_merge(current(0, files), files, settings.archive_merge_files):
                write(OffsetRange(0, parts[0].first_offset, parts[-1].next_offset), at_ms)
        assert sorted([*layout.settled(), *layout.others()]) == sorted(files)
        assert layout.slices(0, next_offset) == current(0, files)
    some = layout.slices(next_offset // 3, next_offset // 2)
    assert (some[0].first_offset, some[-1].next_offset) == (next_offset // 3, next_offset // 2)


def test_what_has_settled_is_not_looked_at_again():
    layout = Layout(Settings(), 0)
    for number in range(2_000):
        layout.put(OffsetRange(0, 20_000 * number, 20_000 * (number + 1)), 5_000 * number)
    assert len(layout.settled()) + len(layout.others()) > 1_000
    assert len(layout._whole) < 4 * Settings().archive_merge_files


def test_a_file_is_written_at_the_end_of_each_slot_that_has_a_record():
    assert flushes(3, 100, [1, 4_999, 5_000, 20_001], 5_000) == [
        (OffsetRange(3, 100, 102), 5_000),
        (OffsetRange(3, 102, 103), 10_000),
        (OffsetRange(3, 103, 104), 25_000),
    ]
    assert flushes(3, 100, [], 5_000) == []


def test_a_past_is_the_same_again_and_its_offsets_and_times_go_on():
    past = Past(END, days=4, events_a_day=3_000, partitions=2)
    days = list(past.sent())
    assert list(past.sent()) == days
    for partition in range(2):
        of_partition = [of_day[partition] for of_day in days]
        assert of_partition[0].first_offset == 0
        assert all(after.first_offset == before.next_offset for before, after in pairwise(of_partition))
        assert of_partition[-1].next_offset > 4_000
        times_ms = [time_ms for sent in of_partition for time_ms in sent.kafka_times_ms]
        assert times_ms == sorted(times_ms)
        for day, sent in enumerate(of_partition):
            start_ms = 1_000 * past.start_of(day).timestamp()
            assert start_ms <= sent.kafka_times_ms[0] <= sent.kafka_times_ms[-1] < start_ms + 86_400_000
    assert past.start_of(4) == END


def test_a_past_has_what_producers_do():
    past = Past(END, days=2, events_a_day=20_000, partitions=2)
    seen: Counter[tuple[int, str]] = Counter()
    late = rejects = 0
    for of_day in past.sent():
        for partition, sent in enumerate(of_day):
            decoded = decode_records(partition, sent.records(), compare=True)
            seen.update((partition, event_id) for event_id in decoded.events["event_id"])
            behind = decoded.events["kafka_time"] - decoded.events["event_time"]
            assert behind.max() <= timedelta(days=LATE_DAYS, milliseconds=1)
            assert behind.min() >= timedelta(0)
            late += (behind > timedelta(hours=1)).sum()
            rejects += len(decoded.rejects)
            # As files leave nearly all values out, a past must be of such.
            assert decoded.follows.mean() > 0.99
    repeats = sum(count - 1 for count in seen.values())
    assert 0.01 < late / past.events < 0.03
    assert 0.005 < repeats / past.events < 0.015
    assert 0.0003 < rejects / past.events < 0.003
    # A repeat comes in the partition of its first copy.
    assert len({event_id for _, event_id in seen}) == len(seen)


def test_a_part_of_what_was_sent_has_its_offsets_and_what_is_beyond_it_is_empty():
    sent = Sent(10, [1, 2, 3], [b"a", b"b", b"c"])
    assert sent.between(11, 13) == Sent(11, [2, 3], [b"b", b"c"])
    assert sent.between(5, 12) == Sent(10, [1, 2], [b"a", b"b"])
    assert len(sent.between(13, 20)) == len(sent.between(0, 10)) == len(sent.between(20, 30)) == 0
    records = sent.between(11, 20).records()
    assert (records.offsets.tolist(), records.kafka_times_ms.tolist()) == ([11, 12], [2, 3])
    assert list(records.pieces[0].values_at([0, 1])) == [b"b", b"c"]


def test_a_past_of_a_day_is_none():
    with pytest.raises(ValueError, match="1 days of 10 events are no past"):
        Past(END, days=1, events_a_day=10, partitions=2)


def test_figures_are_compared_by_name_and_judged_where_there_is_a_goal():
    young = [Figure("a", 10, "ms"), Figure("b", 0, "MB"), Figure("d", 10, "ms", beside="too few were sent")]
    aged = [
        Figure("a", 14, "ms", most_times=1.3),
        Figure("b", 5, "MB"),
        Figure("c", 40, "s", most=30),
        Figure("d", 10, "ms", most_times=1.3),
    ]
    rows = list(rows_of("some", young, aged))
    assert [(row.name, row.young, row.aged, row.times, row.met) for row in rows] == [
        ("a", 10, 14, 1.4, False),
        ("b", 0, 5, None, None),
        ("c", None, 40, None, False),
        ("d", 10, 10, 1.0, None),
    ]
    assert [row.goal for row in rows] == ["<= 1.3 x", "", "<= 30 s", "<= 1.3 x"]
    assert rows[3].beside == "young: too few were sent"


def age(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.age", *arguments]
    environment = {"BRAID_BESIDE": "TEST_STACK=1", "COMPOSE_PROJECT_NAME": "nobody", "PATH": "/nowhere"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_wrong_usage_is_told_before_anything_is_started():
    for arguments, said in (
        (["--years", "0.01"], "YEARS=0.01 are 4 days: more than the 5 of a young stack are an age"),
        (["--rate", "0.00001"], "RATE=1e-05 and EVENTS=40000000 are less than an event a day"),
        (["freshnes"], "no measure is named freshnes; --list names them all"),
    ):
        done = age(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_years_and_rate_are_thinned_to_what_can_be_made():
    code = "from tests.age.__main__ import Wanted; import json; from dataclasses import asdict; "
    code += "print(json.dumps([asdict(Wanted.of(1, 200, 36_500_000)), asdict(Wanted.of(0.1, 1, 40_000_000))]))"
    environment = {"BRAID_BESIDE": "TEST_STACK=1", "PATH": "/nowhere"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout) == [
        {"days": 365, "events_a_day": 100_000, "thinned": pytest.approx(172.8)},
        {"days": 36, "events_a_day": 86_400, "thinned": 1.0},
    ], done.stderr
