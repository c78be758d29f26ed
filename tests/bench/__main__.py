"""Measures Braid beside what people would use instead, on a stack of its own, in one run.

Candidates take turns (A B B A …). A result counts only if the answers are right. One row a number: median, least and
greatest over the rounds, CPU time for an event with broker and database in it, and how many times as fast Braid is as a
rival, round by round. The rows also go to build/bench.json, and charts of them to docs/charts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fixtures.own_stack import claim, compose, own_stack, parser_of, told

claim(Path(__file__).with_name("compose.yaml"))

from tests.bench import batch, freshness, ingest  # noqa: E402 settings are read from the environment above
from tests.bench.accuracy import accuracy  # noqa: E402
from tests.bench.charts import draw  # noqa: E402
from tests.bench.collect import collect  # noqa: E402
from tests.bench.drain import drain  # noqa: E402
from tests.bench.place import Place  # noqa: E402
from tests.bench.queries import queries  # noqa: E402
from tests.bench.report import Row, header, line_of  # noqa: E402
from tests.bench.thin import thin  # noqa: E402
from tests.bench.usage import Containers  # noqa: E402
from tests.fixtures.stack import ROOT, Stack  # noqa: E402

CASES: dict[str, Callable[[Place, int], Iterator[Row]]] = {
    "produce": ingest.produce,
    "collect": collect,
    "archive": ingest.archive,
    "replay": ingest.replay,
    "drain": drain,
    "freshness": freshness.freshness,
    "idle": freshness.idle,
    "batch": batch.full,
    "thin": thin,
    "queries": queries,
    "accuracy": accuracy,
}
_RESULT = ROOT / "build" / "bench.json"
_CHARTS = ROOT / "docs" / "charts"


def main() -> int:
    """Exit status: 0 everything measured, whatever the targets; 1 an answer was wrong or the stack did not start."""
    parser = parser_of("bench", __doc__, "cases")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each candidate (default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help="measure Braid without its rivals (RIVALS=0)")
    options = parser.parse_args()
    if unknown := set(options.names) - CASES.keys():
        parser.error(f"no case is named {' or '.join(sorted(unknown))}; --list names them all")
    if options.list:
        for name, case in CASES.items():
            print(f"{name:12} {(case.__doc__ or '').splitlines()[0]}")
        return 0
    measured: dict[str, list[Row]] = {}
    wrong = 0
    with told("bench"), own_stack(options.keep):
        compose("--progress", "plain", "build", "tests", *([] if options.alone else ["rivals"]))
        place = Place(Stack.of_this_project(), Containers(os.environ["COMPOSE_PROJECT_NAME"]), _say, not options.alone)
        place.wait_for_rest()
        if options.format == "table":
            print(header(), flush=True)
        for name in options.names or CASES:
            try:
                for row in CASES[name](place, options.rounds):
                    measured.setdefault(name, []).append(row)
                    if options.format == "table":
                        print(line_of(row), flush=True)
            except AssertionError as error:
                wrong = 1
                _say(f"{name}: {error}")
                # Whatever it left behind would be in the way of the next case.
                place.start_anew()
            draw(_stored(measured), _CHARTS)
    if options.format == "json":
        print(json.dumps([row.json() for rows in measured.values() for row in rows], indent=2))
    return wrong


def _stored(measured: dict[str, list[Row]]) -> list[Row]:
    """Everything in build/bench.json after these cases' rows have taken the place of their earlier ones."""
    earlier = json.loads(_RESULT.read_text(encoding="utf-8")) if _RESULT.exists() else {}
    rows = earlier | {name: [row.json() for row in rows] for name, rows in measured.items()}
    _RESULT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return [Row.of_json(row) for name in CASES for row in rows.get(name, [])]


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
