"""What was measured of a young and of an aged stack, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One number of one stack. `most_times` is how many times the young one's an aged one's may be, `most` its greatest
    value, if there is such a goal. `beside` says what makes it no measurement, if something does."""

    name: str
    value: float
    unit: str
    most_times: float | None = None
    most: float | None = None
    beside: str = ""


@dataclass(frozen=True)
class Row:
    """A number of the aged stack, that of the young one if it was measured, and how many times as much it is.

    Whether the goal is met is None where there is none, or a number is no measurement.
    """

    measure: str
    name: str
    unit: str
    young: float | None
    aged: float
    times: float | None
    goal: str
    met: bool | None
    beside: str = ""

    def json(self) -> dict[str, Any]:
        """For build/age.json."""
        return asdict(self)


def rows_of(measure: str, young: Iterable[Figure], aged: Iterable[Figure]) -> Iterator[Row]:
    """A row a number of the aged stack, beside that of the same name."""
    of_young = {figure.name: figure for figure in young}
    for figure in aged:
        other = of_young.get(figure.name)
        times = figure.value / other.value if other and other.value else None
        beside = "; ".join(
            f"{which}: {one.beside}" for which, one in (("young", other), ("aged", figure)) if one and one.beside
        )
        goals: list[str] = []
        met: list[bool] = []
        if figure.most is not None:
            goals.append(f"<= {_number(figure.most)} {figure.unit}")
            met.append(figure.value <= figure.most)
        if figure.most_times is not None:
            goals.append(f"<= {figure.most_times:g} x")
            if times is not None:
                met.append(times <= figure.most_times)
        yield Row(
            measure,
            figure.name,
            figure.unit,
            other.value if other else None,
            figure.value,
            times,
            ", ".join(goals),
            all(met) if met and not beside else None,
            beside,
        )


_COLUMNS = (("what", 54), ("young", 12), ("aged", 12), ("aged/young", 10), ("unit", 8), ("goal", 12), ("", 3))


def header() -> str:
    """The table's first two lines."""
    return _line([f"{name:{width}}" for name, width in _COLUMNS]) + "\n" + _line(["-" * width for _, width in _COLUMNS])


def line_of(row: Row) -> str:
    """A row of the table."""
    cells = [
        row.name,
        f"{'' if row.young is None else _number(row.young):>12}",
        f"{_number(row.aged):>12}",
        f"{'' if row.times is None else _number(row.times):>10}",
        row.unit,
        row.goal,
        "" if row.met is None else "yes" if row.met else "NO",
    ]
    line = _line([f"{cell:{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True)])
    return f"{line} {row.beside}".rstrip()


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
