"""Messages of librdkafka read where they are: rd_kafka_message_t as its public header lays it out on 64 bits.

https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka.h
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from contract.compiled import compiled

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


@compiled(types.int64(types.uint64[::1], types.int64))
def size_bytes(messages: NDArray[np.uint64], count: int) -> int:
    """Of the values of the first `count` messages that are records, together."""
    size = 0
    for number in range(count):
        message = messages[number]
        if _int32_at(message + _ERROR) == 0:
            size += _int64_at(message + _LENGTH)
    return size


@compiled(
    types.int64(
        types.uint64[::1], types.int64, types.uint64, types.uint64,
        types.int64[::1], types.int64[::1], types.int64[::1], types.int64[::1], types.boolean[::1], types.uint8[::1],
    )
)  # fmt: skip
def take(
    messages: NDArray[np.uint64],
    count: int,
    timestamp: np.uint64,
    destroy: np.uint64,
    partitions: NDArray[np.int64],
    offsets: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    ends: NDArray[np.int64],
    present: NDArray[np.bool_],
    text: NDArray[np.uint8],
) -> int:
    """Write the records among the first `count` messages to the arrays, and give them back; returns how many they were.

    Value i is text[ends[i]:ends[i + 1]], and none where it is not present. Messages that are errors are left, and come
    first in `messages` afterwards. `timestamp` and `destroy` are where librdkafka has these functions.
    """
    rows, errors, at = 0, 0, 0
    first = np.uint64(text.ctypes.data)
    ends[0] = 0
    for number in range(count):
        message = messages[number]
        if _int32_at(message + _ERROR) != 0:
            messages[errors] = message
            errors += 1
            continue
        value, length = np.uint64(_int64_at(message + _PAYLOAD)), _int64_at(message + _LENGTH)
        present[rows] = value != _NOTHING
        if present[rows]:
            _copy(first + np.uint64(at), value, length)
            at += length
        partitions[rows] = _int32_at(message + _PARTITION)
        offsets[rows] = _int64_at(message + _OFFSET)
        times_ms[rows] = _timestamp(timestamp, message)
        rows += 1
        ends[rows] = at
        _destroy(destroy, message)
    return rows
