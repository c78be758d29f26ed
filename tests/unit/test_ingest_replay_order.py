"""Which files are read, in which order their events come, and when they are due."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ArchiveDamaged
from contract.event import EVENT_SCHEMA
from contract.master import MASTER, OffsetRange
from contract.master_rows import master_schema
from ingest.archive_files import ArchiveFiles
from ingest.background import ahead
from ingest.history import History
from ingest.replay_selection import Days, Selection, select
from ingest.schedule import MOST_ROWS, Schedule, paced
from ingest.shifted import Shift
from ingest.time_order import in_time_order, window_us
from tests.fixtures.history import START, frame, put, put_seconds, row
from tests.fixtures.memory import MemoryStore

DAY_S = 86_400
DAY = timedelta(days=1)
FIRST = START.date()
START_US = int(START.timestamp()) * 1_000_000


def days(first: int, last: int | None = None) -> Days:
    """Days counted from the one of START."""
    return Days(FIRST + first * DAY, FIRST + (first if last is None else last) * DAY)


def selected(store: MemoryStore, wanted: Days) -> Selection:
    return select(ArchiveFiles(store, "/b"), range(2), wanted, lambda count: None)


def places(selection: Selection) -> list[tuple[int, int, int]]:
    return [(p.slice.file.partition, p.slice.first_offset, p.slice.next_offset) for p in selection.pieces]


def test_only_files_that_may_have_events_of_the_days_are_selected_in_the_order_of_arrival():
    store = MemoryStore()
    put_seconds(store, "/b", 0, 0, [0, 1])
    put_seconds(store, "/b", 0, 2, [DAY_S, 2 * DAY_S - 0.000001])
    put_seconds(store, "/b", 0, 4, [5 * DAY_S, 0.5])
    put_seconds(store, "/b", 1, 0, [7 * DAY_S])
    put_seconds(store, "/b", 1, 1, [DAY_S])
    put(store, "/b", OffsetRange(0, 6, 9), [])
    assert places(selected(store, days(0))) == [(0, 0, 2), (0, 4, 6)]
    assert places(selected(store, days(1))) == [(1, 1, 2), (0, 2, 4), (0, 4, 6)]
    assert places(selected(store, days(2))) == [(0, 4, 6)]
    assert places(selected(store, days(8, 9))) == []
    assert selected(store, days(1)).rows == 5
    nothing = selected(store, days(8))
    assert (nothing.first_time_us, nothing.last_time_us) == (START_US, START_US + 7 * DAY_S * 1_000_000)
    assert selected(MemoryStore(), days(0)).first_time_us is None


def test_a_footer_that_is_longer_than_what_is_read_first_is_read_again(monkeypatch: pytest.MonkeyPatch):
    store = MemoryStore()
    put_seconds(store, "/b", 0, 0, [0, 1])
    monkeypatch.setattr("contract.archive_file._TAIL_BYTES", 100)
    assert selected(store, days(0)).rows == 2


def test_a_damaged_footer_is_named():
    store = MemoryStore()
    put_seconds(store, "/b", 0, 0, [0, 1])
    path = OffsetRange(0, 0, 2).path("/b", MASTER)
    store.write(path, store.read(path)[:-3] + b"XYZ")
    with pytest.raises(ArchiveDamaged, match=r"00002\.parquet: is damaged: its last [0-9]+ bytes are no footer"):
        selected(store, days(0))


def test_portions_are_of_whole_days_and_bounded():
    store = MemoryStore()
    for day in range(5):
        put_seconds(store, "/b", 0, 10 * day, [day * DAY_S + second for second in range(10)])
    selection = selected(store, days(-2, 9))

    def portions(most_rows: int) -> list[tuple[int, int, int]]:
        return [((p.days.first - FIRST).days, (p.days.last - FIRST).days, p.rows) for p in selection.portions(most_rows)]

    assert portions(1_000) == [(0, 4, 50)]
    assert portions(25) == [(0, 1, 20), (2, 3, 20), (4, 4, 10)]
    assert portions(1) == [(0, 0, 10), (1, 1, 10), (2, 2, 10), (3, 3, 10), (4, 4, 10)]


def history_of(store: MemoryStore, selection: Selection, site: str | None = None) -> History:
    return History(ArchiveFiles(store, "/b"), selection.days, site, selection.rows)


def read_all(store: MemoryStore, selection: Selection, site: str | None = None) -> tuple[list[tuple[int, int]], int]:
    """Partition and offset of all events, and how many copies were left out."""
    history = history_of(store, selection, site)
    read = [history.read(piece) for piece in selection.pieces]
    return [place for part in read for place in part.select("partition", "offset").rows()], history.copies


def test_events_of_other_days_and_sites_are_left_out():
    store = MemoryStore()
    seconds = [-1, 0, DAY_S - 0.001, DAY_S]
    rows = [row(0, at, second, site="shop" if second == 0 else "demo") for at, second in enumerate(seconds)]
    put(store, "/b", OffsetRange(0, 0, 4), rows)
    selection = selected(store, days(0))
    assert read_all(store, selection) == ([(0, 1), (0, 2)], 0)
    assert read_all(store, selection, "shop") == ([(0, 1)], 0)
    assert read_all(store, selected(store, days(1, 3))) == ([(0, 3)], 0)


def test_of_all_copies_one_is_read():
    store = MemoryStore()
    put_seconds(store, "/b", 0, 0, [1, 2, 1])
    put_seconds(store, "/b", 0, 3, [2, 3])
    put_seconds(store, "/b", 1, 0, [3, 4])
    # The same id on another day is another event.
    put(store, "/b", OffsetRange(1, 2, 3), [row(1, 2, DAY_S + 1, event_id="e:1")])
    assert read_all(store, selected(store, days(0, 1))) == ([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)], 3)


def test_files_that_were_merged_meanwhile_are_read_as_what_they_are_in_now():
    store = MemoryStore()
    put_seconds(store, "/b", 0, 0, [1, 2])
    put_seconds(store, "/b", 0, 2, [3])
    selection, files = selected(store, days(0)), ArchiveFiles(store, "/b")
    files.merge([piece.slice for piece in selection.pieces], 1 << 30)
    for piece in selection.pieces:
        files.delete(piece.slice.file)
    assert read_all(store, selection) == ([(0, 0), (0, 1), (0, 2)], 0)


@given(
    st.lists(st.lists(st.integers(0, 2 * DAY_S), min_size=1, max_size=8), min_size=1, max_size=6),
    st.sampled_from([1_000_000, 7_000_000, 3_600_000_000, 1 << 50]),
)
def test_paced_events_come_in_the_order_of_their_times(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[list[int]], width_us: int
):
    store = MemoryStore()
    ends = [0, 0]
    for number, file in enumerate(seconds):
        partition = number % 2
        put_seconds(store, "/b", partition, ends[partition], file)
        ends[partition] += len(file)
    selection, folder = selected(store, days(0, 2)), tmp_path_factory.mktemp("order")
    frames = list(in_time_order(selection.pieces, history_of(store, selection).read, width_us, folder))
    assert all(len(part) and part.schema == master_schema() for part in frames)
    events = pl.concat(frames)
    assert events.equals(events.sort("event_time", "partition", "offset"))
    assert sorted(events["event_id"]) == sorted({f"e:{second}" for file in seconds for second in file})
    assert list(folder.iterdir()) == []
    assert len(frames) == len({part["event_time"].to_physical()[0] // width_us for part in frames})


def test_a_file_is_read_no_earlier_than_its_first_event_is_next(tmp_path: Path):
    store = MemoryStore()
    for file in range(3):
        put_seconds(store, "/b", 0, 2 * file, [100 * file, 100 * file + 150])
    selection = selected(store, days(0))
    history, log = history_of(store, selection), []

    def read(piece):
        log.append(piece.slice.first_offset)
        return history.read(piece)

    for events in in_time_order(selection.pieces, read, 10_000_000, tmp_path):
        log.append(events["event_id"][0])
    assert log == [0, "e:0", 2, "e:100", "e:150", 4, "e:200", "e:250", "e:350"]


def test_a_window_holds_a_bounded_number_of_events():
    store = MemoryStore()
    put_seconds(store, "/b", 0, 0, range(100))
    (piece,) = selected(store, days(0)).pieces
    assert window_us([piece]) > 99_000_000
    many = replace(piece, span=replace(piece.span, rows=2_000_000))
    assert window_us([many]) == 9_900_000
    assert window_us([replace(piece, span=replace(piece.span, rows=10**12))]) == 1_000_000


class Clock:
    """Time passes only where somebody waits."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds


