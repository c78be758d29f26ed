"""python -m batch run: recompute the batch views and publish them."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from dataclasses import asdict

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from batch.run import run
from contract.errors import BraidError, JobFailed
from contract.settings import Settings


def main() -> int:
    """One verb; an expected failure is one line and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m batch", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run", help="recompute every view from the master dataset and publish the result")
    running.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()
    # Of an interrupted call to the JVM, py4j logs a stack trace that says no more than our one line.
    logging.getLogger().addHandler(logging.NullHandler())
    # `docker stop` and Ctrl-C both mean: give up the run cleanly.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = Settings.from_env()
        done = run(settings, lambda line: print(line, file=sys.stderr, flush=True))
    except BraidError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (PySparkException, Py4JError) as error:
        print(f"error: {JobFailed.of(settings.spark_master, str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the published views are as they were; `make batch` starts again", file=sys.stderr)
        return 130
    print(json.dumps(asdict(done)) if arguments.json else done.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
