"""Breaks a stack of its own on purpose, under traffic, and checks every answer that a reader got meanwhile.

Each drill sends 2,000 events/s (1 % twice, 5 % late, 0.1 % malformed), asks the merged views every 100 ms, and compares each
answer with the oracle at that answer's own position. One row a drill: how long after the end of the fault (for a kill: the
kill) readers saw everything again, and the archive was whole; the largest error that any poll showed; rows that differ from
the oracle at the end. A drill fails if a poll was not exactly true or shrank, if an acknowledged record is missing, if
recovery took more than 60 s, or if a batch run afterwards changes any row.

The drill chaos has many faults, of any kind, one after the other for --minutes, which --seed draws: the same for the same
seed. Meanwhile a log is replayed as it grows, batch runs follow one another, and two readers ask twice a second. It fails as
well if a run took more than 300 s, if the audit in the end finds something, if a container was started again after the
recovery, or holds more than 1.3 times the memory of the beginning. Each complaint names the seed, and that of a wrong answer
the fault before it; a line behind the row has what was measured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.fixtures.own_stack import claim, compose, own_stack, parser_of, told

claim(Path(__file__).with_name("compose.yaml"))
# So small that no drill meets it: what is compared is the hand-off, not the filter's published error.
os.environ["BRAID_DEDUPE_FALSE_POSITIVE_RATE"] = "1e-12"

from tests.drill.chaos import chaos  # noqa: E402 settings are read from the environment above
from tests.drill.drills import DRILLS, Drill  # noqa: E402
from tests.drill.report import HEADER, figures_of, row_of  # noqa: E402
from tests.drill.run import Result, run_drill  # noqa: E402
from tests.fixtures.stack import Stack  # noqa: E402

_MINUTES, _SHORT_MINUTES = 10.0, 4.0


def main() -> int:
    """Exit status: 0 all passed, 1 one failed or the stack did not start, 2 wrong usage, 130 after Ctrl-C."""
    parser = parser_of("drill", __doc__, "drills")
    parser.add_argument("--seed", type=int, default=1, help="of the faults of chaos (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, help=f"how long chaos lasts (default: {_MINUTES:g}, among all drills {_SHORT_MINUTES:g})"
    )
    parser.add_argument("--rate", type=int, default=500, help="events/s that chaos sends (default: %(default)s)")
    options = parser.parse_args()
    minutes = options.minutes if options.minutes is not None else _MINUTES if options.names else _SHORT_MINUTES
    try:
        known = _with_chaos(chaos(options.seed, minutes, options.rate))
    except ValueError as error:
        parser.error(str(error))
    if unknown := set(options.names) - {drill.name for drill in known}:
        parser.error(f"no drill is named {' or '.join(sorted(unknown))}; --list names them all")
    if options.list:
        for drill in known:
            print(f"{drill.name:22} {drill.fault}")
        return 0
    drills = [drill for drill in known if not options.names or drill.name in options.names]
    with told("drill"), own_stack(options.keep):
        results = list(_all(drills, options.format))
    if options.format == "json":
        print(json.dumps([asdict(result) | {"passed": result.passed} for result in results], indent=2))
    return 0 if all(result.passed for result in results) else 1


def _with_chaos(drill: Drill) -> list[Drill]:
    """All drills; those that take records from Kafka stay the last ones."""
    keep = [one for one in DRILLS if not one.loses]
    return [*keep, drill, *DRILLS[len(keep) :]]


def _all(drills: Sequence[Drill], style: str) -> Iterator[Result]:
    stack, project = Stack.of_this_project(), os.environ["COMPOSE_PROJECT_NAME"]
    if style == "table":
        print(HEADER, flush=True)
    for number, drill in enumerate(drills, 1):

        def say(what: str, name: str = f"drill {number} of {len(drills)}, {drill.name}") -> None:
            print(f"{name}: {what}", file=sys.stderr, flush=True)

        result = run_drill(drill, stack, project, say)
        for complaint in result.complaints + result.too_slow:
            say(f"FAILED: {complaint}")
        if style == "table":
            print(row_of(result), flush=True)
            if figures := figures_of(result):
                print(figures, flush=True)
        yield result
        if not result.passed and number < len(drills):
            say("bringing the stack up again for the next drill")
            compose("up", "--detach", "--wait", check=False)


if __name__ == "__main__":
    sys.exit(main())