def times(*seconds: float) -> pl.DataFrame:
    column = pl.Series([START + timedelta(seconds=second) for second in seconds], dtype=EVENT_SCHEMA["event_time"])
    return pl.DataFrame({"event_time": column})


def due(clock: Clock, speed: float, frames: list[pl.DataFrame]) -> list[tuple[float, list[float]]]:
    """Seconds since the start, and the seconds of the events that came then."""
    started_s = clock.now_s
    came = []
    for part in paced(frames, Schedule(speed, clock), clock.wait):
        seconds = [(time - START).total_seconds() for time in part["event_time"]]
        came += [(round(clock.now_s - started_s, 6), seconds)] if seconds else []
    return came


def test_events_are_due_after_their_distance_in_time_divided_by_the_speed():
    frames = [times(0, 0, 30), times(45, 60)]
    assert due(Clock(), 60, frames) == [(0.0, [0, 0]), (0.5, [30]), (0.75, [45]), (1.0, [60])]
    assert due(Clock(), 0.5, [times(7, 8)]) == [(0.0, [7]), (2.0, [8])]


def test_long_waits_are_cut_so_that_ctrl_c_is_heard():
    clock = Clock()
    assert due(clock, 1, [times(0, 100)]) == [(0.0, [0]), (100.0, [100])]
    assert max(clock.waits) <= 0.5


