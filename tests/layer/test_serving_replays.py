"""Quarantined records that are sent again: each is open, on its way or resolved, and the ledger accounts for all of them."""

from __future__ import annotations

import io
import json

import polars as pl
import pytest

from contract.errors import InputError
from contract.event import REJECT_SCHEMA
from contract.master import OffsetRange
from contract.replays import Judged, Wanted
from contract.settings import Settings
from serving.__main__ import main
from serving.database import Connection, connect
from serving.handoff import Counts, begin_run, commit_range
from serving.replays import Judgements, replay_cover, resolve, resolved, unresolved
from tests.fixtures.handoff import TOPIC, commit, full_run, ledger
from tests.fixtures.pageviews import TODAY, Range, events

STATE = 'SELECT "offset", state, first_reason, reason, detail FROM quarantine_state ORDER BY partition, "offset"'


def rejects(*records: tuple[int, str]) -> pl.DataFrame:
    """Rejects of partition 0 from offset and reason."""
    rows = [(0, offset, TODAY, reason, f"detail of {offset}", 1, b"{") for offset, reason in records]
    return pl.DataFrame(rows, schema=REJECT_SCHEMA, orient="row")


def commit_next(speed: Connection, first: int, count: int, rejected: pl.DataFrame | None = None) -> None:
    """A range of `count` events from `first` on, and the rejects right after them."""
    bad = rejects() if rejected is None else rejected
    rows = Range.of(events(1, 0, first, count)).rows if count else {}
    received = count + len(bad)
    assert commit_range(speed, OffsetRange(0, first, first + received), rows, Counts(received, count, 0), bad, TOPIC)


@pytest.fixture
def quarantined(speed: Connection) -> Connection:
    """Rejects at offsets 100 to 102 of partition 0, which ends at 103."""
    commit_next(speed, 0, 100, rejects((100, "not_json"), (101, "bad_time"), (102, "not_json")))
    return speed


def test_records_are_open_until_they_are_judged_again(quarantined: Connection, reader: Connection) -> None:
    assert list(unresolved(reader, TOPIC, None)) == [Wanted({0: [100, 101, 102]})]
    assert list(unresolved(reader, TOPIC, "not_json")) == [Wanted({0: [100, 102]})]
    assert list(unresolved(reader, TOPIC, "too_deep")) == [Wanted({})]
    assert list(unresolved(reader, "other", None)) == [Wanted({})]
    with pytest.raises(InputError, match="REASON='not_jsn' is none of empty_value, too_large"):
        list(unresolved(reader, TOPIC, "not_jsn"))


def test_open_records_are_listed_in_parts_whatever_becomes_of_them_meanwhile(
    quarantined: Connection, batch: Connection, reader: Connection
) -> None:
    commit_next(quarantined, 103, 0, rejects((103, "not_json"), (104, "not_json")))
    assert commit_range(quarantined, OffsetRange(1, 0, 1), {}, Counts(1, 0, 0), rejects((0, "not_json")).with_columns(
        partition=pl.lit(1, pl.Int32)), TOPIC)  # fmt: skip
    parts = unresolved(reader, TOPIC, None, part_records=2)
    seen = []
    for part in parts:
        seen.append(part.offsets)
        kept = [(partition, offset, "not_json", "still") for partition, some in part.offsets.items() for offset in some]
        resolve(batch, TOPIC, Judged(kept=kept[1:], sent=[(*kept[0][:2], 3, 7)]))
    assert seen == [{0: [100, 101]}, {0: [102, 103]}, {0: [104], 1: [0]}]
    again = [part.offsets for part in unresolved(reader, TOPIC, None, part_records=2)]
    assert again == [{0: [101]}, {0: [103]}, {1: [0]}]


def test_sent_records_are_resolved_once_they_are_counted(
    quarantined: Connection, batch: Connection, reader: Connection
) -> None:
    judged = Judged(sent=[(0, 100, 0, 103), (0, 102, 0, 104)], kept=[(0, 101, "out_of_range", "now this")], unread=2)
    assert Judgements.of([judged, Judged()]).next_offsets == {0: 105}
    resolve(batch, TOPIC, judged)
    assert reader.execute(STATE).fetchall() == [
        (100, "sent", "not_json", "not_json", "detail of 100"),
        (101, "open", "bad_time", "out_of_range", "now this"),
        (102, "sent", "not_json", "not_json", "detail of 102"),
    ]
    assert list(unresolved(reader, TOPIC, None)) == [Wanted({0: [101]})]
    assert list(unresolved(reader, TOPIC, "bad_time")) == [Wanted({})]
    assert resolved(batch, TOPIC, Judgements.of([judged])).text() == (
        "2 of 5 quarantined records sent again; 0 resolved; 2 not counted yet; 1 stay: out_of_range; "
        "2 are not in the archive yet, try again"
    )
    # One becomes an event, the other is rejected by a layer that is older than the judge.
    commit_next(quarantined, 103, 1, rejects((104, "missing_field")))
    assert reader.execute(STATE).fetchall() == [
        (100, "resolved", "not_json", "not_json", "detail of 100"),
        (101, "open", "bad_time", "out_of_range", "now this"),
        (102, "open", "not_json", "missing_field", "detail of 104"),
        (104, "open", "missing_field", "missing_field", "detail of 104"),
    ]
    result = resolved(batch, TOPIC, Judgements.of([judged]))
    assert result.as_dict() == {
        "sent": 2, "resolved": 1, "pending": 0, "kept": {"out_of_range": 1, "missing_field": 1}, "unread": 2,
    }  # fmt: skip
    row = ledger(reader)[0]
    assert (row["received"], row["counted"], row["quarantined"], row["difference"]) == (105, 101, 4, 0)


