"""python -m tests.simulate: seeded histories of the whole pipeline; each must be exact after every step."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from rich.console import Console
from rich.progress import track

from contract.errors import BraidError
from tests.simulate.run import Wrong, tell

_CHUNK = 25


def main() -> int:
    """Exit code 1 if a history is wrong; its seed tells it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many histories (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--stop", action="store_true", help="end at the first wrong history")
    parser.add_argument("--verbose", action="store_true", help="tell every step of wrong histories")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    chunks = [seeds[first : first + _CHUNK] for first in range(0, len(seeds), _CHUNK)]
    wrong: list[Wrong] = []
    counts: Counter[str] = Counter()
    try:
        told = _told(chunks, arguments.jobs, arguments.stop)
        for more_counts, more_wrong in track(told, "histories", len(chunks), console=console):
            counts += more_counts
            wrong += more_wrong
            if wrong and arguments.stop:
                told.close()
                break
    except BraidError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for one in sorted(wrong, key=lambda one: one.seed):
        if arguments.verbose:
            print(*one.history, sep="\n", file=sys.stderr)
        print(one, file=sys.stderr)
    result = {"histories": len(seeds), **counts, "wrong_seeds": sorted(one.seed for one in wrong)}
    print(json.dumps(result) if arguments.json else ", ".join(f"{name} {value}" for name, value in result.items()))
    return 1 if wrong else 0


def _told(chunks: Sequence[range], jobs: int, stop: bool) -> Generator[tuple[Counter[str], list[Wrong]]]:
    if jobs == 1:
        for chunk in chunks:
            yield tell(chunk, stop)
        return
    # Polars' threads do not survive a fork; and for frames this small they cost more than they do.
    os.environ["POLARS_MAX_THREADS"] = "1"
    with ProcessPoolExecutor(min(jobs, len(chunks)), get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(tell, chunk, stop) for chunk in chunks]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
