"""The page-view event, as ingest makes it and all layers read it. It is declared in contract/streams/page_views.py."""

from __future__ import annotations

from contract.decoder import (
    MAX_AHEAD,
    MAX_NESTING,
    MAX_VALUE_BYTES,
    REASONS,
    REJECT_SCHEMA,
    Decoded,
    Reject,
    decoder_of,
)
from contract.streams.page_views import (
    EVENT_ID_LENGTH,
    MAX_BYTES_SENT,
    MAX_DURATION_MS,
    MAX_PAGE_LENGTH,
    PAGE_VIEWS,
    SITE_LENGTH,
    VISITOR_ID_LENGTH,
)

__all__ = [
    "EVENTS",
    "EVENT_ID_LENGTH",
    "EVENT_SCHEMA",
    "FIELDS",
    "MAX_AHEAD",
    "MAX_BYTES_SENT",
    "MAX_DURATION_MS",
    "MAX_NESTING",
    "MAX_PAGE_LENGTH",
    "MAX_VALUE_BYTES",
    "REASONS",
    "REJECT_SCHEMA",
    "SITE_LENGTH",
    "VISITOR_ID_LENGTH",
    "Decoded",
    "Event",
    "Reject",
    "decode",
    "decode_records",
    "encode",
    "json_schema",
    "judge",
    "read",
]

EVENTS = decoder_of(PAGE_VIEWS)
Event = EVENTS.event
FIELDS, EVENT_SCHEMA = EVENTS.fields, EVENTS.schema
decode, decode_records, judge, read, encode = EVENTS.decode, EVENTS.decode_records, EVENTS.judge, EVENTS.read, EVENTS.encode
json_schema = EVENTS.json_schema
