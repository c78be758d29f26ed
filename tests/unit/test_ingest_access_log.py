"""What a log line becomes, and that whole logs give what awk counts; more lines are in the corpus and in fuzzing."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from contract.event import Event, encode
from ingest.lines import InputFile
from ingest.log_lines import LogLines
from ingest.sample_truth import Truth
from tests import oracle
from tests.fixtures.log_corpus import COMMON, lines_in, log_lines
from tests.fixtures.logs import awk_lines

NOW_MS = 1_795_248_000_000


def event_of(line: str, log: LogLines | None = None) -> Event:
    event = (log or log_lines()).event("access.log:0", 0, line.encode())
    assert isinstance(event, Event)
    return event


def test_a_common_line():
    event = log_lines().event("access.log:17", 17, COMMON.encode())
    assert isinstance(event, Event)
    assert event.visitor_id == event_of(COMMON).visitor_id
    assert len(event.visitor_id) == 32
    assert encode(event).decode() == (
        '{"event_id":"access.log:17","event_time":"2015-05-17T10:05:03Z","site":"demo","page":"/a?q=1",'
        f'"visitor_id":"{event.visitor_id}","status":200,"bytes_sent":512}}'
    )


def test_a_visitor_is_one_however_the_address_is_written_and_another_under_another_key():
    written = ("2001:DB8:0::1", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80", '"2001:db8::1"', "2001:db8::1%eth0")
    assert len({event_of(COMMON.replace("198.51.100.7", text)).visitor_id for text in written}) == 1
    assert event_of(COMMON, log_lines(key="another")).visitor_id != event_of(COMMON).visitor_id


@pytest.mark.parametrize("packed", [False, True])
def test_a_whole_log_gives_what_awk_counts(access_log: Path, tmp_path: Path, packed: bool):
    text = access_log.read_bytes()
    file = tmp_path / "access.log"
    file.write_bytes(gzip.compress(text, 1) if packed else text)
    with InputFile(file) as source:
        parser = log_lines()
        made = [parser.event(f"access.log:{offset}", offset, line) for offset, line in lines_in(source)]
    events = [event if isinstance(event, Event) else None for event in made]
    by_awk = awk_lines(access_log)
    assert len(by_awk) > 0.99 * len(events) > 0
    ours = [events[line.number] for line in by_awk]
    assert [event and (event.status, event.bytes_sent) for event in ours] == [(it.status, it.bytes_sent) for it in by_awk]
    assert len({event.visitor_id for event in ours if event}) == len({line.client for line in by_awk})
    assert len({event.event_id for event in events if event}) == len(events) - events.count(None)


def test_the_sample_log_gives_its_truth(sample_log: tuple[Path, Truth]):
    path, truth = sample_log
    reader = log_lines()
    with InputFile(path) as source:
        blocks = [(piece.offset, piece.data.removesuffix(b"\n")) for piece in source.pieces(final=True)]
    values = [value for offset, block in blocks for value in reader.read("access.log", offset, block).values]
    outcome = oracle.pipeline((0, offset, NOW_MS, value) for offset, value in enumerate(values))
    assert (outcome.received, outcome.counted, outcome.duplicate) == (truth.lines, truth.total["views"], 0)
    assert outcome.rejects == {"not_a_request": truth.not_requests}
    assert reader.notes.lines == truth.lines
    assert reader.notes.texts() == []
    found = {}
    for (bucket, site, page), row in outcome.rows["page_traffic_by_day"].items():
        key = (site, page, bucket.date().isoformat())
        found[key] = (row.views, len(row.visitors), row.bytes_sent, row.errors)
    assert found == {
        (it["site"], it["page"], it["day"]): (it["views"], it["visitors"], it["bytes_sent"], it["errors"])
        for it in truth.by_page_and_day
    }
