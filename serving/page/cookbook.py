"""The questions of docs/sql.md, each with its title and the answer that stands below it."""

from __future__ import annotations

import re
from dataclasses import dataclass

ANSWERED = re.compile(r"^```sql\n(?P<sql>.+?)^```\n\n```text\n(?P<answer>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^### (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Question:
    """A question, under the heading that it stands below."""

    title: str
    sql: str
    answer: str


def questions(text: str) -> list[Question]:
    """In the order of the page; the second below a heading is its (2)."""
    headings = [(match.start(), match["title"]) for match in _HEADING.finditer(text)]

    def title_of(place: int) -> str:
        return next((title for start, title in reversed(headings) if start < place), "")

    found = list[Question]()
    for match in ANSWERED.finditer(text):
        title = title_of(match.start())
        number = 1 + sum(one.title.startswith(title) for one in found)
        found.append(Question(title if number == 1 else f"{title} ({number})", match["sql"], match["answer"]))
    return found
