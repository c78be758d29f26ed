"""Whole numbers that are written as floats, 200.0 or 2e2: for JSON Schema they are integers, for msgspec they are not."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, inspect

_REFUSED = "Expected `int`, got `float`"
_REFUSED_IF_KNOWN = "Expected `int | null`, got `float`"
_MOST_EXACT = 1 << 53
"""Beyond that a float may stand for another whole number than was written."""


def is_refused(error: msgspec.ValidationError) -> bool:
    """Whether msgspec says that a float is in a whole number's place, be it with or without a fraction."""
    return str(error).startswith((_REFUSED, _REFUSED_IF_KNOWN))


class IntegralFloats:
    """Decodes JSON objects as msgspec does a struct, and takes floats without a fraction for its whole numbers."""

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        self._whole = inspect.type_info(struct)
        self._decode = msgspec.json.Decoder(_with_floats(self._whole)).decode

    def decode(self, value: bytes) -> Any:
        """The struct; raises DecodeError, and of a number with a fraction what msgspec says of one."""
        try:
            return _made_whole(self._decode(value), self._whole)
        except msgspec.ValidationError as error:
            what, _, path = str(error).rpartition(" - at ")
            raise msgspec.ValidationError(f"{_REFUSED} - at {path}" if "multiple of" in what else str(error)) from None


def _with_floats(declared: inspect.Type) -> Any:
    """The type of a struct's field, and so of a struct, with a float in place of each whole number."""
    if isinstance(declared, inspect.IntType):
        least = -_MOST_EXACT if declared.ge is None else max(declared.ge, -_MOST_EXACT)
        most = _MOST_EXACT if declared.le is None else min(declared.le, _MOST_EXACT)
        return Annotated[float, Meta(multiple_of=1, ge=least, le=most)]
    if not isinstance(declared, inspect.StructType):
        return None
    fields: list[Any] = []
    for field, as_it_is in zip(declared.fields, msgspec.structs.fields(declared.cls), strict=True):
        other = _with_floats(_known(field.type))
        kind = as_it_is.type if other is None else other if field.required else other | None
        fields.append((field.name, kind) if field.required else (field.name, kind, field.default))
    spelled = {field.name: field.encode_name for field in declared.fields}
    return msgspec.defstruct(declared.cls.__name__, fields, rename=spelled, kw_only=True)


def _made_whole(item: Any, declared: inspect.Type) -> Any:
    if isinstance(declared, inspect.IntType):
        return None if item is None else int(item)
    if not isinstance(declared, inspect.StructType) or item is None:
        return item
    return declared.cls(
        **{field.name: _made_whole(getattr(item, field.name), _known(field.type)) for field in declared.fields}
    )


def _known(declared: inspect.Type) -> inspect.Type:
    """The type without what only describes it, and without null."""
    if isinstance(declared, inspect.Metadata):
        return _known(declared.type)
    if isinstance(declared, inspect.UnionType):
        return _known(next(one for one in declared.types if not isinstance(one, inspect.NoneType)))
    return declared
