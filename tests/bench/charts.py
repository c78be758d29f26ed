"""Bars of throughput beside rivals and of everything beside its target, as SVG for docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from tests.bench.report import Row

_WIDTH, _NAMES_WIDTH, _NUMBERS_WIDTH, _LINE_HEIGHT, _BAR_HEIGHT = 820, 220, 150, 26, 16
_BRAID, _RIVAL, _SPREAD = "#1f6f8b", "#b8c4c9", "#333333"


def draw(rows: Sequence[Row], folder: Path) -> None:
    """One file a measure that has rivals: bars are medians, lines reach from the least to the greatest round."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(row.name for row in rows if row.rival is not None):
        bars = [row for row in rows if row.name == name]
        file_name = "-".join(name.replace(",", "").split()) + ".svg"
        (folder / file_name).write_text(_chart(name, bars), encoding="utf-8")


def _chart(title: str, rows: Sequence[Row]) -> str:
    room = _WIDTH - _NAMES_WIDTH - _NUMBERS_WIDTH
    scale = room / max(row.value.greatest for row in rows)
    height = _LINE_HEIGHT * (len(rows) + 1) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="18" font-weight="bold">{escape(title)}, {escape(rows[0].unit)}</text>',
    ]
    for number, row in enumerate(rows, 1):
        top = _LINE_HEIGHT * number + 4
        middle, text = top + _BAR_HEIGHT / 2, top + _BAR_HEIGHT - 4
        left, right = (_NAMES_WIDTH + scale * value for value in (row.value.least, row.value.greatest))
        parts += [
            f'<text x="{_NAMES_WIDTH - 8}" y="{text}" text-anchor="end">{escape(row.rival or "Braid")}</text>',
            f'<rect x="{_NAMES_WIDTH}" y="{top}" width="{scale * row.value.median:.1f}" height="{_BAR_HEIGHT}" '
            f'fill="{_RIVAL if row.rival else _BRAID}"/>',
            f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}" stroke="{_SPREAD}"/>',
            f'<text x="{_WIDTH - _NUMBERS_WIDTH + 8}" y="{text}">{_number(row)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _number(row: Row) -> str:
    times = "" if row.times_rival is None else f" ({1 / row.times_rival.median:.2f} x)"
    return f"{row.value.median:,.0f}{times}"
