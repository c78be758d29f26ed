"""How an archive file says in which form the values are written that it leaves out: a version, and a text for each field.

Form 1 knows events whose members are texts, times and numbers that are not negative: each text is a name. Form 2 knows
all; each text is a JSON array: the column's name, its type, its path and its decimal places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import polars as pl

from contract.archive_file import ValueForm
from contract.fields import Boolean, Decimal, Double, Enumeration, Field, Integer, Text, Timestamp
from contract.stream import Stream, fields_within

LAST_VERSION = 2
_OF_FIRST = (Text, Timestamp, Integer, Double)
_TYPES = {
    "text": Text, "integer": Integer, "decimal": Decimal, "double": Double, "boolean": Boolean, "enumeration": Enumeration,
    "timestamp": Timestamp,
}  # fmt: skip
_TYPE_OF_COLUMN: dict[type[pl.DataType], str] = {
    pl.String: "text", pl.Datetime: "timestamp", pl.Int32: "integer", pl.Int64: "integer", pl.Float64: "double",
}  # fmt: skip
_in_form_2 = msgspec.json.Decoder(tuple[str, str, tuple[str, ...], int]).decode


def form_of(stream: Stream) -> ValueForm:
    """The form in which values of a stream are left out today."""
    fields = fields_within(stream.members)
    if is_of_first_form(stream):
        return ValueForm(1, tuple(field.name for field in fields))
    return ValueForm(LAST_VERSION, tuple(map(_text_of, fields)))


def is_of_first_form(stream: Stream) -> bool:
    """Whether form 1 knows all that its events have."""
    return all(
        type(field) in _OF_FIRST
        and field.names == (field.name,)
        and not (isinstance(field, Integer | Double) and field.least < 0)
        for field in stream.fields
    )


def column_in(text: str) -> str:
    """The name of the column that a form's text is of."""
    return _in_form_2(text)[0] if text.startswith("[") else text


def fields_in(texts: Sequence[str], types: Mapping[str, type[pl.DataType]]) -> tuple[list[Field], bool]:
    """What a form's texts say of columns of these types, as fields without limits, and whether they are of form 1."""
    if not any(text.startswith("[") for text in texts):
        return [_field(name, _TYPE_OF_COLUMN[types[name]], (name,), 0) for name in texts], True
    return [_field(*_in_form_2(text)) for text in texts], False


def _text_of(field: Field) -> str:
    kind = next(name for name, one in _TYPES.items() if type(field) is one)
    places = field.places if isinstance(field, Decimal) else 0
    return msgspec.json.encode((field.name, kind, field.names, places)).decode()


def _field(name: str, kind: str, path: tuple[str, ...], places: int) -> Field:
    match kind:
        case "text":
            return Text(name, "", 1, path=path)
        case "integer":
            return Integer(name, "", 0, 0, path=path)
        case "decimal":
            return Decimal(name, "", places, "0", "0", path=path)
        case "double":
            return Double(name, "", 0, 0, path=path)
        case "enumeration":
            return Enumeration(name, "", ("x",), path=path)
        case "boolean":
            return Boolean(name, "", path=path)
    return Timestamp(name, "", path=path)