def test_offsets_that_are_in_flight_are_not_counted_yet(
    quarantined: Connection, batch: Connection, reader: Connection
) -> None:
    resolve(batch, TOPIC, Judged(sent=[(0, 100, 0, 103)], kept=[], unread=0))
    begin_run(batch, "full", {0: 110})
    assert reader.execute("SELECT in_flight FROM ledger WHERE partition = 0").fetchone() == (7,)
    assert reader.execute('SELECT state FROM quarantine_state WHERE "offset" = 100').fetchone() == ("sent",)


def test_judging_twice_is_judging_once(quarantined: Connection, batch: Connection, reader: Connection) -> None:
    judged = Judged(sent=[(0, 100, 0, 103)], kept=[(0, 101, "bad_time", "still")], unread=0)
    resolve(batch, TOPIC, judged)
    before = reader.execute(STATE).fetchall()
    resolve(batch, TOPIC, judged)
    assert reader.execute(STATE).fetchall() == before
    assert len(before) == 3


def test_a_record_that_was_sent_stays_so(quarantined: Connection, batch: Connection, reader: Connection) -> None:
    resolve(batch, TOPIC, Judged(sent=[(0, 100, 0, 103)], kept=[], unread=0))
    # Somebody with an older decoder judges too.
    resolve(batch, TOPIC, Judged(sent=[], kept=[(0, 100, "not_json", "older")], unread=0))
    assert reader.execute(STATE).fetchall()[0][:2] == (100, "sent")
    # Two at once sent it: either copy is as good, and the later one is named.
    resolve(batch, TOPIC, Judged(sent=[(0, 100, 1, 7)], kept=[], unread=0))
    places = 'SELECT sent_partition, sent_offset FROM quarantine_state WHERE "offset" = 100'
    assert reader.execute(places).fetchone() == (1, 7)


def test_what_was_never_quarantined_is_left_out(quarantined: Connection, batch: Connection, reader: Connection) -> None:
    resolve(batch, TOPIC, Judged(sent=[(0, 7, 0, 103), (1, 100, 0, 104)], kept=[], unread=0))
    with connect(Settings.from_env(), "postgres", batch.info.dbname) as owner:
        assert owner.execute("SELECT count(*) FROM serving.resolution").fetchone() == (0,)
    assert list(unresolved(reader, TOPIC, None)) == [Wanted({0: [100, 101, 102]})]


def test_cover_is_what_the_live_run_has_filters_of(speed: Connection, batch: Connection, reader: Connection) -> None:
    assert replay_cover(reader).uncovered_days == ()
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    full_run(batch, frame)
    commit_next(speed, 100, 5)
    days = sorted({time.date() for time in frame["event_time"]})
    cover = replay_cover(reader)
    assert (list(cover.uncovered_days), cover.next_offsets[0]) == (days, 100)


def test_the_verbs_hand_json_to_each_other(
    quarantined: Connection, database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRAID_DATABASE_NAME", database.database_name)
    assert main(["unresolved", "--reason", "bad_time"]) == 0
    assert json.loads(capsys.readouterr().out) == {"offsets": {"0": [101]}}
    assert main(["covered"]) == 0
    assert json.loads(capsys.readouterr().out)["uncovered_days"] == []
    nothing = json.dumps({"sent": [], "kept": [], "unread": 0})
    judged = json.dumps({"sent": [[0, 101, 0, 103]], "kept": [], "unread": 0}) + "\n" + nothing + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(judged))
    assert main(["resolve", "--no-wait"]) == 0
    assert capsys.readouterr().out == "1 of 1 quarantined records sent again; 0 resolved; 1 not counted yet\n"
    commit_next(quarantined, 103, 1)
    monkeypatch.setattr("sys.stdin", io.StringIO(judged))
    assert main(["resolve", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["resolved"] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO("[]"))
    assert main(["resolve"]) == 1
    assert "is not what `python -m ingest replay-quarantine` prints" in capsys.readouterr().err
    assert main(["unresolved", "--reason", "none"]) == 1
