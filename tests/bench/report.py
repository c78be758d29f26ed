"""What was measured, as a table for people and as JSON for programs and charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.rounds import Sample, Spread, ratio


@dataclass(frozen=True)
class Row:
    """One number: of Braid, or of a rival with Braid's ratio to it. `met` is None where there is no target."""

    name: str
    value: Spread
    unit: str
    target: str = ""
    met: bool | None = None
    rival: str | None = None
    times_rival: Spread | None = None
    cpu_us_per_event: float | None = None
    cores: float | None = None
    cpu_us_by_service: Mapping[str, float] | None = None

    def json(self) -> dict[str, Any]:
        """For build/bench.json."""
        return asdict(self)

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> Row:
        """The row that json() gave."""
        spreads = {name: Spread(**stored[name]) for name in ("value", "times_rival") if stored[name] is not None}
        return cls(**stored | spreads)


def throughput_rows(
    name: str, samples: Mapping[str, list[Sample]], target_events_per_s: int, target_ratios: Mapping[str, float]
) -> list[Row]:
    """A row of Braid, whose samples come first, and one of each rival."""
    (_, ours), *rivals = samples.items()
    value = Spread.of([sample.events_per_s for sample in ours])
    rows = [
        Row(
            name,
            value,
            "events/s",
            f">= {target_events_per_s:,}",
            value.median >= target_events_per_s,
            cpu_us_per_event=Spread.of([sample.cpu_us_per_event for sample in ours]).median,
            cores=Spread.of([sample.cores for sample in ours]).median,
            cpu_us_by_service=_by_service(ours),
        )
    ]
    for rival, theirs in rivals:
        times, least = ratio(ours, theirs), target_ratios.get(rival)
        rows.append(
            Row(
                name,
                Spread.of([sample.events_per_s for sample in theirs]),
                "events/s",
                "" if least is None else f"Braid >= {least:g} x",
                None if least is None else times.median >= least,
                rival,
                times,
                Spread.of([sample.cpu_us_per_event for sample in theirs]).median,
                Spread.of([sample.cores for sample in theirs]).median,
                _by_service(theirs),
            )
        )
    return rows


def _by_service(samples: list[Sample]) -> dict[str, float]:
    """Medians, without the services that had no part in it."""
    parts = [sample.cpu_us_by_service for sample in samples]
    medians = {service: Spread.of([part.get(service, 0.0) for part in parts]).median for service in parts[0]}
    return {service: round(cpu_us, 3) for service, cpu_us in medians.items() if cpu_us >= _LEAST_CPU_US}


_LEAST_CPU_US = 0.01
_COLUMNS = (("what", 30), ("who", 22), ("median", 12), ("least .. greatest", 23), ("unit", 9), ("Braid is", 9))
_MORE = (("CPU us/event", 12), ("target", 14), ("met", 3))


def header() -> str:
    """The table's first two lines."""
    columns = (*_COLUMNS, *_MORE)
    return _line([f"{name:{width}}" for name, width in columns]) + "\n" + _line(["-" * width for _, width in columns])


def line_of(row: Row) -> str:
    """A row of the table."""
    cells = [
        row.name,
        row.rival or "Braid",
        f"{_number(row.value.median):>12}",
        f"{_number(row.value.least) + ' .. ' + _number(row.value.greatest):>23}",
        row.unit,
        "" if row.times_rival is None else f"{row.times_rival.median:8.2f}x",
        "" if row.cpu_us_per_event is None else f"{row.cpu_us_per_event:12.2f}",
        row.target,
        "" if row.met is None else "yes" if row.met else "NO",
    ]
    return _line([f"{cell:{width}}" for cell, (_, width) in zip(cells, (*_COLUMNS, *_MORE), strict=True)])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
