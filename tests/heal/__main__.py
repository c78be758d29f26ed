"""Shows on a stack of its own how a mistake is undone: a kernel that counts bots twice is deployed, seen, undone, mended.

One row a moment: how long it took to come there, how many rows of the views are wrong then, and by how much. In the end
`make audit` recomputes everything once more and compares every byte.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from tests.fixtures.own_stack import claim, own_stack, parser_of, told

claim()

from tests.fixtures.stack import Stack  # noqa: E402 settings are read from the environment above
from tests.heal.heal import Moment, heal  # noqa: E402

_HEADER = (
    "| moment           | took, s | rows      | wrong     | largest error, views | all together, views |\n"
    "| ---------------- | ------: | --------: | --------: | -------------------: | ------------------: |"
)


def main() -> int:
    """Exit status: 0 all is right again, 1 it is not or the stack did not start, 130 after Ctrl-C."""
    parser = parser_of("heal", __doc__)
    parser.add_argument("--events", type=int, default=200_000, help="how many, before the mistake (default: %(default)s)")
    options = parser.parse_args()
    if options.events < 1_000:
        parser.error("--events must be at least 1000: so that every moment has something to show")
    try:
        with told("heal"), own_stack(options.keep):
            stack = Stack.of_this_project()
            moments = heal(stack, options.events, _say)
            _say("make audit")
            audit = stack.run("make", "--silent", "audit", check=False)
    except AssertionError as error:
        print(f"heal: {error}", file=sys.stderr)
        return 1
    print(audit.stdout, file=sys.stderr)
    if options.format == "json":
        print(json.dumps([asdict(moment) for moment in moments], indent=2))
    else:
        print(_HEADER, *map(_line, moments), sep="\n")
    return audit.returncode


def _line(moment: Moment) -> str:
    numbers = (
        f"{moment.seconds:7.1f}",
        f"{moment.rows:9,}",
        f"{moment.rows_wrong:9,}",
        f"{moment.largest_error:20,}",
        f"{moment.total_error:19,}",
    )
    return f"| {moment.name:16} | {' | '.join(numbers)} |"


def _say(line: str) -> None:
    print(f"heal: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
