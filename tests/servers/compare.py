"""What was counted beside what the client knows, view by view: whatever differs must be a known fact about the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from contract.event import MAX_PAGE_LENGTH
from tests.servers.counted import SITE, Counted, View
from tests.servers.facts import NOT_KNOWN, Fact
from tests.servers.inside.exchange import Answer
from tests.servers.inside.requests import REQUESTS, SLOW, Request

_CLOCK_S = 1.0
_ROUNDING_MS = 1.0
_SLOW_MS = 250.0
_FOUND = 200
_BY_NAME = {request.name: request for request in REQUESTS}
_LONGEST_SAID = 300

Asked = tuple[Request, Answer]


@dataclass(frozen=True)
class Totals:
    """Sums of views: how many, of how many clients, their bytes, and how many different pages."""

    views: int
    visitors: int
    bytes_sent: int
    pages: int

    @classmethod
    def of(cls, views: Sequence[View]) -> Totals:
        return cls(
            len(views),
            len({view.client for view in views}),
            sum(view.bytes_sent for view in views),
            len({view.page for view in views}),
        )


def asked_of(answers: Mapping[str, Answer | None]) -> list[Asked]:
    """Requests that were answered, in order, of answers by the requests' names."""
    return [(_BY_NAME[name], answer) for name, answer in answers.items() if answer is not None]


def known(asked: Sequence[Asked], has_hosts: bool) -> list[View]:
    """What the client knows of each page that it asked for; `has_hosts`: the log names hosts, which are sites."""
    return [_view(request, answer, has_hosts) for request, answer in asked if request.is_page]


def differences(counted: Counted, asked: Sequence[Asked], facts: Sequence[Fact]) -> Iterator[str]:
    """What differs from what the client knows and `facts` say, a line each; also a fact that changes nothing."""
    expected, changing = [], set()
    for request, answer in asked:
        plain = _view(request, answer, counted.has_hosts)
        view: View | None = plain
        for fact in facts:
            changed = fact.change(view, request, answer) if view is not None else None
            if changed != view:
                changing.add(fact)
            view = changed
        # What is no page is counted only where a fact says so.
        if view is not None and (request.is_page or view.page != plain.page):
            expected.append(view)
    yield from (f"it is no longer so: {fact.text}" for fact in facts if fact not in changing)
    views = counted.views
    if any(view.bytes_sent == NOT_KNOWN for view in expected):
        expected = [replace(view, bytes_sent=NOT_KNOWN) for view in expected]
        views = [replace(view, bytes_sent=NOT_KNOWN) for view in views]
    missing, extra = Counter(expected), Counter(views)
    yield from _paired(list((missing - extra).elements()), list((extra - missing).elements()))


def wrong_times(counted: Counted, asked: Sequence[Asked], began_s: float, ended_s: float, late_s: float) -> Iterator[str]:
    """Times outside of those of the requests, moved by `late_s`, and durations of another unit.

    None is longer than the client waited, and one is nearly as long as the slow answer is made to take.
    """
    for time_s in counted.times_s:
        if not began_s - _CLOCK_S <= time_s - late_s <= ended_s + _CLOCK_S:
            yield f"a time is {time_s - began_s:+.0f} s from the first request, not {late_s:+.0f} s"
    longest_ms = max((answer.elapsed_ms for _, answer in asked), default=0.0)
    for duration_ms in counted.durations_ms:
        if duration_ms > longest_ms + _ROUNDING_MS:
            yield f"a duration is {duration_ms} ms, and no answer took longer than {longest_ms:.0f} ms"
    was_slow = any(request.name == SLOW and answer.status == _FOUND for request, answer in asked)
    if was_slow and counted.durations_ms and max(counted.durations_ms) < _SLOW_MS:
        yield f"no duration is longer than {max(counted.durations_ms)} ms, and one answer took more than {_SLOW_MS:.0f} ms"


def _view(request: Request, answer: Answer, has_hosts: bool) -> View:
    host = (request.host or "").lower().partition(":")[0]
    referrer, user_agent = (text[:MAX_PAGE_LENGTH] if text else None for text in (request.referrer, request.user_agent))
    site = (has_hosts and host) or SITE
    return View(site, request.target, answer.status, answer.body_bytes, request.client, referrer, user_agent)


def _paired(missing: list[View], extra: list[View]) -> Iterator[str]:
    """Those that differ, each beside the one most like it."""
    for view in missing:
        other = min(extra, key=lambda it: len(_differ(view, it)), default=None)
        if other is None:
            yield f"not counted: {_short(view)}"
            continue
        extra.remove(other)
        told = [
            f"{name} {was!r:.{_LONGEST_SAID}} counted as {now!r:.{_LONGEST_SAID}}" for name, was, now in _differ(view, other)
        ]
        yield f"{view.page:.80}: {', '.join(told)}"
    yield from (f"nobody asked, and counted: {_short(view)}" for view in extra)


def _differ(one: View, other: View) -> list[tuple[str, object, object]]:
    return [
        (name, was, now) for (name, was), now in zip(asdict(one).items(), asdict(other).values(), strict=True) if was != now
    ]


def _short(view: View) -> str:
    return f"{view!r:.{_LONGEST_SAID}}"
