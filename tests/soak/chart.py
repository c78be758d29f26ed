"""Lines over hours, one picture a kind, one line a service, and when something was done to the stack; as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 240, 70, 150, 30, 24
_COLOURS = (
    *("#1f6f8b", "#c0504d", "#7f9f3f", "#8064a2", "#d98b2b", "#4bacc6", "#555555", "#b07aa1"),
    *("#2f7f4f", "#a65628", "#e377c2"),
)
_MARKS = {"run": "#9fb8d0", "audit": "#1f6f8b", "fault": "#e0a0a0"}
Line = Sequence[tuple[float, float]]
"""Hours since the beginning, and a value."""


def draw(pictures: Mapping[str, Mapping[str, Line]], marks: Sequence[tuple[float, str]], path: Path) -> None:
    """By title the lines of each picture, by name; a mark is an hour and a kind, run, audit or fault."""
    height = _HEIGHT * len(pictures)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, (title, lines) in enumerate(pictures.items()):
        parts += _picture(title, lines, marks, number * _HEIGHT)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _picture(title: str, lines: Mapping[str, Line], marks: Sequence[tuple[float, str]], top: int) -> list[str]:
    points = [point for line in lines.values() for point in line]
    last_h = max((hour for hour, _ in points), default=0.0) or 1.0
    most = max((value for _, value in points), default=0.0) or 1.0
    left, right, low, high = _LEFT, _WIDTH - _RIGHT, top + _HEIGHT - _BOTTOM, top + _TOP

    def x(hour: float) -> float:
        return left + (right - left) * min(hour / last_h, 1)

    def y(value: float) -> float:
        return low - (low - high) * value / most

    parts = [
        f'<text x="8" y="{top + 18}" font-weight="bold">{escape(title)}</text>',
        f'<text x="{left - 6}" y="{high + 4}" text-anchor="end">{most:,.3g}</text>',
        f'<text x="{left - 6}" y="{low + 4}" text-anchor="end">0</text>',
        f'<text x="{right}" y="{low + 16}" text-anchor="end">{last_h:.3g} h</text>',
    ]
    for hour, kind in marks:
        parts.append(f'<line x1="{x(hour):.1f}" x2="{x(hour):.1f}" y1="{low}" y2="{high}" stroke="{_MARKS[kind]}"/>')
    parts.append(f'<path d="M{left} {high}V{low}H{right}" fill="none" stroke="#333333"/>')
    for number, (name, line) in enumerate(sorted(lines.items(), key=lambda item: -item[1][-1][1] if item[1] else 0)):
        colour = _COLOURS[number % len(_COLOURS)]
        steps = " ".join(f"{x(hour):.1f},{y(value):.1f}" for hour, value in line)
        parts.append(f'<polyline points="{steps}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{right + 8}" y="{high + 8 + 15 * number}" fill="{colour}">{escape(name)}</text>')
    return parts
