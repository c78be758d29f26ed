"""The table of clients, for people and for docs/clients.md: what arrives for each type, beside what is in the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tests.clients.clients import Client
from tests.clients.questions import QUESTIONS

HEAD = (
    f"| client | version | {' | '.join(question.kind for question in QUESTIONS)} | what needs a word |\n"
    f"|{' --- |' * (len(QUESTIONS) + 3)}"
)
_BEGIN, _END = "<!-- made by `make clients` -->", "<!-- end of what is made -->"
_MOST = 60
"""Letters of a value or a reason."""
_NUMBERS: Mapping[str, Callable[[str], object]] = {"double precision": float, "numeric": Decimal}
"""Texts of the same number may differ."""


@dataclass(frozen=True)
class Arrived:
    """What a client said: its version and, by the questions' kinds, the type and text of what arrived, or an error."""

    version: str
    answers: Mapping[str, Mapping[str, str]]


def row(client: Client, arrived: Arrived, truth: Mapping[str, str]) -> str:
    """One client's row: the type where the value is the database's, and else what became of it."""
    cells = [_cell(question.kind, arrived.answers[question.kind], truth[question.kind]) for question in QUESTIONS]
    return f"| {' | '.join([client.name, arrived.version, *cells, client.word])} |"


def with_table(text: str, rows: Sequence[str]) -> str:
    """A document with these rows in its table, between its marks. ValueError if it has none."""
    return _replaced(text, "\n".join([HEAD, *rows]))


def rows_of(text: str) -> dict[str, str]:
    """The rows of a document's table, by the client's name. ValueError if it has none."""
    made = re.search(f"{_BEGIN}\n(.*?){_END}", text, re.DOTALL)
    if made is None:
        raise ValueError(f"no {_BEGIN} and {_END}")
    lines = made[1].splitlines()[len(HEAD.splitlines()) :]
    return {line.removeprefix("| ").partition(" | ")[0]: line for line in lines}


def _replaced(text: str, table: str) -> str:
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"no {_BEGIN} and {_END}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _cell(kind: str, answer: Mapping[str, str], truth: str) -> str:
    if "error" in answer:
        return f"refused: {_code(answer['error'])}"
    is_same = answer["text"] == truth or _is_the_same_number(kind, answer["text"], truth)
    return _code(answer["type"]) if is_same else f"{_code(answer['type'])}: {_code(answer['text'])}"


def _is_the_same_number(kind: str, text: str, truth: str) -> bool:
    number = _NUMBERS.get(kind)
    try:
        return number is not None and number(text) == number(truth)
    except (ArithmeticError, ValueError):
        return False


def _code(text: str) -> str:
    """One line of code that breaks no table."""
    line = " ".join(text.split()).replace("|", "/").replace("`", "'")
    return f"`{line if len(line) <= _MOST else line[: _MOST - 1] + '…'}`"
