"""Makes a stack of its own as old as it is after years, and measures the same on it and on one of a few days.

Its past is written where it would have left something, by the code that would have written it: Kafka within its retention,
the archive's files as merges leave them, the runs of all nights, day filters, quarantine, edits of the NameNode. RATE says
how many events came in a second. Where that would be more than EVENTS in all, each day has as many fewer: what grows with
days and runs is there, what grows with events is thinner, and the table says how much. One row a number: young, aged, how
many times as much. Rows stay in build/age.json; what was not measured again keeps its earlier row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.fixtures.own_stack import claim, compose, own_stack, parser_of, told

claim()

from tests.age.measures import MEASURES, Subject  # noqa: E402 settings are read from the environment above
from tests.age.report import Figure, Row, header, line_of, rows_of  # noqa: E402
from tests.bench.place import Place  # noqa: E402
from tests.bench.usage import Containers  # noqa: E402
from tests.drill.faults import Faults  # noqa: E402
from tests.fixtures.stack import ROOT, Stack  # noqa: E402

YOUNG_DAYS = 5
"""So many that a run finds a day and three of late events, and as many earlier runs are kept as of any age."""
_MOST_EVENTS_A_DAY = 300_000
"""Some days are in memory at once when a past is made."""
_DAYS_A_YEAR, _SECONDS_A_DAY = 365, 86_400
_RESULT = ROOT / "build" / "age.json"


@dataclass(frozen=True)
class Wanted:
    """The past of the aged stack; `thinned` is how many times as many events the rate would have brought."""

    days: int
    events_a_day: int
    thinned: float

    @classmethod
    def of(cls, years: float, rate: float, most_events: int) -> Wanted:
        """ValueError if there are no more days than a young stack has."""
        days = round(years * _DAYS_A_YEAR)
        if days <= YOUNG_DAYS:
            raise ValueError(f"YEARS={years:g} are {days} days: more than the {YOUNG_DAYS} of a young stack are an age")
        of_rate = rate * _SECONDS_A_DAY
        a_day = int(min(of_rate, most_events / days, _MOST_EVENTS_A_DAY))
        if a_day < 1:
            raise ValueError(f"RATE={rate:g} and EVENTS={most_events} are less than an event a day")
        return cls(days, a_day, of_rate / a_day)

    def text(self) -> str:
        """What stands above the table."""
        return (
            f"young: {YOUNG_DAYS} days, aged: {self.days}, with {self.events_a_day:,} events each, "
            f"1 of {self.thinned:,.1f} that the rate would have brought"
        )


def main() -> int:
    """Exit status: 0 all is measured, whatever the goals; 1 an answer was wrong, or no stack; 2 wrong usage."""
    parser = parser_of("age", __doc__, "measures")
    parser.add_argument("--years", type=float, default=1.0, help="how old (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second in the past (default: %(default)s)")
    parser.add_argument("--events", type=int, default=40_000_000, help="events in all at most (default: %(default)s)")
    options = parser.parse_args()
    if unknown := set(options.names) - MEASURES.keys():
        parser.error(f"no measure is named {' or '.join(sorted(unknown))}; --list names them all")
    if options.list:
        for name, measure in MEASURES.items():
            print(f"{name:12} {(measure.__doc__ or '').splitlines()[0]}")
        return 0
    try:
        wanted = Wanted.of(options.years, options.rate, options.events)
    except ValueError as error:
        parser.error(str(error))
    names = [name for name in MEASURES if not options.names or name in options.names]
    rows: list[Row] = []
    failed: list[str] = []
    try:
        with told("age"), own_stack(options.keep):
            compose("--progress", "plain", "build", "tests")
            place = Place(Stack.of_this_project(), Containers(os.environ["COMPOSE_PROJECT_NAME"]), _say, False)
            place.wait_for_rest()
            for row in _measured(place, wanted, names, failed):
                rows.append(row)
                _store(wanted, rows)
    except AssertionError as error:
        _say(str(error))
        return 1
    if options.format == "json":
        print(json.dumps({"past": asdict(wanted), "rows": [row.json() for row in rows]}, indent=2))
    else:
        print(wanted.text())
        print(header())
        print("\n".join(map(line_of, rows)))
    for text in failed:
        _say(text)
    return 1 if failed else 0


def _measured(place: Place, wanted: Wanted, names: Sequence[str], failed: list[str]) -> Iterator[Row]:
    """Rows of the table: the young stack is measured first, unless the one that is there is aged already.

    What could not be measured, since an answer was wrong or took too long, is told in `failed`.
    """
    young: dict[str, list[Figure]] = {}
    if _runs(place) < wanted.days - 1:
        for days in (YOUNG_DAYS, wanted.days):
            if _runs(place):
                place.start_anew()
            _make(place, days, wanted)
            if days == YOUNG_DAYS:
                young = dict(_figures(place, wanted, names, "young", failed))
    for name, figures in _figures(place, wanted, names, "aged", failed):
        yield from rows_of(name, young.get(name, []), figures)


def _figures(
    place: Place, wanted: Wanted, names: Sequence[str], which: str, failed: list[str]
) -> Iterator[tuple[str, list[Figure]]]:
    subject = Subject(
        place, Faults(place.stack, os.environ["COMPOSE_PROJECT_NAME"]), wanted.days, wanted.days * wanted.events_a_day
    )
    for name in names:
        _say(f"{which}: {name}")
        figures: list[Figure] = []
        try:
            place.settle()
            for figure in MEASURES[name](subject):
                _say(f"{which}: {figure.name} {figure.value:,.3g} {figure.unit} {figure.beside}".rstrip())
                figures.append(figure)
        except AssertionError as error:
            # It took an hour to make the stack: what can still be measured is.
            failed.append(f"{which}: {name}: {error}")
            _say(failed[-1])
        yield name, figures


def _make(place: Place, days: int, wanted: Wanted) -> None:
    """What so many days leave; archiver and speed layer go on from there."""
    _say(f"making a past of {days} days with {wanted.events_a_day:,} events each")
    for service in ("supervisor", "archiver"):
        place.containers.stop(service)
    program = ("tests", "python", "-m", "tests.age.inside.make", str(days), str(wanted.events_a_day))
    command = ["compose/engine", "compose", "run", "--rm", "-T", "--no-deps", *program]
    made = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    _say(f"made: {made.stdout.strip()}")
    for service in ("archiver", "supervisor"):
        place.containers.start(service)
    place.settle()


def _runs(place: Place) -> int:
    """How many runs the stack's database has ever published."""
    return int(place.stack.ask("SELECT count(*) FROM runs WHERE state = 'published'")[0][0])


def _store(wanted: Wanted, rows: Sequence[Row]) -> None:
    """The rows take the place of earlier ones of the same name, if those were of the same past."""
    earlier: dict[str, Any] = json.loads(_RESULT.read_text(encoding="utf-8")) if _RESULT.exists() else {}
    past = asdict(wanted)
    kept = [row for row in earlier.get("rows", []) if earlier.get("past") == past]
    new = {row.name: row.json() for row in rows}
    every = [new.pop(row["name"], row) for row in kept] + list(new.values())
    _RESULT.write_text(json.dumps({"past": past, "rows": every}, indent=2) + "\n", encoding="utf-8")


def _say(line: str) -> None:
    print(f"age: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
