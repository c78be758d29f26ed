"""The compiled loop of contract/wire.py: each record is walked once, from its first byte to its last.

Bounds. Every record is followed by a byte 0, and the buffer ends with READ_AHEAD bytes more than the longest name has.
A record's cursor moves only over bytes that were found to be right, and 0 never is, so it stops there at the latest.

Of an index that may be negative it is asked each time whether it counts from the end, which takes a tenth of the time. So
what is read and written most is at numbers without a sign, or at constants within a slice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from contract.compiled import compiled, read_only
from contract.loops.dates import days_before, days_of, days_until
from contract.loops.writing import put_decimal, put_double, put_fraction

TEXT, TIME, INTEGER, FLOAT, DOUBLE, DECIMAL, BOOLEAN, CHOICE, OBJECT, END = range(10)
"""What a step leads to. FLOAT and DOUBLE are both numbers with a fraction; form 1 of archive files writes few of the
former."""
STEP = np.dtype(
    [
        ("kind", np.int64),
        ("before_bytes", np.int64),
        ("required", np.bool_),
        ("is_of_record", np.bool_),  # the event's own time, which the record limits
        ("column", np.uint64),
        ("column_after", np.uint64),  # of an object, the first behind those of its fields
        ("steps_within", np.int64),  # of an object
        ("least", np.float64),  # of a text's bytes, of a number with a fraction
        ("most", np.float64),
        ("least_whole", np.int64),  # of a whole number, of a decimal's smallest units
        ("most_whole", np.int64),
        ("places", np.int64),
        ("first_choice", np.int64),
        ("after_choice", np.int64),
    ],
    align=True,
)
WORD_BYTES = 8
INLINE_BYTES = 12
READ_AHEAD = 64
"""No more than so many bytes are read from a cursor on, except for names."""

_QUOTE, _BRACE, _POINT, _PLUS, _MINUS, _COLON, _ZERO, _T, _Z = b'"}.+-:0TZ'
_MOST_DIGITS = 18
# So small integers and these powers of ten are exact as floats, so their quotient is correctly rounded (Clinger 1990).
_MOST_EXACT = 10**15
_POWERS_OF_TEN = np.array([float(10**power) for power in range(_MOST_DIGITS + 1)])
_WHOLE_POWERS_OF_TEN = np.array([10**power for power in range(_MOST_DIGITS + 1)])
_MICROSECONDS = 1_000_000
_MOST_FRACTION_DIGITS = 6
_LAST_YEAR = 9_999
_LAST_US = (datetime.max.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
_NO_DIGITS = _LAST_YEAR + 1
_NOWHERE = -1
_WHOLE_SECONDS_BYTES = len("YYYY-MM-DDThh:mm:ss")
_LONGEST_WRITTEN = 32  # more than a number is

_ONE, _U7, _U8, _U32, _U56 = map(np.uint64, (1, 7, 8, 32, 56))
# What makes a comma in a word's first byte an opening brace.
_NOTHING, _OPENS = np.uint64(0), np.uint64(ord(",") ^ ord("{"))
_TRUE, _FALSE = (np.uint64(int.from_bytes(word, "little")) for word in (b"true", b"false"))
_EACH = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x80) * _EACH
_SPACES, _QUOTES, _BACKSLASHES = (np.uint64(byte) * _EACH for byte in b' "\\')

_BYTES, _LONGS = read_only(types.uint8), read_only(types.int64)
# At any position, so they overlap.
_WORDS = types.Array(types.uint64, 1, "A", readonly=True, aligned=False)
_STEPS = read_only(numba.from_dtype(STEP))
_NAMES = types.Array(types.uint64, 2, "C", readonly=True)
_PAIR, _TRIPLE, _VIEW = map(numba.typeof, ((0, 0), (0, 0, 0), (_ONE, _ONE)))


@compiled(types.uint64(types.uint64, types.int64))
def _first_bytes(word: np.uint64, count: int) -> np.uint64:
    """The word with all but its first `count` bytes, 0 to 8, set to zero."""
    bits = np.uint64(count << 3)
    return word & ((_ONE << (bits >> _ONE) << (bits - (bits >> _ONE))) - _ONE)


@compiled(_PAIR(_WORDS, types.uint64))
def _text_end(words: NDArray[np.uint64], at: np.uint64) -> tuple[int, int]:
    """Where the first quote, backslash or control character is; not 0 if there may be bytes other than ASCII before it."""
    seen = np.uint64(0)
    while True:
        word = words[at]
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        # A byte's high bit is set where it is less than what is subtracted. Borrowing spoils only the bytes after a find.
        found = ((word - _SPACES) & ~word | (quote - _EACH) & ~quote | (backslash - _EACH) & ~backslash) & _HIGH_BITS
        seen |= word
        if found:
            lowest = found & (~found + _ONE)
            bytes_before = ((lowest >> _U7) - _ONE & _EACH) * _EACH >> _U56
            return int(at + bytes_before), int((seen & _HIGH_BITS) >> _U7)
        at += _U8


@compiled(_TRIPLE(_BYTES, types.uint64))
def _digits(text: NDArray[np.uint8], at: np.uint64) -> tuple[int, int, int]:
    """The digits of a JSON number without a sign as one integer, how many are after the point, and where it ends.

    It ends nowhere if it has an exponent or too many digits, or is none.
    """
    first, digits = at, 0
    while _ZERO <= text[at] < _ZERO + 10:
        digits = digits * 10 + text[at] - _ZERO
        at += _ONE
    count = np.int64(at - first)
    if count == 0 or count > _MOST_DIGITS or (count > 1 and text[first] == _ZERO):
        return 0, 0, _NOWHERE
    if text[at] != _POINT:
        return digits, 0, int(at)
    at += _ONE
    first = at
    while _ZERO <= text[at] < _ZERO + 10:
        digits = digits * 10 + text[at] - _ZERO
        at += _ONE
    places = np.int64(at - first)
    if places == 0 or count + places > _MOST_DIGITS:
        return 0, 0, _NOWHERE
    return digits, int(places), int(at)


@compiled(types.int64(_BYTES, types.int64))
def _two_digits(text: NDArray[np.uint8], at: int) -> int:
    """The number of these two digits; a larger one if they are none."""
    tens, units = text[at] - _ZERO, text[at + 1] - _ZERO
    return tens * 10 + units if 0 <= tens <= 9 and 0 <= units <= 9 else _NO_DIGITS


@compiled(_PAIR(_BYTES, types.int64))
def _time(text: NDArray[np.uint8], first: int) -> tuple[int, int]:
    """Microseconds since 1970 of `YYYY-MM-DDThh:mm:ss[.f](Z|±hh:mm)` with up to six digits f, and where it ends.

    It ends nowhere if it is of another form, has no such date or begins before 1970.
    """
    text = text[first:]
    if not (text[4] == text[7] == _MINUS and text[10] == _T and text[13] == text[16] == _COLON):
        return 0, _NOWHERE
    year = _two_digits(text, 0) * 100 + _two_digits(text, 2)
    month, day = _two_digits(text, 5), _two_digits(text, 8)
    hour, minute, second = _two_digits(text, 11), _two_digits(text, 14), _two_digits(text, 17)
    if not (1970 <= year <= _LAST_YEAR and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        return 0, _NOWHERE
    if not 1 <= day <= days_of(year, month):
        return 0, _NOWHERE
    days = days_until(year) + days_before(year, month) + day - 1
    at, fraction = _WHOLE_SECONDS_BYTES, 0
    if text[at] == _POINT:
        at += 1
        unit = _MICROSECONDS
        while _ZERO <= text[at] < _ZERO + 10 and at <= _WHOLE_SECONDS_BYTES + _MOST_FRACTION_DIGITS:
            unit //= 10
            fraction += (text[at] - _ZERO) * unit
            at += 1
        if unit == _MICROSECONDS:
            return 0, _NOWHERE
    sign = text[at]
    at += 1
    if sign != _Z:
        hours, minutes = _two_digits(text, at), _two_digits(text, at + 3)
        if not (sign in (_PLUS, _MINUS) and hours < 24 and minutes < 60 and text[at + 2] == _COLON):
            return 0, _NOWHERE
        east = hours * 60 + minutes
        minute -= east if sign == _PLUS else -east
        at += 5
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * _MICROSECONDS + fraction, first + at


@compiled(types.boolean(_BYTES, types.int64, types.int64))
def _is_utf8(text: NDArray[np.uint8], at: int, after: int) -> bool:
    """Whether the bytes from `at` to `after` are UTF-8: no character cut, written longer than it must be, or a surrogate."""
    while at < after:
        lead = text[at]
        if lead < 0x80:
            at += 1
            continue
        if lead < 0xC2 or lead > 0xF4:
            return False
        following = 1 + (lead >= 0xE0) + (lead >= 0xF0)
        if at + following >= after:
            return False
        point = lead & (0x3F >> following)
        for place in range(at + 1, at + 1 + following):
            if text[place] & 0xC0 != 0x80:
                return False
            point = point << 6 | (text[place] & 0x3F)
        if following == 2 and (point < 0x800 or 0xD800 <= point <= 0xDFFF):
            return False
        if following == 3 and not 0x10000 <= point <= 0x10FFFF:
            return False
        at += 1 + following
    return True


@compiled(_VIEW(_WORDS, types.uint64, types.int64, types.int64))
def _view(words: NDArray[np.uint64], at: np.uint64, length: int, buffer: int) -> tuple[np.uint64, np.uint64]:
    """A text in Arrow's string_view: its length, then all bytes of a short one, or the first four and where the text is.

    https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
    """
    first = words[at]
    if length > INLINE_BYTES:
        return np.uint64(length) | first << _U32, np.uint64(buffer) | at << _U32
    first = _first_bytes(first, min(length, WORD_BYTES))
    rest = _first_bytes(words[at + _U8], max(length - WORD_BYTES, 0))
    return np.uint64(length) | first << _U32, first >> _U32 | rest << _U32


@compiled(types.boolean(_BYTES, types.int64, types.int64, types.uint8[::1], types.int64))
def _is(text: NDArray[np.uint8], at: int, after: int, written: NDArray[np.uint8], length: int) -> bool:
    """Whether the bytes from `at` to `after` are those that were written."""
    same = after - at == length
    text = text[at:after]
    for place in range(length if same else 0):
        same &= text[place] == written[place]
    return same


@compiled(types.boolean(_BYTES, types.int64, types.int64, _BYTES, _LONGS, types.int64, types.int64))
def _is_choice(
    text: NDArray[np.uint8],
    at: int,
    after: int,
    choices: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    first: int,
    after_last: int,
) -> bool:
    """Whether the bytes from `at` to `after` are one of these choices."""
    for choice in range(first, after_last):
        begin = bounds[choice]
        if bounds[choice + 1] - begin != after - at:
            continue
        same = True
        for place in range(after - at):
            same &= text[at + place] == choices[begin + place]
        if same:
            return True
    return False


_READING = types.int64(
    _STEPS, _NAMES, _NAMES, _BYTES, _LONGS,
    _BYTES, _WORDS, _LONGS, types.int64, _LONGS, types.int64, types.int64, types.int64,
    types.int64[::1], types.boolean[:, ::1], types.uint64[:, :, ::1], types.int64[:, ::1], types.float64[:, ::1],
    types.boolean, types.boolean[::1],
)  # fmt: skip


def _reader(any_kind: bool) -> Callable[..., int]:
    """The loop for steps of any kind, or for those only that need no more than form 1 has; so compiled, it is faster.

    It writes the records that are of wire form to the rows from `row` on, and returns the row after them.

    `text` and `lengths` are those of a Piece, of which record `first_record` is the first; `words` are the eight bytes
    from each position of the text on, and `buffer` is the text's number. None is of a value larger than `most_bytes`. A
    step's `befores`, of which `masks` say how far they go, are all that is written before its value, with a comma first:
    what comes first in an object has the opening brace in its place. `records` says of which record a row is. Of `views`,
    `integers` and `floats` each has a column for each field, which uses that of its kind.

    If they are to be compared, `follows` says of a row whether write_records would write the very same bytes of it. What can
    be spelled in more than one way here is only what comes after the seconds of a time, and a number with a fraction: these
    are compared with what is written of them.
    """

    @compiled(_READING, "_of_any_kind" if any_kind else "_plain")
    def read_records(
        steps: np.ndarray,
        befores: NDArray[np.uint64],
        masks: NDArray[np.uint64],
        choices: NDArray[np.uint8],
        choice_bounds: NDArray[np.int64],
        text: NDArray[np.uint8],
        words: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        most_bytes: int,
        latest_us: NDArray[np.int64],
        buffer: int,
        first_record: int,
        row: int,
        records: NDArray[np.int64],
        present: NDArray[np.bool_],
        views: NDArray[np.uint64],
        integers: NDArray[np.int64],
        floats: NDArray[np.float64],
        compare: bool,
        follows: NDArray[np.bool_],
    ) -> int:
        written = np.empty(_LONGEST_WRITTEN, np.uint8)
        after = -1
        for number in range(len(lengths)):
            at = start = after + 1
            after = start + max(lengths[number], 0)
            record = first_record + number
            if lengths[number] > most_bytes:
                continue
            good, same, may_be_other_than_ascii = True, compare, 0
            opens = _OPENS
            skipped = 0
            for place in range(len(steps)):
                if any_kind and place < skipped:
                    continue
                step = steps[place]
                kind = step.kind
                # Without objects each step is a field's.
                column = step.column if any_kind else np.uint64(place)
                if any_kind and kind == END:
                    # An object without members is not written.
                    good = text[at] == _BRACE and opens == _NOTHING
                    if not good:
                        break
                    at += 1
                    continue
                first, there = opens, True
                for word in range(befores.shape[1]):
                    read = words[np.uint64(at + word * WORD_BYTES)]
                    there &= (read ^ befores[place, word] ^ first) & masks[place, word] == 0
                    first = _NOTHING
                if not there:
                    good = not step.required
                    if not good:
                        break
                    # What is under a null is nobody's, but it must not be whatever was in memory.
                    if any_kind and kind == OBJECT:
                        for within in range(column, step.column_after):
                            present[within, row] = False
                            views[within, row, 0] = views[within, row, 1] = 0
                            integers[within, row] = 0
                            floats[within, row] = 0
                        skipped = place + step.steps_within + 1
                        continue
                    present[column, row] = False
                    if kind in (TEXT, CHOICE):
                        views[column, row, 0] = views[column, row, 1] = 0
                    elif kind in (FLOAT, DOUBLE):
                        floats[column, row] = 0
                    else:
                        integers[column, row] = 0
                    continue
                at += step.before_bytes
                if any_kind and kind == OBJECT:
                    opens = _OPENS
                    continue
                present[column, row] = True
                opens = _NOTHING
                if kind == TEXT:
                    end, other = _text_end(words, at)
                    may_be_other_than_ascii |= other
                    good = text[np.uint64(end)] == _QUOTE and step.least <= end - at <= step.most
                    views[column, row, 0], views[column, row, 1] = _view(words, at, end - at, buffer)
                    at = end + 1
                elif kind == TIME:
                    time, end = _time(text, at)
                    latest = latest_us[record] if step.is_of_record else _LAST_US
                    good = end != _NOWHERE and text[np.uint64(end)] == _QUOTE and 0 <= time <= latest
                    integers[column, row] = time
                    if same and good:
                        length = put_fraction(time % _MICROSECONDS, written, 0)
                        same = _is(text, at + _WHOLE_SECONDS_BYTES, end, written, length)
                    at = end + 1
                elif any_kind and kind == CHOICE:
                    end, _ = _text_end(words, at)
                    good = text[end] == _QUOTE and _is_choice(
                        text, at, end, choices, choice_bounds, step.first_choice, step.after_choice
                    )
                    views[column, row, 0], views[column, row, 1] = _view(words, at, end - at, buffer)
                    at = end + 1
                elif any_kind and kind == BOOLEAN:
                    is_true = _first_bytes(words[at], 4) == _TRUE
                    good = is_true or _first_bytes(words[at], 5) == _FALSE
                    integers[column, row] = is_true
                    at += 4 if is_true else 5
                else:
                    # What is no float has no -0.
                    is_negative = any_kind and text[at] == _MINUS
                    digits, places, end = _digits(text, at + is_negative)
                    if is_negative:
                        digits, end = -digits, end if digits else _NOWHERE
                    if kind == INTEGER:
                        good = end != _NOWHERE and places == 0 and step.least_whole <= digits <= step.most_whole
                        integers[column, row] = digits
                    elif any_kind and kind == DECIMAL:
                        good = end != _NOWHERE and places <= step.places
                        power = _WHOLE_POWERS_OF_TEN[step.places - places if good else 0]
                        # What is beyond the limits may be beyond 64 bits too, as a product.
                        good = good and -(-step.least_whole // power) <= digits <= step.most_whole // power
                        integers[column, row] = digits * power
                        # The shortest spelling is what is written.
                        same = same and (places == 0 or text[end - 1] != _ZERO)
                    else:
                        value = digits / _POWERS_OF_TEN[places]
                        good = end != _NOWHERE and -_MOST_EXACT < digits < _MOST_EXACT and step.least <= value <= step.most
                        floats[column, row] = value
                        if same and good:
                            length = (
                                put_double(value, written, 0)
                                if any_kind and kind == DOUBLE
                                else put_decimal(value, written, 0)
                            )
                            same = _is(text, at, end, written, length)
                    at = end
                if not good:
                    break
            if not good or text[at] != _BRACE or at + 1 != after:
                continue
            if may_be_other_than_ascii and not _is_utf8(text, start, after):
                continue
            records[row] = record
            # guard: a value is left out only if it comes back
            follows[row] = same
            row += 1
        return row

    return read_records


read_records, read_plain_records = _reader(True), _reader(False)
