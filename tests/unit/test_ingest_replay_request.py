"""What a replay is asked for: each word that means nothing is refused, and named."""

from __future__ import annotations

from datetime import date

import pytest

from contract.errors import InputError
from contract.replays import Cover, Judged, Wanted, from_json, to_json
from contract.settings import Settings
from ingest.replay_request import ReplayRequest
from ingest.replay_selection import Days


def test_a_request_in_its_shortest_and_longest_form():
    day = date(2015, 5, 18)
    assert ReplayRequest.of(Settings(), "2015-05-18") == ReplayRequest(
        Days(day, day), None, None, shift=False, topic="pageviews", dry_run=False
    )
    words = ("2015-05-18", "2015-05-19", "demo", "60x", "now", "load-test", True)
    assert ReplayRequest.of(Settings(), *words) == ReplayRequest(
        Days(day, date(2015, 5, 19)), "demo", 60.0, shift=True, topic="load-test", dry_run=True
    )


def test_days_are_whole_and_the_last_one_counts():
    days = Days(date(1970, 1, 1), date(1970, 1, 2))
    assert (days.first_time_us, days.next_time_us) == (0, 2 * 86_400_000_000)
    assert list(days) == [date(1970, 1, 1), date(1970, 1, 2)]
    assert (str(days), str(Days(days.first, days.first))) == ("1970-01-01 to 1970-01-02", "1970-01-01")


@pytest.mark.parametrize("speed", ["1x", "0.5x", "86400x", "0.000000001x"])
def test_speeds(speed: str):
    assert ReplayRequest.of(Settings(), "2015-05-18", speed=speed).speed == float(speed[:-1])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"first": "2015-5-18"}, "FROM='2015-5-18' is not a date such as 2015-05-18"),
        ({"first": "20150518"}, "FROM='20150518' is not a date"),
        ({"first": "yesterday"}, "FROM='yesterday' is not a date"),
        ({"first": ""}, "FROM='' is not a date"),
        ({"first": "2015-05-18T00:00:00"}, "is not a date"),
        ({"first": "2015-05-18", "last": "2015-02-29"}, "TO='2015-02-29' is not a date"),
        ({"first": "1969-12-31"}, "FROM=1969-12-31 is not a day that an event can have"),
        ({"first": "2015-05-18", "last": "9999-12-31"}, "TO=9999-12-31 is not a day that an event can have"),
        ({"first": "2015-05-19", "last": "2015-05-18"}, "FROM=2015-05-19 is after TO=2015-05-18"),
        *(
            ({"first": "2015-05-18", "speed": speed}, f"SPEED='{speed}' is neither max nor a multiple")
            for speed in ("60", "0x", "-1x", "fast", "", "1e3x", "infx", "x", "60 x")
        ),
        ({"first": "2015-05-18", "site": ""}, "SITE='' is not a text of 1 to 253 characters"),
        ({"first": "2015-05-18", "site": "s" * 254}, "is not a text of 1 to 253 characters"),
        ({"first": "2015-05-18", "shift": "tomorrow"}, "SHIFT='tomorrow' is not now"),
        ({"first": "2015-05-18", "topic": "a topic"}, "TOPIC='a topic' is no name of a topic"),
        ({"first": "2015-05-18", "topic": ".."}, "TOPIC='..' is no name of a topic"),
    ],
)
def test_a_word_that_means_nothing_is_named(words: dict[str, str], complaint: str):
    with pytest.raises(InputError) as refused:
        ReplayRequest.of(Settings(), **words)
    assert complaint in str(refused.value)


def test_what_one_command_prints_the_other_one_reads():
    cover = Cover((date(2015, 5, 18),), {0: 7})
    for told in (cover, Wanted({0: [7, 9], 3: []}), Judged([(0, 7, 1, 9)], [(0, 8, "not_json", "why")], 2)):
        assert from_json(type(told), to_json(told), "x") == told
    assert from_json(Cover, "{}", "serving covered") == Cover()
    with pytest.raises(InputError, match=r"'\[\]' is not what `python -m serving covered` prints: Expected `object`"):
        from_json(Cover, "[]", "serving covered")
    assert Judged([(0, 7, 1, 9), (0, 8, 1, 5), (0, 9, 0, 3)]).next_offsets == {0: 4, 1: 10}
