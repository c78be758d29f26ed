"""A line of a file that is no event, as it goes to the topic: with the reason, which the line alone does not show."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DETAIL_LENGTH = 200


class RejectedLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The value of such a record. It lacks what an event must have, so whoever does not know of it rejects it too.

    `at` is the id that its event would have had, and `site` the one that its log is of, if that is known.
    """

    rejected: Literal["not_a_log_line", "not_a_request", "bad_time"]
    # U+0000 is no text in SQL.
    detail: Annotated[str, Meta(min_length=1, max_length=DETAIL_LENGTH, pattern="^[^\x00]+$")]
    at: str
    line: str
    site: str | None = None


encode_line = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RejectedLine).decode


def rejected_line(value: bytes) -> RejectedLine | None:
    """What the value says of a line, or None if it is no such record."""
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
