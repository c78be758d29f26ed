"""The speed layer without Storm: planning, recent events, and counting over a reader in memory."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from math import inf

import numpy as np
import pytest

from contract.errors import OffsetRefused, PositionLost, PublicationRefused, StatementsRefused
from contract.event import decode
from contract.forgotten import Digest, Keyed, Rules, Statement
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.records import Records
from contract.sketches.bloom import BLOCK_BITS, BLOCK_WORDS, BloomFilter, block_choices
from serving.day_filters import DayFilter, FilteredDays, PartAnswer, PartQuestion
from speed.day_filters import DayFilters
from speed.dedupe import Identities, RecentEvents
from speed.forgotten import Forgotten
from speed.plan import RangePlan
from speed.range_counter import Counted, RangeCounter

RATE = 1e-6
NO_MEMORY, ENOUGH_MEMORY = 1, 1 << 20


def ranges(planned: list[tuple[str, OffsetRange]]) -> list[tuple[int, int, int]]:
    return [(r.partition, r.first_offset, r.next_offset) for _, r in planned]


def grown(positions: dict[int, int], max_offsets: int, max_in_flight: int, linger_s: float, topic: str) -> RangePlan:
    """A plan after as many commits as the longest ranges take."""
    plan = RangePlan(positions, max_offsets, max_in_flight, linger_s, topic)
    for partition in plan._partitions.values():
        partition.limit_offsets = max_offsets
    return plan


def test_ranges_follow_each_other_and_are_bounded():
    plan = grown({0: 0, 1: 90}, max_offsets=40, max_in_flight=2, linger_s=0, topic="t")
    first = plan.next_ranges({0: 200, 1: 100}, 0)
    assert ranges(first) == [(0, 0, 40), (0, 40, 80), (1, 90, 100)]
    assert plan.next_ranges({0: 200, 1: 100}, 0) == []
    plan.ack(first[0][0], 0)
    plan.ack(first[2][0], 0)
    assert ranges(plan.next_ranges({0: 200, 1: 103}, 0)) == [(0, 80, 120), (1, 100, 103)]


def test_short_ranges_wait_for_each_other_and_full_ones_do_not():
    plan = grown({0: 0}, max_offsets=40, max_in_flight=3, linger_s=0.25, topic="t")
    (tuple_id, first), *others = plan.next_ranges({0: 10}, now_s=1.0)
    assert (first.next_offset, others) == (10, [])
    assert plan.next_look_s == inf
    assert plan.next_ranges({0: 20}, now_s=9.0) == []  # the one before is not committed yet
    plan.ack(tuple_id, now_s=1.1)
    assert plan.next_look_s == 1.25
    assert plan.next_ranges({0: 20}, now_s=1.2) == []
    assert ranges(plan.next_ranges({0: 95}, now_s=1.2)) == [(0, 10, 50), (0, 50, 90)]
    assert plan.next_look_s == -inf


def test_few_offsets_wait_half_as_long_as_the_range_before_them_took():
    plan = grown({0: 0}, max_offsets=10_000, max_in_flight=3, linger_s=0.1, topic="t")
    plan.next_ranges({0: 10}, now_s=1.0)
    plan.ack("0:0:0", now_s=1.4)
    assert plan.next_ranges({0: 1_009}, now_s=1.59) == []
    assert ranges(plan.next_ranges({0: 1_009}, now_s=1.61)) == [(0, 10, 1_009)]
    plan.ack("0:0:10", now_s=60.0)
    assert ranges(plan.next_ranges({0: 1_010}, now_s=60.3)) == [(0, 1_009, 1_010)]
    plan.ack("0:0:1009", now_s=60.3)
    assert ranges(plan.next_ranges({0: 2_010}, now_s=60.3)) == [(0, 1_010, 2_010)]
    plan.ack("0:0:1010", now_s=60.3)
    assert plan.next_ranges({0: 2_011}, now_s=60.39) == []
    assert ranges(plan.next_ranges({0: 2_011}, now_s=60.41)) == [(0, 2_010, 2_011)]


def test_partitions_come_and_go_with_their_positions():
    plan = grown({0: 0, 1: 0}, max_offsets=10, max_in_flight=3, linger_s=0, topic="t")
    (of_0, _), (of_1, _) = plan.next_ranges({0: 10, 1: 10}, 0)
    plan.resume({0: 0, 1: 0, 2: 7}, 0)
    # The others go on as they were; a new one begins with one offset, as after a start.
    assert ranges(plan.next_ranges({0: 10, 1: 10, 2: 20}, 0)) == [(2, 7, 8), (2, 8, 9), (2, 9, 10)]
    plan.void_all()
    plan.resume({0: 10}, 9)
    assert plan.partitions == {0}
    plan.ack(of_1, 9)
    plan.fail(of_1, 9)
    plan.ack(of_0, 9)
    assert ranges(plan.next_ranges({0: 15}, 9)) == [(0, 10, 15)]


def test_a_failed_range_voids_its_partition_until_it_resumes():
    plan = grown({0: 0, 1: 0}, max_offsets=10, max_in_flight=3, linger_s=0, topic="t")
    first = plan.next_ranges({0: 30, 1: 10}, 0)
    plan.fail(first[0][0], 0)
    assert not plan.may_resume(0.9)
    assert plan.may_resume(1)
    assert ranges(plan.next_ranges({0: 90, 1: 20}, 0)) == [(1, 10, 20)]
    plan.resume({0: 5, 1: 0}, 0.9)
    assert plan.next_ranges({0: 90, 1: 20}, 0.9) == []
    plan.resume({0: 5, 1: 0}, 1)
    again = plan.next_ranges({0: 15, 1: 20}, 1)
    assert ranges(again) == [(0, 5, 10), (0, 10, 15)]
    # Late answers about ranges of the first attempt change nothing.
    plan.ack(first[1][0], 1)
    plan.fail(first[2][0], 1)
    assert not plan.may_resume(9)
    assert plan.next_ranges({0: 15, 1: 20}, 1) == []


def test_a_topic_that_ends_before_the_position_is_not_the_one_that_was_counted():
    plan = grown({0: 5}, max_offsets=10, max_in_flight=3, linger_s=0, topic="pageviews")
    with pytest.raises(PositionLost, match=r"goes on at offset 5 of partition 0, but topic pageviews ends at 3"):
        plan.next_ranges({0: 3}, 0)


def value(event_id: str, day: int = 17) -> bytes:
    event = {
        "event_id": event_id, "event_time": f"2015-05-{day:02}T10:00:00Z", "site": "s", "page": "/", "visitor_id": "v",
        "status": 200, "bytes_sent": 1,
    }  # fmt: skip
    return json.dumps(event).encode()


def identities_of(*values: bytes) -> Identities:
    offsets = list(range(len(values)))
    return Identities.of(decode(0, offsets, [1_779_000_000_000] * len(offsets), list(values)).events)


@dataclass
class Partition:
    """One partition in memory, its reader, and a database that keeps to the fence and has filters of days."""

    values: list[bytes]
    low: int = 0
    committed: int = 0
    views: int = 0
    duplicates: int = 0
    fail_next: bool = False
    fitting: int = 1_000_000
    commits: list[Counted] = field(default_factory=list)
    generation: int = 0
    filters: dict[date, tuple[int, BloomFilter]] = field(default_factory=dict)
    rounds: int = 0
    now_s: float = 0
    asked: list[object] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    rules: Rules = field(default_factory=Rules)
    at: int | None = None
    calls: list[tuple[str, int]] = field(default_factory=list)

    def read(self, wanted: OffsetRange) -> tuple[OffsetRange, Records]:
        assert wanted.first_offset >= self.low
        after = min(wanted.next_offset, wanted.first_offset + self.fitting)
        self.at = after
        self.calls.append(("read", wanted.first_offset))
        offsets = list(range(wanted.first_offset, after))
        records = Records.of(offsets, [1_779_000_000_000] * len(offsets), [self.values[offset] for offset in offsets])
        return OffsetRange(wanted.partition, wanted.first_offset, after), records

    def low_offset(self) -> int:
        return self.low

    def stands_at(self, offset: int) -> bool:
        return self.at == offset

    def go_on(self, position: LogPosition) -> None:
        self.at = position.next_offset
        self.calls.append(("go_on", self.at))

    def position(self) -> LogPosition:
        return LogPosition(self.at or 0, "id", 0)

    def commit(self, committed: OffsetRange, counted: Counted) -> None:
        if self.fail_next:
            self.fail_next = False
            raise ConnectionError
        if committed.next_offset <= self.committed:
            return
        if committed.first_offset != self.committed:
            raise OffsetRefused(0, committed.first_offset, self.committed)
        if counted.generation != self.generation:
            raise PublicationRefused(counted.generation, self.generation)
        if counted.statement != self.rules.version:
            raise StatementsRefused(counted.statement, self.rules.version)
        assert counted.received == counted.counted + counted.duplicate + len(counted.rejects) + counted.forgotten
        assert int(counted.rows["site_traffic"]["views"].sum()) == counted.counted
        self.committed = committed.next_offset
        self.commits.append(counted)
        self.views += counted.counted
        self.duplicates += counted.duplicate

    def publish(self, day: int, *event_ids: str) -> None:
        """A batch run that has counted these events on a day of May 2015 is live."""
        hashes = identities_of(*(value(event_id, day) for event_id in event_ids)).hashes
        bloom = BloomFilter.for_members(len(hashes), RATE)
        bloom.add(hashes)
        self.generation += 1
        self.filters[date(2015, 5, day)] = (self.generation, bloom)

    def list_days(self) -> FilteredDays:
        self.asked.append(self.generation)
        written = {day: DayFilter(run_id, 1, bloom.probes) for day, (run_id, bloom) in self.filters.items()}
        return FilteredDays(self.generation, written)

    def answer(self, questions: Sequence[PartQuestion]) -> list[PartAnswer | None]:
        self.rounds += 1
        self.now_s += 3
        return [self.answer_one(question) for question in questions]

    def answer_one(self, question: PartQuestion) -> PartAnswer | None:
        self.asked.append((question.run_id, question.day.day))
        run_id, bloom = self.filters[question.day]
        assert (question.run_id, question.part) == (run_id, 0)
        if bloom.size_bytes <= question.whole_bytes:
            return PartAnswer(bloom.words, is_whole=True)
        blocks = bloom.words.reshape(-1, BLOCK_WORDS)
        wanted = [choice * len(blocks) >> 32 for choice in block_choices(question.hashes).tolist()]
        return PartAnswer(np.concatenate(blocks[wanted]), is_whole=False)

    def day_filters(self, most_bytes: int = ENOUGH_MEMORY) -> DayFilters:
        return DayFilters(self.list_days, self.answer, most_bytes, self.log.append, random.Random(1), lambda: self.now_s)

    def counter(self, window: int = 10, most_bytes: int = ENOUGH_MEMORY) -> RangeCounter:
        recent, days = RecentEvents(window, RATE), self.day_filters(most_bytes)
        arguments = (self, recent, days, self.commit, self.committed_position, self.log.append)
        return RangeCounter(*arguments, chunk_offsets=3, forgotten=Forgotten(lambda: self.rules))

    def committed_position(self, partition: int) -> LogPosition:
        return LogPosition(self.committed)


def count(counter: RangeCounter, *bounds: int) -> None:
    for first, after in pairwise(bounds):
        counter.count(OffsetRange(0, first, after))


def test_repeats_within_and_across_ranges_count_once():
    partition = Partition([value(name) for name in "aabacb"] + [b"bad"] + [value("a", day=18)])
    count(partition.counter(), 0, 2, 5, 8)
    # Another day makes another event, as in the batch layer.
    assert (partition.views, partition.duplicates, partition.committed) == (4, 3, 8)


@pytest.mark.parametrize("fitting", [1, 3, 1_000_000])
@pytest.mark.parametrize("distance", [1, 9, 10])
def test_a_repeat_within_the_window_is_always_recognised_in_whatever_parts_ranges_are_read(distance: int, fitting: int):
    for start in range(25):
        values = [value(f"{start}-{i}") for i in range(40)]
        values[start + distance] = values[start]
        partition = Partition(values, fitting=fitting)
        count(partition.counter(window=10), *range(0, 41, 4))
        assert partition.duplicates == 1, (start, distance)


def test_memory_is_two_filters():
    recent = RecentEvents(10, RATE)
    partition = Partition([value(f"e{i}") for i in range(100)])
    days = partition.day_filters()
    log = partition.log.append
    counter = RangeCounter(partition, recent, days, partition.commit, partition.committed_position, log, 50)
    count(counter, *range(0, 101, 5))
    assert len(recent._filters) <= 2


def test_a_restarted_counter_remembers_what_it_would_have_known():
    values = [value(f"e{i % 17}") for i in range(60)]
    straight = Partition(values)
    count(straight.counter(window=20), *range(0, 61, 6))
    restarted = Partition(values)
    for first in range(0, 60, 6):
        restarted.counter(window=20).count(OffsetRange(0, first, first + 6))
    assert (restarted.views, restarted.duplicates) == (straight.views, straight.duplicates)


def test_re_reading_says_how_far_it_is_for_storm_must_not_take_it_for_dead():
    partition = Partition([value(f"e{i}") for i in range(70)], committed=65)
    partition.counter(window=100).count(OffsetRange(0, 65, 70))
    said = [line for line in partition.log if "re-read up to" in line]
    assert said == [f"partition 0: recent events re-read up to {offset} of 65" for offset in (30, 60)]


def test_the_position_is_held_against_the_log_after_re_reading_and_after_a_failed_commit():
    partition = Partition([value(f"e{i}") for i in range(30)], committed=20)
    counter = partition.counter(window=10)
    counter.count(OffsetRange(0, 20, 22))
    assert partition.calls[-2:] == [("go_on", 20), ("read", 20)]
    counter.count(OffsetRange(0, 22, 24))
    assert partition.calls[-1] == ("read", 22)
    partition.fail_next = True
    with pytest.raises(ConnectionError):
        counter.count(OffsetRange(0, 24, 26))
    counter.count(OffsetRange(0, 24, 26))
    assert partition.calls[-2:] == [("go_on", 24), ("read", 24)]


def test_a_range_that_was_not_committed_does_not_meet_itself():
    partition = Partition([value(f"e{i}") for i in range(6)], fail_next=True)
    counter = partition.counter()
    with pytest.raises(ConnectionError):
        count(counter, 0, 3)
    with pytest.raises(OffsetRefused, match="go on from 0"):
        count(counter, 3, 6)
    count(counter, 0, 3, 6)
    assert (partition.views, partition.duplicates) == (6, 0)


def test_of_a_range_that_fails_what_was_committed_stays_and_the_rest_is_counted_later():
    values = [value(f"e{i % 7}") for i in range(12)]
    partition = Partition(values, fitting=5)
    counter = partition.counter()
    counter.count(OffsetRange(0, 0, 1))
    partition.fail_next = True
    with pytest.raises(ConnectionError):
        counter.count(OffsetRange(0, 1, 12))
    assert partition.committed == 1
    counter.count(OffsetRange(0, 1, 12))
    # Another bolt begins in the middle of what this one has done.
    partition.committed, partition.views, partition.duplicates = 6, 6, 0
    partition.counter().count(OffsetRange(0, 3, 12))
    assert (partition.committed, partition.views, partition.duplicates) == (12, 7, 5)


def test_what_a_commit_brings_is_bounded_by_rows_and_by_rejects(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("speed.range_counter.COMMIT_BYTES", 20_000)
    values = [b"\xff" * 6_000] * 20 + [value(f"e{i}").replace(b'"/"', b'"/%d"' % i) for i in range(500)] + [b"\xff" * 90_000]
    partition = Partition(values)
    count(partition.counter(window=1_000), 0, len(values))
    assert (partition.committed, partition.views, partition.duplicates) == (521, 500, 0)
    assert all(counted.size_bytes <= 20_000 for counted in partition.commits)
    # Halves, and not one by one.
    assert len(partition.commits) < 40
    assert sum(len(counted.rejects) for counted in partition.commits) == 21


def test_a_range_that_was_committed_before_changes_nothing():
    partition = Partition([value(f"e{i}") for i in range(6)])
    count(partition.counter(), 0, 6)
    count(partition.counter(), 0, 3)
    assert (partition.views, partition.committed) == (6, 6)


def test_offsets_gone_from_kafka_are_named():
    partition = Partition([value(f"e{i}") for i in range(30)], low=12, committed=15)
    partition.counter(window=10).count(OffsetRange(0, 15, 20))
    assert partition.views == 5
    assert "offsets [0, 12) are gone from Kafka" in partition.log[0]


def test_an_event_that_a_batch_run_has_counted_is_a_repeat_however_late_it_comes():
    partition = Partition([value(name) for name in ("old", "new", "old")] + [value("old", day=18), value("old", day=19)])
    partition.publish(17, "old", "other")
    partition.publish(18, "another")
    count(partition.counter(window=1), 0, 1, 2, 5)
    # On another day it is another event, and a day without a filter has none to ask.
    assert (partition.views, partition.duplicates) == (3, 2)


def test_a_range_is_held_against_the_filters_that_are_live_when_it_is_committed():
    partition = Partition([value(f"e{i}") for i in range(4)])
    counter = partition.counter()
    count(counter, 0, 1)
    assert partition.asked == []
    # Nothing else is committed between the publication and the repeats of what it has counted.
    partition.publish(17, "e1", "e2")
    count(counter, 1, 3, 4)
    assert (partition.views, partition.duplicates) == (2, 2)
    assert partition.asked == [1, (1, 17)]
    # A publication that is taken back takes its filters back.
    partition.filters.clear()
    partition.generation, partition.committed = 2, 1
    restarted = partition.counter()
    count(restarted, 1, 4)
    assert (partition.views, partition.duplicates) == (5, 2)


def test_what_is_forgotten_is_not_counted_from_the_commit_on_that_must_know_it():
    keyed = Keyed("key")
    gone = Statement(1, "source", "2015-05-20T00:00:00Z", keyed.check, 0, (Digest(keyed.digest("source", "gone")),))
    values = [
        value("gone:1"),
        value("b"),
        b"bad",
        value("gone:2"),
        value("gone:2"),
        value("c"),
        value("b"),
        value("gone:3")[:-1],
    ]
    partition = Partition([value("a"), *values, value("gone:4")])
    counter = partition.counter()
    count(counter, 0, 2)
    assert (partition.views, partition.commits[-1].forgotten) == (2, 0)
    partition.rules = Rules((gone,), "key")
    partition.publish(17, "c")
    count(counter, 2, 9)
    last = partition.commits[-1]
    assert (last.received, last.counted, last.duplicate, last.forgotten, len(last.rejects)) == (7, 1, 2, 3, 1)
    assert (last.statement, last.generation) == (1, 1)
    # What was lifted counts again, as far as it is not remembered.
    partition.rules = Rules((gone, Statement(2, "lift", "2015-05-21T00:00:00Z", "", lifts=1)), "key")
    count(counter, 9, 10)
    assert (partition.views, partition.commits[-1].statement) == (4, 2)


def test_filters_that_a_publication_leaves_as_they_were_are_not_loaded_again():
    partition = Partition([value("a"), value("b", day=18)] * 3)
    partition.publish(17, "x")
    partition.publish(18, "y")
    counter = partition.counter(window=1)
    count(counter, 0, 2)
    partition.publish(18, "z")
    count(counter, 2, 6)
    assert partition.asked == [2, (1, 17), (2, 18), 3, (3, 18)]


def test_memory_for_filters_is_bounded_and_those_not_met_for_longest_go_first():
    partition = Partition([])
    for day in (16, 17, 18, 19):
        partition.publish(day, "x")
    # Two filters of a block each, with what their places in a dictionary take.
    days = partition.day_filters(most_bytes=(2 * (BLOCK_BITS // 8 + 400)))
    days.refresh()
    partition.asked.clear()
    for day in (17, 18, 17, 19, 17, 18):
        assert days.repeats(identities_of(value("x", day), value("y", day))).tolist() == [True, False]
        assert days.size_bytes <= 2 * (BLOCK_BITS // 8 + 400)
    assert [day for _, day in partition.asked] == [17, 18, 19, 18]
    # Where nothing fits all is asked, and nothing kept.
    tight = partition.day_filters(NO_MEMORY)
    tight.refresh()
    mixed = identities_of(value("x", 19), value("x", 16), value("y", 16), value("x", 15), value("x", 17))
    for _ in range(2):
        partition.asked.clear()
        assert tight.repeats(mixed).tolist() == [True, True, False, False, True]
        assert [day for _, day in partition.asked] == [16, 17, 19]
        assert tight.size_bytes == 0


def test_a_range_that_is_on_many_days_asks_once_and_for_no_more_than_its_events_need():
    partition = Partition([])
    for day in range(1, 32):
        partition.publish(day, *(f"e{number}" for number in range(5_000)))
    days = partition.day_filters()
    days.refresh()
    events = [value(name, day) for day in range(1, 32) for name in ("new", "e7")]
    assert days.repeats(identities_of(*events)).tolist() == [False, True] * 31
    assert partition.rounds == 1
    assert days.size_bytes < sum(bloom.size_bytes for _, bloom in partition.filters.values()) / 4


def test_many_hashes_are_asked_in_parts_each_of_which_is_a_sign_of_life():
    partition = Partition([])
    names = [f"e{number}" for number in range(1_500)]
    for day in range(1, 11):
        partition.publish(day, *names[::2])
    days = partition.day_filters(NO_MEMORY)
    days.refresh()
    answers = days.repeats(identities_of(*(value(name, day) for day in range(1, 11) for name in names)))
    assert answers.tolist() == [True, False] * 7_500
    # Each question of 1,500 is whole, and two are too many for one call.
    assert 7 <= partition.rounds <= 10
    assert [line for line in partition.log if "parts are asked" in line] == partition.log
    assert len(partition.log) >= 3


def test_what_is_asked_often_is_kept_after_about_as_many_questions_as_fetching_it_costs():
    partition = Partition([])
    partition.publish(17, *(f"e{number}" for number in range(5_000)))
    size_bytes = partition.filters[date(2015, 5, 17)][1].size_bytes
    needed = []
    for seed in range(400):
        days = partition.day_filters()
        days._chance.seed(seed)
        days.refresh()
        partition.rounds = 0
        while not days.size_bytes:
            days.repeats(identities_of(value("x")))
        days.repeats(identities_of(value("x")))
        needed.append(partition.rounds)
    assert np.mean(needed) == pytest.approx(size_bytes / 600, rel=0.2)