def test_what_is_late_is_caught_up_with_in_parts_of_limited_size():
    clock = Clock()
    schedule = Schedule(1, clock)
    schedule.begin(START_US)
    clock.wait(3_600)
    assert schedule.seconds_until(START_US) == -3_600
    parts = [len(part) for part in paced([times(*[1] * (2 * MOST_ROWS + 1))], schedule, clock.wait)]
    assert parts == [MOST_ROWS, MOST_ROWS, 1]


def test_shifted_events_are_new_ones_of_another_site_at_another_time():
    events = frame(row(0, at, second) for at, second in enumerate((10, 70, 130)))
    now_us = START_US + 365 * DAY_S * 1_000_000
    shift = Shift(START_US + 10_000_000, now_us, 60, source="replay-x")
    first, second = shift.apply(events[:2]), shift.apply(events[2:])
    shifted = pl.concat([first, second])
    assert shifted.schema == EVENT_SCHEMA
    assert shifted["event_id"].to_list() == ["replay-x:0", "replay-x:1", "replay-x:2"]
    assert ((shifted["event_time"].to_physical() - now_us) / 1_000_000).to_list() == [0, 1, 2]
    assert set(shifted["site"]) == {"replay.demo"}
    assert shifted.drop("event_id", "event_time", "site").equals(events.drop("event_id", "event_time", "site"))
    long = events.with_columns(site=pl.lit("s" * 253))
    assert set(shift.apply(long)["site"]) == {"replay." + "s" * 246}
    assert Shift(0, 0).source != Shift(0, 0).source


def test_items_are_made_ahead_in_order_and_errors_come_in_their_place():
    def items():
        yield 1
        yield 2
        raise ArchiveDamaged("a file", "is damaged")

    made = ahead(items())
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(ArchiveDamaged):
        next(made)
    assert list(ahead(iter([]))) == []


def test_what_is_left_early_has_nothing_under_way():
    log = []

    def items():
        try:
            for number in range(10):
                log.append(number)
                yield number
        finally:
            log.append("end")

    with closing(ahead(generator := items())) as made:
        assert next(made) == 0
    generator.close()
    assert log in ([0, 1, "end"], [0, 1, 2, "end"])
