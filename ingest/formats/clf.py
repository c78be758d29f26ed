"""Common and Combined Log Format: what nearly all servers write or can write, with anything behind it.

Sources: Apache mod_log_config, nginx ngx_http_log_module, and lines that other servers were seen to write.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ingest.formats.forms import CLOCK, DAY, SIZE
from ingest.formats.logged import END_OF_REQUEST, LineForm, Logged, Stop
from ingest.formats.tails import QUOTED, known_duration_ms

# Squid writes both parts of a negative offset as negative: -03-30.
ZONED = rf"{DAY}:{CLOCK} (?:[+-][0-9]{{2}}-?[0-9]{{2}}|[A-Z]{{1,5}})"
ZONELESS = rf"{DAY}[: ]{CLOCK}(?:[.,][0-9]+)?|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} {CLOCK}(?:[.,][0-9]+)?"

_ANSWER = rf"([0-9]{{3}}|0) ({SIZE})(?= |$)"
# The end of a request in which quotes are not escaped.
_END_BY_PROTOCOL = re.compile(rf'( HTTP/[0-9.]{{1,9}})" {_ANSWER}')
_END = re.compile(rf'()" {_ANSWER}')
_MORE_FIELDS = tuple('"[-0123456789')
_STATUS = re.compile(r" ([0-9]{3}|0)(?= )")

Tail = Callable[[str], float | None]
"""The duration in milliseconds in what stands behind a line, if one does."""


class ClfForm(LineForm):
    """Lines with a time of a pattern, in brackets.

    Most servers escape quotes and backslashes, and such lines are tried first. In others a request ends at the quote before
    status and size, and a field where the next one begins.

    The work grows as the line does. What comes next in a pattern cannot begin with a character that a repeat gives back;
    for this, white space at the end is taken away before. Only the first `.*?` tries again, at each `[time] "`: an attempt
    takes quotes in turn, another that begins inside of it must begin at a quote that closes for it; so no character is read
    in more than two. (Possessive repeats would say so themselves, but Python 3.11.2 matches nested ones wrongly.)
    """

    def __init__(self, time: str, tail: Tail = known_duration_ms) -> None:
        begun, begun_simply = rf'(\S.*?) \[({time})\] "', rf'([^\s\[][^\[]*) \[({time})\] "'
        readers = rf'(?: "({QUOTED})" "({QUOTED})(?:"((?: .*)?))?|((?: "{QUOTED}")?(?: [^"].*)?))'
        rest = rf'({QUOTED})" {_ANSWER}{readers}'
        # Before the time there is hardly ever a bracket, and then nothing is tried again.
        self._simple = re.compile(begun_simply + rest, re.DOTALL).fullmatch
        self._escaped = re.compile(begun + rest, re.DOTALL).fullmatch
        self._begun = re.compile(begun, re.DOTALL).match
        self._duration_ms = tail

    def read(self, text: str) -> Logged | None:
        """What the line says, if it is of this form; `client` is all before the time."""
        match = self._simple(text) or self._escaped(text)
        if match is None:
            return self._read_unescaped(text)
        client, time, request, status, size, referrer, user_agent, tail, tail_of_common = match.groups()
        if " HTTP/" not in request and _END_BY_PROTOCOL.search(text, match.end(3)):
            return self._read_unescaped(text)  # a quote in the target looked like its end
        if user_agent is not None and tail is None and user_agent.endswith('\\"'):
            user_agent = user_agent[:-1]  # not cut, but of a server that does not escape backslashes
        tail = tail or tail_of_common
        return Logged(
            client,
            time,
            request,
            int(status),
            None if size == "-" else int(size),
            self._duration_ms(tail) if tail else None,
            referrer,
            user_agent,
        )

    def stop(self, text: str) -> Stop:
        """Where a line that is not of this form stops to be."""
        client = re.match(r"\S+", text)
        if client is None:
            return Stop("client", 1)
        begun = self._begun(text)
        if begun is None:
            return Stop("time", max(text.find("[", client.end()), client.end()) + 1)
        quote = text.find('"', begun.end())
        if quote < 0:
            return Stop(END_OF_REQUEST, len(text) + 1)
        answer = _END.search(text, begun.end())
        if answer is not None:
            return Stop("end of the referrer", len(text) + 1)
        status = _STATUS.match(text, quote + 1)
        return Stop("status", quote + 3) if status is None else Stop("size", status.end() + 2)

    def _read_unescaped(self, text: str) -> Logged | None:
        begun = self._begun(text)
        if begun is None:
            return None
        end = _END_BY_PROTOCOL.search(text, begun.end()) or _END.search(text, begun.end())
        if end is None:
            return None
        readers = _readers(text[end.end() :])
        if readers is None:
            return None
        referrer, user_agent, tail = readers
        request = text[begun.end() : end.end(1)] if end[1] else text[begun.end() : end.start()]
        duration_ms = self._duration_ms(tail) if tail else None
        return Logged(
            begun[1],
            begun[2],
            request,
            int(end[2]),
            None if end[3] == "-" else int(end[3]),
            duration_ms,
            referrer,
            user_agent,
        )


def _readers(rest: str) -> tuple[str | None, str | None, str] | None:
    """Referrer, user agent and what is behind them, of what follows the size; None if it breaks off in the referrer."""
    if not rest.startswith(' "'):
        return None, None, rest
    referrer, both, after = rest[2:].partition('" "')
    if not both:
        return (None, None, rest) if rest[2:].endswith('"') else None
    user_agent, _, following = after.partition('" ')
    if following and '"' in following and not following.startswith(_MORE_FIELDS):
        user_agent = after.rpartition('"')[0]  # a quote and a blank are inside of it
    elif not following:
        user_agent = after.removesuffix('"')
    return referrer, user_agent, after[len(user_agent) + 1 :]
