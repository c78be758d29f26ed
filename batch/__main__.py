"""python -m batch run | audit: recompute the batch views and publish them, or prove that all is as it must be."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import uuid
from dataclasses import asdict
from functools import partial

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from batch.audit import CHECKS, audit
from batch.lineage import Lineage
from batch.run import INTERRUPTS, run
from batch.turn import turn
from batch.watch import Watch
from contract import logs
from contract.errors import AnotherRun, BraidError, JobFailed
from contract.settings import Settings

_logger = logging.getLogger(logs.NAME)
GOES_ON = 75
"""The exit status of a run that was not begun because another one computes: EX_TEMPFAIL of sysexits.h, try again later."""


def main() -> int:
    """One verb; an expected failure is one line and exit code 1, and so is an audit that finds something.

    A run that is not begun because another one computes is GOES_ON.
    """
    parser = argparse.ArgumentParser(prog="python -m batch", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run", help="recompute every view from the master dataset and publish the result")
    auditing = verbs.add_parser("audit", help="check archive, positions and ledger, recompute every view, and compare")
    auditing.add_argument("--only", choices=CHECKS, help="make this check alone (default: all)")
    running.add_argument("--full", action="store_true", help="compute all days, not only those that new records are on")
    running.add_argument("--wait", action="store_true", help="if another run computes, begin when it has ended")
    for verb in (running, auditing):
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()
    correlation_id = str(uuid.uuid4())
    logs.begin(f"batch {arguments.verb}", Settings())
    # Of an interrupted call to the JVM, py4j logs a stack trace that says no more than our one line.
    logging.getLogger().addHandler(logging.NullHandler())
    # `docker stop` and Ctrl-C both mean: give up the run cleanly.
    for number in INTERRUPTS:
        signal.signal(number, partial(interrupt, os.getpid()))
    try:
        settings = Settings.from_env()
        logs.begin(f"batch {arguments.verb}", settings)
        logs.bind(correlation_id=correlation_id)
        if arguments.verb == "audit":
            with Watch(settings, _say) as watch:
                report = audit(settings, _say, arguments.only, watch)
            print(json.dumps(report.as_dict()) if arguments.json else report.text())
            return 0 if report.ok else 1
        with (
            turn(settings, _say, arguments.wait) as session,
            Watch(settings, _say, session) as watch,
            Lineage(settings, correlation_id, watch, _say) as lineage,
        ):
            lineage.done = done = run(settings, _say, arguments.full, watch)
    except AnotherRun as error:
        _logger.error("error: %s", error)
        return GOES_ON
    except BraidError as error:
        _logger.error("error: %s", error)
        return 1
    except (PySparkException, Py4JError) as error:
        _logger.error("error: %s", JobFailed.of(settings.spark_master, str(error)))
        return 1
    except KeyboardInterrupt:
        # PySpark has a handler of its own, and objects that were broken off complain when they are thrown away. Nothing is
        # left but the exit, and one line says why.
        _ignore_signals()
        sys.unraisablehook = lambda unraisable: None
        target = "audit" if arguments.verb == "audit" else "batch"
        readers = "unless a line says that the run was published, the published views are as they were"
        _logger.error("interrupted: %s; `make %s` starts again", readers, target)
        return 130
    print(json.dumps(asdict(done)) if arguments.json else done.text())
    return 0


def interrupt(process_id: int, number: int, frame: object) -> None:
    """Raise KeyboardInterrupt in this process, once, and not in a copy of it that is about to become Java.

    Container engines send more than one signal, and the second must not break off what the first one asks for. A copy has
    the handlers, and a signal that came just before it was made; all that it could do is to complain.
    """
    if os.getpid() == process_id:
        _ignore_signals()
        raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


def _say(line: str) -> None:
    _logger.info("%s", line)


if __name__ == "__main__":
    sys.exit(main())
