"""A request's body as the values of its events: one event, a JSON array of them, or JSON lines; plain or gzip."""

from __future__ import annotations

import zlib

import msgspec

MOST_EVENTS = 10_000
_GZIP = 31  # zlib's name for a window of 32 KB with the header and checksum of gzip

_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_one = msgspec.json.Decoder(msgspec.Raw).decode


class Refused(Exception):
    """A request that cannot be taken as a whole: the HTTP status, and the reason in one word and in many."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail


def too_large(most_bytes: int) -> Refused:
    """The answer to a body that is longer, packed or unpacked."""
    return Refused(413, "too_large", f"a request holds {most_bytes} bytes at most, unpacked; send fewer events at once")


def unpacked(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """The body as Content-Encoding says it was packed; Refused if that is not known, damaged, or holds more than it may."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Refused(415, "unknown_encoding", "Content-Encoding is gzip, or there is none")
    parts: list[bytes] = []
    room = most_bytes
    while body:
        member = zlib.decompressobj(_GZIP)
        try:
            # One byte more than there is room for tells that there is more; a bomb is not unpacked any further.
            part = member.decompress(body, room + 1)
        except zlib.error as error:
            raise Refused(400, "not_gzip", str(error)) from None
        if len(part) > room:
            raise too_large(most_bytes)
        if not member.eof:
            raise Refused(400, "not_gzip", "it ends too early")
        room -= len(part)
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def values_of(body: bytes) -> list[bytes]:
    """Each event's JSON as it was sent, white space around it apart; Refused if there is none, or too many."""
    body = body.strip()
    if body.startswith(b"["):
        values = _array(body)
    elif b"\n" not in body or _is_one_document(body):
        values = [body] if body else []
    else:
        values = [line for line in map(bytes.strip, body.split(b"\n")) if line]
    if not values:
        raise Refused(400, "empty_value", "the request has no event")
    if len(values) > MOST_EVENTS:
        raise Refused(413, "too_large", f"a request holds {MOST_EVENTS} events at most, this one has {len(values)}")
    return values


def _array(body: bytes) -> list[bytes]:
    try:
        return list(map(bytes, _items(body)))
    except msgspec.DecodeError as error:
        raise Refused(400, "not_json", str(error)) from None
    except RecursionError:
        raise Refused(400, "too_deep", "the JSON is nested too deep") from None


def _is_one_document(body: bytes) -> bool:
    try:
        _one(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
