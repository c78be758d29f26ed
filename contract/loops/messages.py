"""Messages of librdkafka read where they are: rd_kafka_message_t as its public header lays it out on 64 bits.

https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka.h
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic as _intrinsic
from numpy.typing import NDArray

from contract.compiled import compiled, pair

# Neither has types of its own.
cgutils: Any = _cgutils
intrinsic: Callable[[Callable[..., Any]], Any] = _intrinsic

_ERROR, _PARTITION, _PAYLOAD, _LENGTH, _OFFSET = map(np.uint64, (0, 16, 24, 32, 56))
_INT32, _INT64, _BYTE = ir.IntType(32), ir.IntType(64), ir.IntType(8)
_NOTHING = np.uint64(0)


def _loading(numba_type: types.Type, llvm_type: ir.Type) -> Any:
    @intrinsic
    def load(context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(builder.inttoptr(arguments[0], llvm_type.as_pointer()))

        return numba_type(types.uint64), code

    return load


_int32_at, _int64_at = _loading(types.int32, _INT32), _loading(types.int64, _INT64)


@intrinsic
def _copy(context: Any, to: Any, source: Any, count: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, source = (builder.inttoptr(address, _BYTE.as_pointer()) for address in arguments[:2])
        cgutils.raw_memcpy(builder, to, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.none(types.uint64, types.uint64, types.int64), code


@intrinsic
def _timestamp(context: Any, function: Any, message: Any) -> Any:
    """int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *, rd_kafka_timestamp_type_t *)"""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of_type = ir.FunctionType(_INT64, [_INT64, _INT32.as_pointer()])
        return builder.call(
            builder.inttoptr(arguments[0], of_type.as_pointer()), [arguments[1], cgutils.alloca_once(builder, _INT32)]
        )

    return types.int64(types.uint64, types.uint64), code


@intrinsic
def _destroy(context: Any, function: Any, message: Any) -> Any:
    """void rd_kafka_message_destroy(rd_kafka_message_t *)"""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of_type = ir.FunctionType(ir.VoidType(), [_INT64])
        builder.call(builder.inttoptr(arguments[0], of_type.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.none(types.uint64, types.uint64), code


@compiled(types.int64(types.uint64[::1], types.int64, types.int64))
def size_bytes(messages: NDArray[np.uint64], first: int, after: int) -> int:
    """Of the values of the messages [first, after), together; an error's text counts too."""
    size = 0
    for number in range(first, after):
        size += _int64_at(messages[number] + _LENGTH)
    return size


@compiled(pair(types.int64, types.int64)(types.uint64[::1], types.int64, types.int64, types.int64))
def run(messages: NDArray[np.uint64], first: int, after: int, most_bytes: int) -> tuple[int, int]:
    """How many of the messages from `first` on, and before `after`, are records of one partition, and how long a text is.

    The text has a byte more after each value, and at most so many if it is of several records. None is if the first message
    is an error.
    """
    size = 0
    for number in range(first, after):
        message = messages[number]
        if _int32_at(message + _ERROR) != 0 or _int32_at(message + _PARTITION) != _int32_at(messages[first] + _PARTITION):
            return number - first, size
        length = _int64_at(message + _LENGTH) + 1
        # guard: a piece of a batch is bounded
        if number > first and size + length > most_bytes:
            return number - first, size
        size += length
    return after - first, size


@compiled(
    types.void(
        types.uint64[::1], types.int64, types.uint64, types.uint64,
        types.int64[::1], types.int64[::1], types.int64[::1], types.uint8[::1], types.int64,
    )
)  # fmt: skip
def take(
    messages: NDArray[np.uint64],
    first: int,
    timestamp: np.uint64,
    destroy: np.uint64,
    offsets: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    lengths: NDArray[np.int64],
    text: NDArray[np.uint8],
    none: int,
) -> None:
    """Write a run of records from `first` on to the arrays, as Piece has them, and give the messages back.

    The text is as long as `run` said, and as much longer as it shall be padded. The length of a value that is none is
    `none`. `timestamp` and `destroy` are where librdkafka has these functions.
    """
    base, at = np.uint64(text.ctypes.data), 0
    for row in range(len(offsets)):
        message = messages[first + row]
        value, length = np.uint64(_int64_at(message + _PAYLOAD)), _int64_at(message + _LENGTH)
        offsets[row] = _int64_at(message + _OFFSET)
        times_ms[row] = _timestamp(timestamp, message)
        if value == _NOTHING:
            lengths[row] = none
        else:
            lengths[row] = length
            _copy(base + np.uint64(at), value, length)
            at += length
        text[at] = 0
        at += 1
        _destroy(destroy, message)
    text[at:] = 0
