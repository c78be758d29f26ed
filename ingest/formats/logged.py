"""What a line says, still as its server writes it, or where it stops to be of a format; and what is told of no event."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import msgspec

from contract.rejected_line import DETAIL_LENGTH, RejectedLine, encode_line

# Of a longer one only the beginning goes to the topic, so that the record is within an event's size however it is escaped.
_LONGEST_LINE = 8_000


class Logged(msgspec.Struct, gc=False):
    """One line. `client` may be all that stands before the time, where a format says how to take it apart.

    A `referrer` or `user_agent` that is `-` or empty is none, which whoever makes an event of it knows.
    """

    client: str
    time: str
    request: str
    status: int
    size: int | None
    duration_ms: float | None = None
    referrer: str | None = None
    user_agent: str | None = None
    host: str | None = None


END_OF_REQUEST = "end of the request"
"""The field of a line that ends within its request."""


class Stop(NamedTuple):
    """A line fits a format up to a column, counted from 1, where a field should be."""

    field: str
    column: int


class LineForm(ABC):
    """Reads lines that are written one way."""

    @abstractmethod
    def read(self, text: str) -> Logged | None:
        """What the line says, if it is of this form."""

    @abstractmethod
    def stop(self, text: str) -> Stop:
        """Where a line that is not of this form stops to be."""

    def is_directive(self, text: str) -> bool:
        """Whether a line that begins with # is about other lines; what it says holds from then on."""
        return False


class Rejected(NamedTuple):
    """Why a line is no event: one of the reasons of the quarantine, the field, and what is wrong with it, for people."""

    reason: str
    field: str
    detail: str

    @classmethod
    def of(cls, stop: Stop) -> Rejected:
        detail = f"no {stop.field} at column {stop.column}"
        if stop.field == END_OF_REQUEST:
            detail += ": the line was cut, as HAProxy does after 1,024 bytes unless `log` has a greater `len`"
        return cls("not_a_log_line", stop.field, detail)

    def value(self, place: str, line: bytes, site: str) -> bytes:
        """The record's value; `place` is where the line stands, and `site` that of its log, empty if it has several."""
        text = line[:_LONGEST_LINE].decode("utf-8", "backslashreplace")
        detail = self.detail.replace("\0", " ")[:DETAIL_LENGTH]
        rejected = RejectedLine(rejected=self.reason, detail=detail, at=place, line=text, site=site or None)  # type: ignore[arg-type]
        return encode_line(rejected)
