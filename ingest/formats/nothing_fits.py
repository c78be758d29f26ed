"""What is said of a log of which no line fits any format: why, how near it came, and what may be told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from contract.errors import InputError
from ingest.formats.catalogue import FORMATS
from ingest.formats.json_form import JsonForm, object_of
from ingest.formats.json_shapes import REQUIRED
from ingest.formats.logged import LineForm
from ingest.formats.refusals import cause_of_refusal

_LONGEST_SHOWN = 160
_MOST_NEAR = 3
_MOST_KEYS = 20
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
    r"|(?![0-9]{2}:[0-9]{2}:[0-9]{2}(?![:0-9]))[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?!\w)"
)


def refusal(texts: Sequence[str], forms: Mapping[str, LineForm], is_named: bool) -> InputError:
    """Why a log that begins with these lines, none of them empty, is of none of these formats; `is_named`: one was named."""
    if not texts:
        return InputError("it has no line but empty ones; nothing was sent")
    if not is_named and (cause := cause_of_refusal(texts)) is not None:
        return InputError(f"it cannot be counted: {cause}")
    objects = [it for text in texts if (it := object_of(text)) is not None]
    if 2 * len(objects) > len(texts):
        return _keys_missing(objects[0], forms)
    first = texts[0]
    stops = {name: form.stop(first) for name, form in forms.items()}
    near = sorted(stops.items(), key=lambda it: -it[1].column)[:_MOST_NEAR]
    fits = ", ".join(f"{name} up to column {stop.column} (no {stop.field} there)" for name, stop in near)
    return InputError(
        f"no line of the first {len(texts):,} is of a format that is known, so nothing was sent. The first is "
        f"{masked(first)!r}; it fits {fits}. LOG_FORMAT= is one of: "
        + "; ".join(f"{one.name} ({one.writers})" for one in FORMATS)
        + "; see docs/logs.md"
    )


def masked(text: str) -> str:
    """The beginning of a line for people, its addresses made unreadable without moving what is behind them."""
    return _ADDRESS.sub(lambda match: re.sub("[0-9A-Fa-f]", "x", match[0]), text)[:_LONGEST_SHOWN]


def _keys_missing(it: Mapping[str, object], forms: Mapping[str, LineForm]) -> InputError:
    missing = {name: form.missing for name, form in forms.items() if isinstance(form, JsonForm)}
    if not missing:
        return InputError("its lines are JSON, and LOG_FORMAT= names a format that is not")
    name = min(missing, key=lambda name: len(missing[name]))
    lacks = missing[name] or list(REQUIRED)
    return InputError(
        f"its lines are JSON, nearest to format {name}, but have no key that is known for {' and '.join(lacks)}. Their keys "
        f"are {', '.join(list(it)[:_MOST_KEYS])}; MAP='{' '.join(f'{field}=key' for field in lacks)}' names the right ones"
    )
