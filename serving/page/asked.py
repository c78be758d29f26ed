"""The parts of the page that come from the database: what is asked for each, and how much of a core that may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serving.page import questions
from serving.page.scope import Scope
from serving.page.shares import Share

TAIL = Share(0.25, 0.006)
"""The last rows of a range: what was counted this moment is seen there."""


@dataclass(frozen=True)
class Question:
    """A part by its name; a scoped one is asked for each site and range that somebody looks at."""

    name: str
    share: Share
    ask: Callable[..., Any]
    scoped: bool = False


QUESTIONS = (
    Question("series", Share(15.0, 0.0025), questions.series, scoped=True),
    Question("totals", Share(2.0, 0.001), questions.totals, scoped=True),
    Question("pages", Share(5.0, 0.001), questions.top_pages, scoped=True),
    Question("referrers", Share(5.0, 0.0005), questions.top_referrers, scoped=True),
    Question("runs", Share(1.0, 0.001), questions.runs),
    Question("ledger", Share(2.0, 0.001), questions.ledger),
    Question("quarantine", Share(5.0, 0.0005), questions.quarantine),
    Question("sites", Share(30.0, 0.0005), questions.sites),
)


def first_row(question: Question, scope: Scope, now: datetime) -> datetime:
    """From when on the rows are that a question is about."""
    begin = scope.range.begin(now)
    # Rows of pages are of an hour: the one in which the range begins is whole in it.
    if question.name in ("pages", "referrers") and not scope.range.by_day:
        begin = begin.replace(minute=0, second=0, microsecond=0)
    return begin
