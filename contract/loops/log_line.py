"""The compiled loops of contract/log_line.py: lines are taken apart, and events written, byte by byte.

Bounds. A position is read only behind one that was found in the line, or in front of it where the line is known to be so
long. What is written of a line is at most the line, the texts before the values, MOST_ADDED_BYTES, and MOST_ESCAPE_BYTES
for each of its backslashes.
"""

from __future__ import annotations

import numpy as np
from numba import boolean, int64, types, uint8
from numpy.typing import NDArray

from contract.compiled import compiled, read_only
from contract.loops.dates import days_of
from contract.loops.writing import put, put_digits, put_number

_NEW_LINE, _RETURN, _SPACE, _QUOTE, _PLUS, _MINUS, _POINT, _SLASH, _ZERO, _COLON = b'\n\r "+-./0:'
_OPEN, _BACKSLASH, _CLOSE, _UNDERLINE, _BRACE, _LAST_PLAIN = b"[\\]_}~"
_HEAD = np.frombuffer(b"HEAD", np.uint8)
_NO_CONTENT, _NOT_MODIFIED, _LEAST_ERROR = 204, 304, 400
# A clock that is so many minutes off is read by somebody who looks twice: as hundredths of an hour they are quarters.
_QUARTER, _HALF = 25, 50
_LOWER_CASE, _A, _Z = b" az"
_HTTP = np.frombuffer(b" HTTP/", np.uint8)
_MONTHS = np.frombuffer(b"JanFebMarAprMayJunJulAugSepOctNovDec", np.uint8)
_DAY_MINUTES = 24 * 60
_TIME_BYTES = len("17/May/2015:10:05:03 +0000")
# From the bracket before the time to the quote before the request.
_TIME_TO_REQUEST = 1 + _TIME_BYTES + len("] ")
# What is longer or greater may be outside the limits of an event, which is for the JSON decoder to say.
_MOST_SIZE_DIGITS = 12
_LONGEST_TEXT = 2_048
_LONGEST_DURATION_MS = 86_400_000
_FIRST_YEAR = 1970
_MOST_SECONDS_DIGITS, _MILLISECONDS_DIGITS = 6, 3
# Of request, referrer, user agent, and fields that a server was told to add.
_MOST_QUOTES = 16
VISITOR_BYTES = 32
MOST_ADDED_BYTES = 96
"""What an event has that is neither from the line nor between its values: an offset, a time in UTC, a visitor, ends."""
MOST_ESCAPE_BYTES = 2
"""A backslash, and a quote or another one behind it, are two characters each in JSON."""

# Rows of what was found, one column a line. A line of another form has no client, no visitor and no value. What stands
# before the time ends at _CLIENT_END. DROPPED says whose size was not counted, since no body was sent.
LINE, LINE_END, _CLIENT_END, VISITOR, DROPPED = range(5)
ROWS = 5
OF_HEAD, OF_HEADERS = 1, 2
# The texts before the values of an event.
_ID, _TIME, _PAGE, _VISITOR_ID, _STATUS, _BYTES_SENT, _DURATION_MS, _REFERRER, _USER_AGENT = range(9)

Text = NDArray[np.uint8]
Positions = NDArray[np.int64]
_Bytes = read_only(uint8)
_Positions = types.Array(int64, 1, "C")
_Found = types.Array(int64, 2, "C")
_Written = types.Array(uint8, 1, "C")


@compiled(int64(int64, _Bytes, _Positions, _Written, int64))
def _put_before(value: int, before: Text, before_ends: Positions, out: Text, at: int) -> int:
    """Write the text before a value."""
    return put(before, before_ends[value], before_ends[value + 1], out, at)


@compiled(int64(_Bytes, int64, int64))
def _number(text: Text, first: int, after: int) -> int:
    """The number that stands there; -1 if there is anything but digits."""
    number = 0
    for place in range(first, after):
        digit = int(text[place]) - _ZERO
        if digit < 0 or digit > 9:
            return -1
        number = number * 10 + digit
    return number


