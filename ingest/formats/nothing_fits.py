"""What is said of a log of which no line fits any format: why, how near it came, and what may be told."""

from __future__ import annotations

import re
from collections import Counter
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
_METHOD = re.compile(r"(?<![A-Za-z])(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS)(?![A-Za-z])")
_NUMBER, _WORD = re.compile(r"[0-9]+"), re.compile(r"[A-Za-z]+")
# Of what is left if each number and each word is one character: about up to the client, as the rest differs by request.
_SHAPE = 24
# Numbers between colons are a time, unless they are eight, or there are two colons together, or letters among them.
_ADDRESS = re.compile(
    r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w)"
    r"|(?:(?<![\w.:])|(?<=[A-Za-z]:))(?=[0-9A-Fa-f:]{0,39}(?:::|[A-Fa-f])|(?:[0-9]{1,4}:){7})"
    r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}(?:\.[0-9]{1,3}){0,3}(?!\w)"
)


def refusal(texts: Sequence[str], forms: Mapping[str, LineForm], is_named: bool) -> InputError:
    """Why a log that begins with these lines, none of them empty, is of none of these formats; `is_named`: one was named."""
    if not texts:
        return InputError("it has no line but empty ones; nothing was sent")
    if not is_named and (cause := cause_of_refusal(texts)) is not None:
        return InputError(f"it cannot be counted: {cause}")
    objects = [it for text in texts if (it := object_of(text)) is not None]
    if 2 * len(objects) > len(texts):
        return _keys_missing(objects, forms)
    shown = _telling(texts)
    stops = {name: form.stop(shown) for name, form in forms.items()}
    near = sorted(stops.items(), key=lambda it: -it[1].column)[:_MOST_NEAR]
    fits = ", ".join(f"{name} up to column {stop.column} (no {stop.field} there)" for name, stop in near)
    return InputError(
        f"no line of the first {len(texts):,} is of a format that is known, so nothing was sent. One of them is "
        f"{masked(shown)!r}; it fits {fits}. LOG_FORMAT= is one of: "
        + "; ".join(f"{one.name} ({one.writers})" for one in FORMATS)
        + "; see docs/logs.md"
    )


def masked(text: str) -> str:
    """The beginning of a line for people, its addresses made unreadable without moving what is behind them."""
    return _ADDRESS.sub(lambda match: re.sub("[0-9A-Fa-f]", "x", match[0]), text)[:_LONGEST_SHOWN]


def _telling(texts: Sequence[str]) -> str:
    """The first line of the commonest shape, of those with an HTTP method if any have one: no banner, as a log may begin."""
    asking = [text for text in texts if _METHOD.search(text)] or list(texts)
    shapes = [_WORD.sub("a", _NUMBER.sub("0", text[:_LONGEST_SHOWN]))[:_SHAPE] for text in asking]
    return asking[shapes.index(Counter(shapes).most_common(1)[0][0])]


def _keys_missing(objects: Sequence[Mapping[str, object]], forms: Mapping[str, LineForm]) -> InputError:
    keys, _ = Counter(tuple(it) for it in objects).most_common(1)[0]
    missing = {name: form.missing for name, form in forms.items() if isinstance(form, JsonForm)}
    if not missing:
        return InputError("its lines are JSON, and LOG_FORMAT= names a format that is not")
    name = min(missing, key=lambda name: len(missing[name]))
    lacks = missing[name] or list(REQUIRED)
    return InputError(
        f"its lines are JSON, nearest to format {name}, but have no key that is known for {' and '.join(lacks)}. Their keys "
        f"are {', '.join(keys[:_MOST_KEYS])}; MAP='{' '.join(f'{field}=key' for field in lacks)}' names the right ones"
    )
