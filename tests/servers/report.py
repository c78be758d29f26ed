"""The table of servers, for people and for docs/servers.md."""

from __future__ import annotations

from collections.abc import Sequence

from tests.servers.compare import Totals
from tests.servers.judge import Judgement

_TEXTS, _NUMBERS = ("server", "version", "read as"), ("lines", "views", "visitors", "bytes", "pages")
_LAST = "what it writes otherwise than its client knows it"
HEAD = f"| {' | '.join([*_TEXTS, *_NUMBERS, _LAST])} |\n|{' --- |' * len(_TEXTS)}{' ---: |' * len(_NUMBERS)} --- |"
_BEGIN, _END = "<!-- made by `make servers` -->", "<!-- end of what is made -->"


def row(it: Judgement) -> str:
    """One server's row; a number that differs from the client's has the client's behind it."""
    numbers = ["", "", "", ""] if it.counted is None or it.client is None else _beside(it.counted, it.client)
    said = "; ".join(it.surprises) or ("" if it.counted is None else "nothing")
    cells = [it.server, it.version, it.read_as, f"{it.lines:,}", *numbers, said]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def with_rows(text: str, judgements: Sequence[Judgement], names: Sequence[str]) -> str:
    """A document with these rows anew in its table, between its marks; the table has servers of `names`, in their order.

    ValueError if the document has no marks.
    """
    before, begin, rest = text.partition(_BEGIN)
    made, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"no {_BEGIN} and {_END}")
    rows = {line.removeprefix("| ").partition(" | ")[0]: line for line in made.splitlines()}
    rows |= {it.server: row(it) for it in judgements}
    table = "\n".join([HEAD, *(rows[name] for name in names if name in rows)])
    return f"{before}{begin}\n{table}\n{end}{after}"


def _beside(counted: Totals, client: Totals) -> list[str]:
    pairs = (
        (counted.views, client.views),
        (counted.visitors, client.visitors),
        (counted.bytes_sent, client.bytes_sent),
        (counted.pages, client.pages),
    )
    return [f"{number:,}" if number == known else f"{number:,} of {known:,}" for number, known in pairs]