@compiled(int64(_Bytes, int64, int64, _Written, int64))
def _put_time(text: Text, at: int, last_day: int, out: Text, to: int) -> int:
    """Write a time like `17/May/2015:12:05:03 +0200` in UTC; returns where it ends, or -1 if it is not of the usual form.

    `last_day` is a day like 20150517, and a later one is not usual.
    """
    day, year = _number(text, at, at + 2), _number(text, at + 7, at + 11)
    hour, minute, second = _number(text, at + 12, at + 14), _number(text, at + 15, at + 17), _number(text, at + 18, at + 20)
    east_hours, east_minutes = _number(text, at + 22, at + 24), _number(text, at + 24, at + 26)
    month = 1
    while month <= 12 and not (
        text[at + 3] == _MONTHS[3 * month - 3]
        and text[at + 4] == _MONTHS[3 * month - 2]
        and text[at + 5] == _MONTHS[3 * month - 1]
    ):
        month += 1
    if (
        month == 13
        or not (text[at + 2] == _SLASH and text[at + 6] == _SLASH and text[at + 11] == _COLON)
        or not (text[at + 14] == _COLON and text[at + 17] == _COLON and text[at + 20] == _SPACE)
        or not (text[at + 21] == _PLUS or text[at + 21] == _MINUS)
        or not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60)
        or not (0 <= east_hours < 24 and 0 <= east_minutes < 60 and east_minutes != _QUARTER and east_minutes != _HALF)
        or not 1 < year < 9999  # so that the year in UTC has four digits too
        or not 1 <= day <= days_of(year, month)
    ):
        return -1
    east = east_hours * 60 + east_minutes
    minutes = hour * 60 + minute + (east if text[at + 21] == _MINUS else -east)
    if minutes < 0:
        minutes, day = minutes + _DAY_MINUTES, day - 1
        if day == 0:
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
            day = days_of(year, month)
    elif minutes >= _DAY_MINUTES:
        minutes, day = minutes - _DAY_MINUTES, day + 1
        if day > days_of(year, month):
            year, month, day = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)
    if year < _FIRST_YEAR or (year * 100 + month) * 100 + day > last_day:
        return -1
    to = put_digits(year, 4, out, to)
    out[to] = _MINUS
    to = put_digits(month, 2, out, to + 1)
    out[to] = _MINUS
    to = put_digits(day, 2, out, to + 1)
    out[to] = ord("T")
    to = put_digits(minutes // 60, 2, out, to + 1)
    out[to] = _COLON
    to = put_digits(minutes % 60, 2, out, to + 1)
    out[to] = _COLON
    to = put_digits(second, 2, out, to + 1)
    out[to] = ord("Z")
    return to + 1


@compiled(int64(_Bytes, int64, int64))
def _target_end(text: Text, first: int, after: int) -> int:
    """Where the target of a request without its method ends: before the last ` HTTP/`; `first` if it is not so simple."""
    if first < after and text[first] == _SPACE:
        return first
    space = after - 1
    while space > first and text[space] != _SPACE:
        space -= 1
    if space <= first or after - space < len(_HTTP):
        return first
    for place in range(len(_HTTP)):
        if text[space + place] != _HTTP[place]:
            return first
    return space


@compiled(boolean(_Bytes, int64, int64))
def _is_known(text: Text, first: int, after: int) -> bool:
    """Whether there is a text, and other than `-`."""
    return after > first and not (after - first == 1 and text[first] == _MINUS)


@compiled(boolean(_Bytes, int64, _Bytes))
def _is(text: Text, at: int, what: Text) -> bool:
    """Whether these bytes stand there."""
    same = True
    for place in range(len(what)):
        same &= text[at + place] == what[place]
    return same


@compiled(int64(_Bytes, int64, int64, boolean, _Written, int64))
def _put_text(text: Text, first: int, after: int, escaped: bool, out: Text, at: int) -> int:
    """Write a text as JSON has it; `escaped` says that the line has backslashes."""
    if not escaped:
        return put(text, first, after, out, at)
    for place in range(first, after):
        byte = text[place]
        if byte in (_BACKSLASH, _QUOTE):
            out[at] = _BACKSLASH
            at += 1
        out[at] = byte
        at += 1
    return at


@compiled(int64(_Bytes, int64, int64))
def _duration_ms(text: Text, first: int, after: int) -> int:
    """Seconds with three decimals as milliseconds; -1 if it is not written so."""
    point = after - _MILLISECONDS_DIGITS - 1
    if not 1 <= point - first <= _MOST_SECONDS_DIGITS or text[point] != _POINT:
        return -1
    seconds, milliseconds = _number(text, first, point), _number(text, point + 1, after)
    return -1 if seconds < 0 or milliseconds < 0 else seconds * 1000 + milliseconds


@compiled(
    int64(_Bytes, int64, int64, _Positions, int64, boolean, int64, int64, _Bytes, _Positions, _Found, int64, _Written, int64)
)
def _put_event(
    text: Text,
    first: int,
    after: int,
    quotes: Positions,
    count: int,
    escaped: bool,
    offset: int,
    last_day: int,
    before: Text,
    before_ends: Positions,
    found: Positions,
    number: int,
    out: Text,
    at: int,
) -> int:
    """Write the event of the line between `first` and `after`; returns where it ends, or -1 if there is none to write.

    The line has an even number of quotes that are not escaped, at least two; `escaped` says that others are, or backslashes.
    """
    request, request_end = quotes[0], quotes[1]
    bracket = request - _TIME_TO_REQUEST
    # Whatever the user's name is: after a bracket in it there is no quote where a request would begin.
    if (
        not first < bracket - 1
        or text[first] <= _SPACE
        or not (text[bracket - 1] == _SPACE and text[bracket] == _OPEN)
        or not (text[request - 2] == _CLOSE and text[request - 1] == _SPACE)
    ):
        return -1

    method_end = request + 1
    while _A <= text[method_end] | _LOWER_CASE <= _Z or (
        method_end > request + 1 and (text[method_end] == _MINUS or text[method_end] == _UNDERLINE)
    ):
        method_end += 1
    target = method_end + 1
    target_end = _target_end(text, target, request_end)
    status, size = request_end + 2, request_end + 6
    size_end = after if count == 2 else quotes[2] - 1
    if (
        method_end == request + 1
        or text[method_end] != _SPACE
        or not 1 <= target_end - target <= _LONGEST_TEXT
        or text[target] != _SLASH
        or not size < size_end
        or not (text[status - 1] == _SPACE and text[size - 1] == _SPACE)
    ):
        return -1
    method_bytes, code = method_end - request - 1, _number(text, status, status + 3)
    # What servers write in place of a request that they could not read is judged by whoever looks twice: PRI, CONNECT and
    # UNKNOWN, and Jetty's /badMessage.
    if (
        not 100 <= code < 600
        or (method_bytes == 3 and text[request + 1] == ord("P") and text[request + 2] == ord("R"))
        or (method_bytes == 7 and text[request + 1] != ord("O"))
        or (
            code >= _LEAST_ERROR
            and target_end - target > 3
            and text[target + 1] == ord("b")
            and text[target + 2] == ord("a")
        )
    ):
        return -1
    sized = _is_known(text, size, size_end)
    if sized and (
        size_end - size > _MOST_SIZE_DIGITS
        or _number(text, size, size_end) < 0
        or (text[size] == _ZERO and size_end - size > 1)
    ):
        return -1
    dropped = 0
    if sized and text[size] != _ZERO:
        if method_bytes == len(_HEAD) and _is(text, request + 1, _HEAD):
            dropped = OF_HEAD
        elif code in (_NO_CONTENT, _NOT_MODIFIED):
            dropped = OF_HEADERS

    duration_ms = -1
    if count > 2:
        if count == 4 or text[size_end] != _SPACE:
            return -1
        if quotes[3] - quotes[2] - 1 > _LONGEST_TEXT or quotes[5] - quotes[4] - 1 > _LONGEST_TEXT:
            return -1
        for quote in range(4, count, 2):
            if quotes[quote] != quotes[quote - 1] + 2 or text[quotes[quote] - 1] != _SPACE:
                return -1
        duration = quotes[count - 1] + 2
        if duration <= after:
            if text[duration - 1] != _SPACE:
                return -1
            if _is_known(text, duration, after):
                duration_ms = _duration_ms(text, duration, after)
                if not 0 <= duration_ms <= _LONGEST_DURATION_MS:
                    return -1

    at = _put_before(_ID, before, before_ends, out, at)
    at = put_number(offset, out, at)
    at = _put_before(_TIME, before, before_ends, out, at)
    at = _put_time(text, bracket + 1, last_day, out, at)
    if at < 0:
        return -1
    at = _put_before(_PAGE, before, before_ends, out, at)
    at = _put_text(text, target, target_end, escaped, out, at)
    at = _put_before(_VISITOR_ID, before, before_ends, out, at)
    visitor = at
    at = _put_before(_STATUS, before, before_ends, out, at + VISITOR_BYTES)
    at = put(text, status, status + 3, out, at)
    at = _put_before(_BYTES_SENT, before, before_ends, out, at)
    at = put(text, size, size_end, out, at) if sized and not dropped else put_number(0, out, at)
    if duration_ms >= 0:
        at = _put_before(_DURATION_MS, before, before_ends, out, at)
        at = put_number(duration_ms, out, at)
        out[at], out[at + 1] = _POINT, _ZERO
        at += 2
    if count > 2 and _is_known(text, quotes[2] + 1, quotes[3]):
        at = _put_before(_REFERRER, before, before_ends, out, at)
        at = _put_text(text, quotes[2] + 1, quotes[3], escaped, out, at)
        out[at] = _QUOTE
        at += 1
    if count > 2 and _is_known(text, quotes[4] + 1, quotes[5]):
        at = _put_before(_USER_AGENT, before, before_ends, out, at)
        at = _put_text(text, quotes[4] + 1, quotes[5], escaped, out, at)
        out[at] = _QUOTE
        at += 1
    out[at] = _BRACE
    found[_CLIENT_END, number], found[VISITOR, number], found[DROPPED, number] = bracket - 1, visitor, dropped
    return at + 1


@compiled(int64(_Bytes, int64, int64, int64, _Bytes, _Positions, _Found, _Written))
def write_events(
    text: Text, offset: int, longest: int, last_day: int, before: Text, before_ends: Positions, found: Positions, out: Text
) -> int:
    """Write the event of each line, or nothing, and a line end; returns where the last one ends.

    No event has a line end in it.
    """
    quotes = np.empty(_MOST_QUOTES, np.int64)
    at = place = 0
    for number in range(found.shape[1]):
        first, count, odd, escaped = place, 0, 0, False
        while place < len(text):
            byte = text[np.uint64(place)]
            if byte <= _QUOTE or byte == _BACKSLASH or byte > _LAST_PLAIN:
                if byte == _NEW_LINE:
                    break
                if byte == _QUOTE:
                    quotes[count % _MOST_QUOTES] = place
                    count += 1
                elif byte == _BACKSLASH and count % 2 and place + 1 < len(text) and _SPACE <= text[place + 1] <= _LAST_PLAIN:
                    escaped = True
                    place += 1  # what is behind it ends no text
                elif byte < _SPACE or byte > _QUOTE:
                    odd += 1
            place += 1
        after = place
        if after > first and text[after - 1] == _RETURN:
            after, odd = after - 1, odd - 1
        found[LINE, number], found[LINE_END, number] = first, place
        found[_CLIENT_END, number] = first
        found[VISITOR, number], found[DROPPED, number] = -1, 0
        if not odd and after - first <= longest and 2 <= count <= _MOST_QUOTES and count % 2 == 0:
            event_end = _put_event(
                text,
                first,
                after,
                quotes,
                count,
                escaped,
                offset + first,
                last_day,
                before,
                before_ends,
                found,
                number,
                out,
                at,
            )
            if event_end > 0:
                at = event_end
        out[at] = _NEW_LINE
        at += 1
        place += 1  # the line's end
    return at


@compiled(int64(_Bytes, _Found, _Written))
def write_clients(text: Text, found: Positions, out: Text) -> int:
    """Write what stands before the time of each line, or nothing, and a line end; returns where the last one ends."""
    at = 0
    for number in range(found.shape[1]):
        at = put(text, found[LINE, number], found[_CLIENT_END, number], out, at)
        out[at] = _NEW_LINE
        at += 1
    return at


@compiled(types.void(_Bytes, _Positions, _Written))
def write_visitors(ids: Text, places: Positions, out: Text) -> None:
    """Write the visitors, one after the other in `ids`, where write_events left room for them; -1 is no place."""
    for number in range(len(places)):
        if places[number] >= 0:
            put(ids, number * VISITOR_BYTES, (number + 1) * VISITOR_BYTES, out, places[number])
