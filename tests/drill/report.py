"""The table of results: a row is printed as soon as its drill has ended."""

from __future__ import annotations

from tests.drill.run import Result

_COLUMNS = (
    ("drill", 23),
    ("fault", 59),
    ("views, s", 8),
    ("archive, s", 10),
    ("polls", 5),
    ("failed", 6),
    ("events", 7),
    ("largest error", 13),
    ("difference", 10),
    ("result", 6),
)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


HEADER = "\n".join(
    (
        _line([f"{name:{width}}" for name, width in _COLUMNS]),
        _line(["-" * width if width > 20 else "-" * (width - 1) + ":" for _, width in _COLUMNS]),
    )
)


def figures_of(result: Result) -> str:
    """What a drill has measured beside its row, on one line; empty if it has measured nothing."""
    if not result.figures:
        return ""
    told = [f"{name.replace('_', ' ')} {value}" for name, value in result.figures.items()]
    lag = "?" if result.largest_lag_s is None else f"{result.largest_lag_s:.1f}"
    return f"{result.name}: {', '.join(told)}, largest lag s {lag}"


def row_of(result: Result) -> str:
    """One row; `?` is what is not known because the drill broke off."""
    seconds = [f"{value:.1f}" if value is not None else "?" for value in (result.views_s, result.archive_s)]
    numbers = [
        f"{value:,}" if value is not None else "?"
        for value in (result.polls, result.failed_polls, result.events, result.largest_error, result.difference)
    ]
    cells = [result.name, result.fault, *seconds, *numbers, "passed" if result.passed else "FAILED"]
    widths = [width for _, width in _COLUMNS]
    return _line([f"{cell:{'<' if width > 20 else '>'}{width}}" for cell, width in zip(cells, widths, strict=True)])
