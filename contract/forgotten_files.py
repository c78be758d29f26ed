"""How statements of what is forgotten are kept: a file each, below the archive's root, never changed, numbered from 1 on.

Beside a statement that the archive's files keep to is a file that says so, with what it took out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from contract.errors import ArchiveDamaged
from contract.forgotten import FOLDER, Done, Said, Statement

_STATEMENT = re.compile(r"([0-9]{10})\.json")
_DONE = re.compile(r"([0-9]{10})\.done\.json")
_statement = msgspec.json.Decoder(Statement).decode
_done = msgspec.json.Decoder(Done).decode


def folder(root: str) -> str:
    """Where they are."""
    return f"{root}/{FOLDER}"


def statement_name(number: int) -> str:
    """The name of a statement's file."""
    return f"{number:010}.json"


def done_name(number: int) -> str:
    """The name of the file that says that the archive keeps to it."""
    return f"{number:010}.done.json"


def last_number(names: Iterable[str]) -> int:
    """The last statement's, given the names in the folder."""
    return max((int(found[1]) for found in map(_STATEMENT.fullmatch, names) if found), default=0)


def said(root: str, names: Iterable[str], read: Callable[[str], bytes]) -> Said:
    """All statements, given the names in the folder. Raises what `read` raises, and ArchiveDamaged if a file is none."""
    listed = sorted(names)
    numbers = [int(found[1]) for found in map(_STATEMENT.fullmatch, listed) if found]
    done = [int(found[1]) for found in map(_DONE.fullmatch, listed) if found]

    def content_of(name: str) -> tuple[str, bytes]:
        path = f"{folder(root)}/{name}"
        return path, read(path)

    try:
        path = folder(root)
        statements = []
        for number in numbers:
            path, content = content_of(statement_name(number))
            statements.append(_statement(content))
        finished = []
        for number in done:
            path, content = content_of(done_name(number))
            finished.append((number, _done(content)))
    except msgspec.MsgspecError as error:
        raise ArchiveDamaged.of(path, str(error)) from error
    return Said(tuple(statements), tuple(finished))
