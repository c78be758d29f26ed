"""The register of sources keeps to what was taken back: what a source is called, and its site, are not said any more."""

from __future__ import annotations

import re
from datetime import datetime

from msgspec.structs import replace

from contract.errors import InputError
from contract.event import EVENT_ID_LENGTH
from contract.forgotten import Rules
from contract.source_ids import IdRange, SourceIds
from ingest.register import Register
from ingest.source import Group, Source

_NUMBERED = re.compile(r"([0-9a-f]{12})\.([0-9]{1,9})")


def ids_of(register: Register, source: str) -> SourceIds:
    """The ids of a source as `make sources` names it; another text is what ids begin with that others made.

    Raises InputError if the register has no such source, or no event can have such an id.
    """
    if (numbered := _NUMBERED.fullmatch(source)) is None:
        return SourceIds((IdRange(checked(source, "SOURCE", EVENT_ID_LENGTH)),))
    group = register.load(numbered[1])
    if (one := group.sources.get(int(numbered[2]))) is None:
        raise InputError(f"SOURCE={source}: no such source was counted; `make sources` lists those that were")
    return one.ids(group.name)


def checked(what: str, called: str, length: int) -> str:
    """The text, if an event may have it in a field of so many characters; else InputError."""
    if not 1 <= len(what) <= length:
        raise InputError(f"{called}={what!r} is not a text of 1 to {length} characters, so no event has it")
    return what


def keep_sources_to(register: Register, rules: Rules) -> int:
    """No source has the name of a file that is forgotten, nor a forgotten site; returns how many changed. Can be repeated.

    A source that is forgotten stays, so that it is known when it comes again; of a site that is, none does, since they
    would name it. Those of a site that were counted after that stay: what is new is not forgotten.
    """
    changed = 0
    for name in register.groups():
        while True:
            group = register.load(name)
            kept = {one.number: after for one in group.sources.values() if (after := _after(group, one, rules)) is not None}
            differing = len(group.sources) - sum(group.sources[number] == one for number, one in kept.items())
            if not differing or register.replace(group, kept):
                # guard: older versions, which a crash may have left too, say it no more
                register.tidy(group)
                break
        changed += differing
    return changed


def _after(group: Group, source: Source, rules: Rules) -> Source | None:
    counted_us = round(datetime.fromisoformat(source.counted_at).timestamp() * 1e6)
    if source.site and rules.forgets_site(source.site, counted_us):
        return None
    is_forgotten = any(rules.forgets_id(part.source, 0) for part in source.ids(group.name).parts)
    names = () if is_forgotten and not source.is_forgotten else source.names
    return replace(source, is_forgotten=is_forgotten, names=names)
