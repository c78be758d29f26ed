"""Whole numbers that are written as floats, 200.0 or 2e2: for JSON Schema they are integers, for msgspec they are not."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, inspect

REFUSED = "Expected `int`, got `float`"
"""What msgspec says of one, with or without a fraction."""

S = TypeVar("S", bound=msgspec.Struct)


class IntegralFloats(Generic[S]):
    """Decodes JSON objects as msgspec does a flat struct, and takes floats without a fraction for its whole numbers."""

    def __init__(self, struct: type[S]) -> None:
        fields: list[Any] = []
        self._whole: list[str] = []
        for field in msgspec.structs.fields(struct):
            kind, declared = field.type, inspect.type_info(field.type)
            form = declared.type if isinstance(declared, inspect.Metadata) else declared
            if isinstance(form, inspect.IntType):
                self._whole.append(field.name)
                kind = Annotated[float, Meta(multiple_of=1, ge=form.ge, le=form.le)]
            fields.append((field.name, kind) if field.required else (field.name, kind, field.default))
        self._struct = struct
        self._decode = msgspec.json.Decoder(msgspec.defstruct(struct.__name__, fields, kw_only=True)).decode

    def decode(self, value: bytes) -> S:
        """The struct; raises DecodeError, and of a number with a fraction what msgspec says of one."""
        try:
            fields = msgspec.structs.asdict(self._decode(value))
        except msgspec.ValidationError as error:
            what, _, path = str(error).rpartition(" - at ")
            raise msgspec.ValidationError(f"{REFUSED} - at {path}" if "multiple of" in what else str(error)) from None
        return self._struct(**fields | {name: int(fields[name]) for name in self._whole})
