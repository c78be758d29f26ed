"""What a log line becomes, and that whole logs give what awk counts; more lines are in the corpus and in fuzzing."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from contract.event import encode
from ingest.access_log import AccessLog
from ingest.line_records import log_record
from ingest.lines import InputFile
from ingest.sample_truth import Truth
from tests import oracle
from tests.fixtures.log_corpus import COMMON, lines_in
from tests.fixtures.logs import awk_lines

NOW_MS = 1_795_248_000_000


def log() -> AccessLog:
    return AccessLog("access.log", "demo", "a key")


def test_a_common_line():
    event = log().event(17, COMMON.encode())
    assert event is not None
    assert event.visitor_id == log().event(0, COMMON.encode()).visitor_id  # type: ignore[union-attr]
    assert len(event.visitor_id) == 32
    assert encode(event).decode() == (
        '{"event_id":"access.log:17","event_time":"2015-05-17T10:05:03Z","site":"demo","page":"/a?q=1",'
        f'"visitor_id":"{event.visitor_id}","status":200,"bytes_sent":512}}'
    )


def test_a_visitor_is_one_however_the_address_is_written_and_another_under_another_key():
    ids = [
        log().event(0, COMMON.replace("198.51.100.7", text).encode()).visitor_id for text in ("2001:DB8:0::1", "2001:db8::1")
    ]  # type: ignore[union-attr]
    assert ids[0] == ids[1]
    assert AccessLog("f", "s", "another").event(0, COMMON.encode()).visitor_id != log().event(0, COMMON.encode()).visitor_id  # type: ignore[union-attr]


@pytest.mark.parametrize("packed", [False, True])
def test_a_whole_log_gives_what_awk_counts(access_log: Path, tmp_path: Path, packed: bool):
    text = access_log.read_bytes()
    file = tmp_path / "access.log"
    file.write_bytes(gzip.compress(text, 1) if packed else text)
    with InputFile(file) as source:
        parser = log()
        events = [parser.event(offset, line) for offset, line in lines_in(source)]
    by_awk = awk_lines(access_log)
    assert len(by_awk) > 0.99 * len(events) > 0
    ours = [events[line.number] for line in by_awk]
    assert [event and (event.status, event.bytes_sent) for event in ours] == [(it.status, it.bytes_sent) for it in by_awk]
    assert len({event.visitor_id for event in ours if event}) == len({line.client for line in by_awk})
    assert len({event.event_id for event in events if event}) == len(events) - events.count(None)


def test_the_sample_log_gives_its_truth(sample_log: tuple[Path, Truth]):
    path, truth = sample_log
    read = log_record(log())
    with InputFile(path) as source:
        values = [read(offset, line)[1] for offset, line in lines_in(source)]
    outcome = oracle.pipeline((0, offset, NOW_MS, value) for offset, value in enumerate(values))
    assert (outcome.received, outcome.counted, outcome.duplicate) == (truth.lines, truth.total["views"], 0)
    assert outcome.rejects.total() == truth.not_requests > 0
    found = {}
    for (bucket, site, page), row in outcome.rows["page_traffic_by_day"].items():
        key = (site, page, bucket.date().isoformat())
        found[key] = (row.views, len(row.visitors), row.bytes_sent, row.errors)
    assert found == {
        (it["site"], it["page"], it["day"]): (it["views"], it["visitors"], it["bytes_sent"], it["errors"])
        for it in truth.by_page_and_day
    }
