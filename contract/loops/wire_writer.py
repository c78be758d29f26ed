"""The compiled loop of contract/wire_writer.py: each event is written once, field after field, as JSON.

What it writes is forms 1 and 2 of archive files (contract/wire_writer.py): a byte that changes here makes another form.

Bounds. What is written of an event is at most the texts before its values, its texts with MOST_ESCAPE_BYTES for each byte
that is escaped, MOST_ADDED_BYTES for each field, and a brace.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import boolean, float64, int64, types, uint8
from numpy.typing import NDArray

from contract.compiled import compiled, read_only
from contract.loops.wire import BOOLEAN, CHOICE, DECIMAL, DOUBLE, END, FLOAT, INTEGER, OBJECT, STEP, TEXT, TIME
from contract.loops.writing import put, put_decimal, put_double, put_number, put_time, put_units

MOST_ESCAPE_BYTES = len("\\u001f")
MOST_ADDED_BYTES = 28
"""What a step has that is neither a text nor before its value: a time or a number, and a quote."""

_QUOTE, _BACKSLASH, _SPACE, _BRACE, _OPENING_BRACE, _ZERO, _U, _A = b'"\\ }{0ua'
_TRUE, _FALSE = (np.frombuffer(word, np.uint8) for word in (b"true", b"false"))

_BYTES, _LONGS, _STEPS = read_only(uint8), read_only(int64), read_only(numba.from_dtype(STEP))
_WRITTEN, _ENDS = types.Array(uint8, 1, "C"), types.Array(int64, 1, "C")
_MANY_LONGS, _MANY_FLOATS, _MANY_FLAGS = (types.Array(item, 2, "C", readonly=True) for item in (int64, float64, boolean))

_SHORT_ESCAPES = np.zeros(_BACKSLASH + 1, np.uint8)
_SHORT_ESCAPES[[*b'"\\\b\t\n\f\r']] = [*b'"\\btnfr']


@compiled(int64(_BYTES, int64, int64, _WRITTEN, int64))
def _put_text(content: NDArray[np.uint8], first: int, after: int, out: NDArray[np.uint8], at: int) -> int:
    """Write a text without the quotes around it; returns where it ends."""
    plain = first
    for place in range(first, after):
        # As in put(): each byte is looked at.
        byte = content[np.uint64(place)]
        if byte >= _SPACE and byte != _QUOTE and byte != _BACKSLASH:
            continue
        at = put(content, plain, place, out, at)
        plain = place + 1
        out[at] = _BACKSLASH
        if _SHORT_ESCAPES[byte]:
            out[at + 1] = _SHORT_ESCAPES[byte]
            at += 2
            continue
        digit = byte & 15
        out[at + 1], out[at + 2], out[at + 3], out[at + 4] = _U, _ZERO, _ZERO, _ZERO + (byte >> 4)
        out[at + 5] = _ZERO + digit if digit < 10 else _A + digit - 10
        at += MOST_ESCAPE_BYTES
    return put(content, plain, after, out, at)


@compiled(int64(_STEPS, _BYTES, _LONGS, _BYTES, _MANY_LONGS, _MANY_FLAGS, _MANY_LONGS, _MANY_FLOATS, _WRITTEN, _ENDS))
def write_records(
    steps: np.ndarray,
    befores: NDArray[np.uint8],
    before_ends: NDArray[np.int64],
    content: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    present: NDArray[np.bool_],
    integers: NDArray[np.int64],
    floats: NDArray[np.float64],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> int:
    """Write all events one after the other, and to `ends` where each begins and ends; returns where the last one ends.

    Of `present` each step has a row, and of `bounds`, `integers` and `floats`, of which it uses that of its kind.
    `bounds` are those of the field's texts in `content`. Nothing is written of an event with a number that is not a short
    decimal.
    """
    at = 0
    for row in range(present.shape[1]):
        start = at
        is_first = True
        place = -1
        while place + 1 < len(steps):
            place += 1
            kind = steps[place].kind
            if kind == END:
                out[at] = _BRACE
                at += 1
                continue
            if not present[place, row]:
                place += steps[place].steps_within
                continue
            before = at
            at = put(befores, before_ends[place], before_ends[place + 1], out, at)
            if is_first:
                out[before] = _OPENING_BRACE
            is_first = kind == OBJECT
            if kind in (TEXT, CHOICE, TIME):
                if kind == TIME:
                    at = put_time(integers[place, row], out, at)
                else:
                    at = _put_text(content, bounds[place, row], bounds[place, row + 1], out, at)
                out[at] = _QUOTE
                at += 1
            elif kind == INTEGER:
                at = put_number(integers[place, row], out, at)
            elif kind == DECIMAL:
                at = put_units(integers[place, row], steps[place].places, out, at)
            elif kind == BOOLEAN:
                at = put(_TRUE if integers[place, row] else _FALSE, 0, 5 - integers[place, row], out, at)
            elif kind == FLOAT:
                at = put_decimal(floats[place, row], out, at)
            elif kind == DOUBLE:
                at = put_double(floats[place, row], out, at)
            if at < 0:
                break
        if at < 0:
            at = start
        else:
            out[at] = _BRACE
            at += 1
        ends[row + 1] = at
    return at
