"""Lines that servers write between those of requests: not broken ones, and of no request."""

from __future__ import annotations

import re

from ingest.formats.clients import client_address
from ingest.formats.events import first_fields
from ingest.formats.requests import without_colours

_LONGEST = 8_192
_PID = r"(?:\[[0-9]+\] )?"
_LEVEL = r"(?:INFO|WARNING|ERROR|DEBUG|CRITICAL)"
_ASCTIME = r"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}\]"
_TALK = re.compile(
    "|".join(
        (
            r"\S+ - - \[[^\]]+\] code [0-9]{3}, message .*",  # Python's http.server and werkzeug, before the line itself
            r"\S.*? ->(?: \S*)?",  # WEBrick's second line of a request, `referrer -> page`
            r"\[[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.,]{8,15}(?: [+-][0-9]{4})?\](?: \[[0-9]+\])? \[?[A-Z]+\]? .*",
            rf"\[{_LEVEL}\] .*",
            rf"{_LEVEL}: .*",
            r"\[[A-Z] [0-9]{6} [0-9:]{8} \S+\] .*",  # Tornado
            r"uwsgi_\w+\(\).*",
            r"Traceback \(most recent call last\):",
            r"Error handling request.*",  # aiohttp, before a traceback
            r"(?:[\w.]+\.)?\w*(?:Error|Exception|Warning)\b(?::.*)?",
            r"(?:Not Found|Bad Request|Forbidden|Internal Server Error|Method Not Allowed)(?: \([^)]*\))?: .*",  # Django
            r"(?:\t|  )\s*\S.*",  # a traceback's inner lines
            # Puma, alone and with workers, and Werkzeug: `* Listening on …`, `- Goodbye!`
            rf"{_PID} ?[*!-] +[A-Za-z].*",
            rf"{_PID}(?:Puma starting in .*|=== puma .*|(?:Use|Press) C(?:trl|TRL)[+-]C to .*)",
            # uWSGI
            r"(?:\*\*\*|!!!) .*",
            r"(?:compiled with version|os|nodename|machine|clock source|current working directory|lock engine|thunder lock"
            r"|detected [a-zA-Z ]+|Python version|PEP 405 virtualenv detected|VACUUM): .*",
            r"(?:your (?:processes|memory|server|mercy) |mapped [0-9]+ bytes |WSGI app [0-9]+ |spawned uWSGI |uwsgi socket "
            r"|\[?uWSGI\]? |pcre jit |Python main interpreter |python threads support |Set PythonHome |set[ug]id\(\) "
            r"|chdir\(\) |dropping root |SIG[A-Z/]+ received|(?:\.\.\.)?(?:gracefully )?killing worker |DAMN ! "
            r"|worker [0-9]+ |goodbye to uWSGI).*",
            # Sanic
            rf"[\w ]{{0,12}}[| ][0-9-]{{10}} [0-9:]{{8}} [+-][0-9]{{4}} +{_LEVEL}: (?!\S+:[0-9]+ ).*",
            # PHP's built-in server: of its connections, and of its scripts
            rf"{_PID}{_ASCTIME} (?:PHP .*|\S+:[0-9]+ (?:Accepted|Clos(?:ing|ed)|Invalid request\b).*)",
            r'\x1e?\{.*"log_namespace": .*',  # twist
        )
    ),
    re.DOTALL,
)


def is_talk(text: str, of_logger: bool = False) -> bool:
    """Whether a line that is of no format of requests is known to be something else that a server says.

    `of_logger`: it stood behind the prefix of a logger that writes all that a server says. Then only a line that begins
    with an address may be a broken one of a request.
    """
    if of_logger and client_address(first_fields(text)[0]) is None:
        return True
    return len(text) <= _LONGEST and _TALK.fullmatch(without_colours(text)) is not None
