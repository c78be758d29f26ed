"""Lines that servers write between those of requests: not broken ones, and nobody asked for a page."""

from __future__ import annotations

import re

_LONGEST = 8_192
_TALK = re.compile(
    "|".join(
        (
            r"\S+ - - \[[^\]]+\] code [0-9]{3}, message .*",  # Python's http.server and werkzeug, before the line itself
            r"\S.*? ->(?: \S*)?",  # WEBrick's second line of a request, `referrer -> page`
            r"\[[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.,]{8,15}(?: [+-][0-9]{4})?\](?: \[[0-9]+\])? \[?[A-Z]+\]? .*",
            r"\[(?:WARNING|ERROR|INFO|DEBUG)\] .*",
            r"(?:INFO|WARNING|ERROR|DEBUG|CRITICAL): .*",
            r"\[[A-Z] [0-9]{6} [0-9:]{8} \S+\] .*",  # Tornado
            r"uwsgi_\w+\(\).*",
            r"Traceback \(most recent call last\):",
            r"Error handling request.*",  # aiohttp, before a traceback
            r"(?:[\w.]+\.)?\w*(?:Error|Exception|Warning)\b(?::.*)?",
            r"(?:Not Found|Bad Request|Forbidden|Internal Server Error|Method Not Allowed)(?: \([^)]*\))?: .*",  # Django
            r"(?:\t|  )\s*\S.*",  # a traceback's inner lines
        )
    ),
    re.DOTALL,
)


def is_talk(text: str) -> bool:
    """Whether a line that is of no format of requests is known to be something else that a server says."""
    return len(text) <= _LONGEST and _TALK.fullmatch(text) is not None
