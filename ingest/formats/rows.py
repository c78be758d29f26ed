"""Events of rows: of a table or of JSON objects under other names than an event's. Only decode() downstream judges them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Any

import msgspec

from contract.errors import InputError
from contract.event import FIELDS, Event
from contract.event_time import BadTime
from ingest.formats.clients import Pseudonyms, client_address, client_name
from ingest.formats.times import Times

CLIENT = "client"
"""In place of visitor_id: an address or a host's name, of which the visitor's pseudonym is made."""
_PAIR = re.compile(r"([a-z_]+)=(.+)")
_INTEGER = re.compile(r"[0-9]{1,18}(?:\.0*)?")
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]+)?")
_INTEGERS, _DECIMALS = ("status", "bytes_sent"), ("duration_ms",)
_REQUIRED = tuple(field.name for field in msgspec.structs.fields(Event) if field.required and field.name != "event_id")
_encode = msgspec.json.Encoder(enc_hook=str).encode


def keys_of(text: str | None) -> dict[str, str]:
    """The mapping in MAP=: field=name, separated by blanks or commas; InputError of anything else."""
    keys = {}
    for part in re.split(r"[,\s]+", (text or "").strip()):
        match = _PAIR.fullmatch(part)
        if part and match is None:
            raise InputError(f"MAP= has {part!r}, which is not of the form field=name, as in MAP='page=url visitor_id=uid'")
        if match:
            keys[match[1]] = match[2]
    return keys


class Rows:
    """Makes events of rows.

    `keys` has the names of the fields where they have others; one of digits alone, which no row has, is the value itself.
    `site` is that of all rows, if it is given, and `zone` that of times that name none.
    """

    def __init__(self, keys: Mapping[str, str], site: str | None, zone: tzinfo | None, key: str) -> None:
        unknown = sorted(set(keys) - {*FIELDS, CLIENT})
        if unknown:
            raise InputError(
                f"MAP= has {', '.join(unknown)}; the fields are {', '.join(FIELDS)}, and {CLIENT} for an address"
            )
        self.site, self.zone = site, zone
        self._keys = keys
        self._pseudonyms, self._utc = Pseudonyms(key), Times(zone).utc

    def require(self, names: Collection[str]) -> None:
        """InputError if rows with these names lack a field without which none is an event."""
        missing = [field for field in _REQUIRED if not self._is_there(field, names)]
        if missing:
            raise InputError(
                f"it has no column for {', '.join(missing)}; its columns are {', '.join(names)}. "
                f"MAP='{' '.join(f'{field}=column' for field in missing)}' says which they are; see docs/logs.md"
            )

    def name_of(self, field: str) -> str:
        """The name that the field has in a row."""
        return self._keys.get(field, field)

    def record(self, event_id: str, row: Mapping[str, Any]) -> tuple[str | None, bytes]:
        """Key and value of a row; the id is for one that has none of its own."""
        event = {name: value for name in FIELDS if (value := self._value(name, row)) is not None}
        event = {"event_id": event_id} | event
        visitor = event.get("visitor_id")
        return visitor if isinstance(visitor, str) else None, _encode(event)

    def _is_there(self, field: str, names: Collection[str]) -> bool:
        if field == "site" and self.site is not None:
            return True
        if field == "visitor_id" and self.name_of(CLIENT) in names:
            return True
        key = self.name_of(field)
        return key in names or key.isdecimal()

    def _value(self, field: str, row: Mapping[str, Any]) -> Any:
        if field == "site" and self.site is not None:
            return self.site
        key = self.name_of(field)
        value = row.get(key)
        if value is None and key.isdecimal() and key not in row:
            value = key
        if value is None:
            return self._visitor(row) if field == "visitor_id" else None
        if field == "event_time":
            return self._time(value)
        if field in _INTEGERS:
            text = str(value)
            return int(float(text)) if _INTEGER.fullmatch(text) else value
        if field in _DECIMALS:
            return float(str(value)) if _DECIMAL.fullmatch(str(value)) else value
        return str(value)

    def _visitor(self, row: Mapping[str, Any]) -> str | None:
        client = row.get(self.name_of(CLIENT))
        name = (client_address(str(client)) or client_name(str(client))) if client is not None else None
        return None if name is None else self._pseudonyms.of(name)

    def _time(self, value: Any) -> Any:
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=self.zone) if self.zone else value
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment.tzinfo else moment.isoformat()
        if isinstance(value, date):
            return value.isoformat()
        try:
            return self._utc(str(value))
        except BadTime:
            return str(value)
