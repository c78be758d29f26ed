"""Lines that are JSON objects, read under keys that were found in a sample of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from ingest.formats.json_shapes import EVENT_NAMES, FIELDS, REQUIRED, Paths
from ingest.formats.logged import LineForm, Logged, Stop

_INVALID_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\x([0-9A-Fa-f]{2})")
_NOTHING = "nothing"
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]+)?")

# How deep brackets may be nested depends on how deep the caller's stack is.
NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)

# A time in seconds is read from its text, as all times are.
_decode = msgspec.json.Decoder(dict[str, Any], float_hook=str).decode


def object_of(text: str) -> dict[str, Any] | None:
    r"""The object that a line is, also with \xhh in it: so nginx may write it, and what is not UTF-8 was read so."""
    try:
        return _decode(_valid(text))
    except NOT_JSON:
        return None


class JsonForm(LineForm):
    """Objects in which `paths` has the keys of the fields that lines have; more than one is tried in turn."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        first = [next(iter(paths.get(name, ())), None) for name in FIELDS]
        others = [(number, path) for number, name in enumerate(FIELDS) for path in paths.get(name, ())[1:]]
        self._others = [(number, len(FIELDS) + place) for place, (number, _) in enumerate(others)]
        self._values, self._decode = _reader([*first, *(path for _, path in others)])

    @classmethod
    def of_sample(cls, paths: Paths, sample: Sequence[dict[str, Any]]) -> JsonForm:
        """Those of the paths that the sample has."""

        def is_there(path: str) -> bool:
            return any(_at(it, path.split(".")) is not None for it in sample)

        return cls({name: tuple(filter(is_there, of)) for name, of in paths.items()})

    def with_keys(self, keys: Mapping[str, str]) -> JsonForm:
        """The form with fields under keys that somebody names, by the names of the event's fields or of FIELDS."""
        return JsonForm({**self._paths, **{EVENT_NAMES.get(name, name): (key,) for name, key in keys.items()}})

    @property
    def missing(self) -> list[str]:
        """The fields without which no line counts, as far as no key of theirs was found."""
        missing = [name for name in REQUIRED if not self._paths.get(name)]
        return missing if self._paths.get("request") or self._paths.get("target") else [*missing, "target"]

    def read(self, text: str) -> Logged | None:
        """What the line says, if it has all that is required."""
        values = self._said(text)
        if values is None:
            return None
        # fmt: off
        (
            client, time, request, method, target, query, protocol, status, size,
            ms, seconds, nanoseconds, referrer, user_agent, host, *_,
        ) = values
        # fmt: on
        if client is None or time is None or status is None:
            return None
        if request is None:
            if target is None:
                return None
            if query and "?" not in target:
                target = f"{target}?{str(query).removeprefix('?')}"
            version = protocol if protocol and protocol.startswith("HTTP/") else f"HTTP/{protocol or ''}"
            request = f"{method or 'GET'} {target} {version}"
        try:
            return Logged(
                str(client),
                str(time),
                request,
                int(status),
                None if size is None or size in ("", "-") else int(size),
                _duration_ms(ms, seconds, nanoseconds),
                _text(referrer),
                _text(user_agent),
                None if host == "-" else _text(host),
            )
        except (ValueError, TypeError):
            return None

    def stop(self, text: str) -> Stop:
        """Where a line that is not of this form stops to be."""
        values = self._said(text)
        if values is None:
            return Stop("JSON object", 1)
        said = dict(zip(FIELDS, values, strict=False))
        missing = [name for name in REQUIRED if said[name] is None]
        if said["request"] is None and said["target"] is None:
            missing.append("target")
        return Stop(missing[0] if missing else "number", 1)

    def _said(self, text: str) -> Sequence[Any] | None:
        """The values of FIELDS, and more behind them; None if the line is no object."""
        try:
            values = self._values(self._decode(_valid(text)))
        except NOT_JSON:
            return None
        if self._others:
            values = list(values)
            for number, other in self._others:
                if values[number] is None:
                    values[number] = values[other]
        return values


def _valid(text: str) -> str:
    return _INVALID_ESCAPE.sub(_escaped, text) if "\\x" in text else text


def _escaped(match: re.Match[str]) -> str:
    return f"{match[1]}\\\\x{match[2]}"


def _reader(paths: Sequence[str | None]) -> tuple[Callable[[Any], tuple[Any, ...]], Callable[[str], Any]]:
    """What gives the values at these paths, None of those that are not there, and what decodes an object so far."""
    tree: dict[str, Any] = {}
    places = []
    for path in paths:
        if path is None:
            places.append(_NOTHING)
            continue
        branch, place, parts = tree, [], path.split(".")
        for number, part in enumerate(parts):
            place.append(f"_{list(branch).index(part) if part in branch else len(branch)}")
            branch = branch.setdefault(part, {} if number < len(parts) - 1 else None)
        places.append(".".join(place))
    return attrgetter(*places), msgspec.json.Decoder(_struct(tree), float_hook=str).decode


def _struct(tree: Mapping[str, Any]) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for number, branch in enumerate(tree.values()):
        inner = None if branch is None else _struct(branch)
        default = None if inner is None else msgspec.field(default_factory=inner)
        fields.append((f"_{number}", Any if inner is None else inner, default))
    names = {f"_{number}": name for number, name in enumerate(tree)}
    return msgspec.defstruct("Said", fields, rename=names, namespace={_NOTHING: None}, gc=False)


def _at(it: Any, path: Sequence[str]) -> Any:
    for part in path:
        it = it.get(part) if isinstance(it, dict) else None
    return it


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else str(value)


def _duration_ms(ms: Any, seconds: Any, nanoseconds: Any) -> float | None:
    for value, factor in ((ms, 1.0), (seconds, 1e3), (nanoseconds, 1e-6)):
        if value is not None:
            text = str(value).removesuffix("s")
            return round(float(text) * factor, 3) if _NUMBER.fullmatch(text) else None
    return None
