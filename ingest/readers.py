"""Which reader a text's lines have: by its first lines, and by what somebody says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from contract.errors import InputError
from contract.event import SITE_LENGTH
from ingest.formats.catalogue import AUTO, CSV, EVENT_LINES
from ingest.formats.detect import SAMPLE_LINES, WantedLog, detect, texts_of
from ingest.formats.json_form import object_of
from ingest.formats.rows import Rows
from ingest.formats.times import zone_of
from ingest.line_records import EventLines, LineReader
from ingest.log_lines import LogLines
from ingest.row_lines import CsvLines, RowLines, is_csv

_OF_EVENTS = frozenset({"event_id", "event_time", "visitor_id"})


def reader_for(sample: bytes, wanted: WantedLog, key: Callable[[], str]) -> LineReader:
    """The reader of a text that begins with these lines; InputError if its lines cannot be counted.

    `key` gives the key of pseudonyms.
    """
    require_usable(wanted)
    lines = sample.split(b"\n")[:SAMPLE_LINES]
    if wanted.format == EVENT_LINES or (wanted.format == AUTO and not wanted.keys and _are_events(lines)):
        if wanted.site is not None:
            raise InputError(
                f"its lines are events, each of which says its own site, so SITE={wanted.site} is not for them; leave it out"
            )
        return EventLines()
    if wanted.format == CSV or (wanted.format == AUTO and is_csv(lines, wanted.keys)):
        return CsvLines(rows_of(wanted, key()), lines)
    if wanted.keys and set(wanted.keys) & _OF_EVENTS:
        return RowLines(rows_of(wanted, key()), lines)
    return LogLines(detect(lines, wanted), key(), wanted.size_bytes)


def require_usable(wanted: WantedLog) -> None:
    """InputError if the site or the zone that somebody says of a log is none."""
    site = wanted.name if wanted.site is None else wanted.site
    if not 1 <= len(site) <= SITE_LENGTH or not site.isprintable():
        raise InputError(f"site {site!r} is not a printable text of 1 to {SITE_LENGTH} characters; give another with SITE=")
    if wanted.zone is not None:
        zone_of(wanted.zone)


def rows_of(wanted: WantedLog, key: str) -> Rows:
    """What makes events of rows with the names that are wanted."""
    return Rows(wanted.keys, wanted.site, None if wanted.zone is None else zone_of(wanted.zone), key)


def _are_events(sample: Sequence[bytes]) -> bool:
    texts = texts_of(sample)
    events = sum(1 for text in texts if _OF_EVENTS & (object_of(text) or {}).keys())
    return 2 * events > len(texts)
