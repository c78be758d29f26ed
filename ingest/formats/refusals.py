"""Logs that cannot be counted, since their lines lack what an event has: the reason, and what to configure instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

_REFUSALS = tuple(
    (re.compile(pattern, re.DOTALL), cause)
    for pattern, cause in (
        (
            r'(?:[A-Z]+: +)?\S+:[0-9]+ - ".* HTTP/[0-9.]+" [0-9]{3}(?: .*)?',
            "its lines have no time, as uvicorn writes them by default. Give its logger uvicorn.access, by --log-config, a "
            "logging.Formatter with the format '[%(asctime)s] %(message)s' and the datefmt '%Y-%m-%d %H:%M:%S %z'",
        ),
        (
            r"[A-Z]+ \S.* [0-9]{3} (?:[0-9]+|-) - [0-9.]+ ms|[A-Z]+ \S.* [0-9]{3} [0-9.]+ ms - (?:[0-9]+|-)",
            "its lines have no time and no client, as morgan writes them in tiny and dev. Use morgan('combined')",
        ),
        (
            r'\[[0-9]{2}/\w{3}/[0-9]{4} [0-9:]{8}\] ".*" [0-9]{3} (?:[0-9]+|-)',
            "its lines do not say who asked, as Django's runserver writes them. Serve by `gunicorn --access-logfile`, or "
            "count the log of the server before it",
        ),
        (
            r'\{.*"reqId":.*"msg":"(?:incoming request|request completed)"\}',
            "it tells of a request in two lines, as Fastify does: client and page in one, status in the other. Set "
            "`disableRequestLogging: true` and log one line a response, by pino-http or an onResponse hook with the keys "
            "time, remote_addr, method, url and status",
        ),
        (
            r"[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8} \[[a-z]+\] [0-9]+#[0-9]+: .*"
            r"|\[[A-Z]\w{2} \w{3} [0-9: .]+\] \[[\w:-]+\] .*",
            "it is a log of errors, not of requests; count access.log",
        ),
    )
)


def cause_of_refusal(texts: Sequence[str]) -> str | None:
    """Why these lines cannot be counted, if most are of one such log."""
    counts = [sum(form.fullmatch(text) is not None for text in texts) for form, _ in _REFUSALS]
    most = max(counts)
    return _REFUSALS[counts.index(most)][1] if 2 * most > len(texts) else None
