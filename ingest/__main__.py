"""python -m ingest VERB: from the world into Kafka, and from Kafka to HDFS. Results on stdout, talk on stderr."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from contract.errors import BraidError
from contract.settings import Settings
from ingest import archive, simulate
from ingest.archive_files import ArchiveFiles
from ingest.background import Background
from ingest.hdfs import Hdfs
from ingest.lines import InputFile
from ingest.produce import FORMATS, Result, produce
from ingest.stop import stop_on_signals
from ingest.topics import ensure_topic


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed with one line that says why, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    verb: Callable[[Settings, argparse.Namespace], None] = options.run
    try:
        verb(Settings.from_env(), options)
        return 0
    except BraidError as error:
        print(f"ingest {options.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"ingest {options.verb}: {interrupt or 'interrupted'}", file=sys.stderr)
        return 130


def _topic(settings: Settings, options: argparse.Namespace) -> None:
    created = ensure_topic(settings)
    print(f"topic {settings.topic} with {settings.topic_partitions} partitions {'created' if created else 'is there'}")


def _produce(settings: Settings, options: argparse.Namespace) -> None:
    with stop_on_signals() as stop:
        if options.file == "-":
            file = InputFile(Path(options.name), _standard_input(), options.size_bytes)
        else:
            file = InputFile(Path(options.file))
        result = produce(settings, file, options.site, options.format, stop)
    _show(result, options.json)
    if options.next_offsets:
        print(json.dumps(result.next_offsets))


def _standard_input() -> io.RawIOBase:
    return open(0, "rb", buffering=0, closefd=False)


def _simulate(settings: Settings, options: argparse.Namespace) -> None:
    rate = settings.rate if options.rate is None else options.rate
    seed = settings.seed if options.seed is None else options.seed
    with stop_on_signals() as stop:
        shares = simulate.Shares(options.late, options.twice, options.malformed)
        result = simulate.simulate(settings, stop, rate, seed, options.events, options.site or simulate.SITES, shares)
    _show(result, options.json)


def _archive(settings: Settings, options: argparse.Namespace) -> None:
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    consumer = archive.connect(settings)
    with stop_on_signals() as stop:
        try:
            with Background() as background:
                archiver = archive.Archiver(settings, consumer, files, stop, _log, writer=background)
                archiver.run()
        finally:
            consumer.close()
    position = f"with {archiver.next_offsets} on HDFS; the next start goes on there"
    if stop.interrupted:
        raise KeyboardInterrupt(f"interrupted {position}")
    _log(f"stopped {position}")


def _show(result: Result, as_json: bool) -> None:
    if as_json:
        print(result.text(), file=sys.stderr)
    print(result.json() if as_json else result.text())


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "whole number of at least 1"  # argparse puts it into its message


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


_share.__name__ = "share from 0 to 1"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingest", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    topic = verbs.add_parser("topic", help="create the topic, or check that it is as every layer expects it")
    topic.set_defaults(run=_topic)

    sending = argparse.ArgumentParser(add_help=False)
    sending.add_argument("--json", action="store_true", help="print the result as JSON, with next_offsets by partition")

    producing = verbs.add_parser("produce", parents=[sending], help="send an access log or JSON lines, plain or gzip")
    producing.add_argument("file", metavar="FILE", help="- reads standard input")
    producing.add_argument("--name", default="stdin", help="the file's name, if it comes by standard input")
    producing.add_argument("--size-bytes", type=int, default=0, help="its size, for progress, if it comes by standard input")
    producing.add_argument(
        "--next-offsets", action="store_true", help="then print, as JSON, what `python -m serving wait` waits for"
    )
    producing.add_argument("--site", help="site of an access log's events; default: the file's name up to its first dot")
    producing.add_argument("--format", choices=FORMATS, default="auto", help="auto: JSON lines if the file starts with {")
    producing.set_defaults(run=_produce)

    simulating = verbs.add_parser("simulate", parents=[sending], help="send simulated traffic until stopped")
    simulating.add_argument("--rate", type=_positive, help="events/s, mean of a day (default: RATE)")
    simulating.add_argument("--events", type=_positive, help="stop after so many records")
    simulating.add_argument("--seed", type=int, help="the same seed gives the same traffic (default: BRAID_SEED)")
    simulating.add_argument("--site", action="append", help=f"may be repeated (default: {' '.join(simulate.SITES)})")
    usual = simulate.Shares()
    for share, meaning in (("late", "late by up to 3 days"), ("twice", "sent twice"), ("malformed", "made unreadable")):
        simulating.add_argument(
            f"--{share}",
            type=_share,
            metavar="SHARE",
            default=getattr(usual, share),
            help=f"part of the events that is {meaning} (default: %(default)s)",
        )
    simulating.set_defaults(run=_simulate)

    archiving = verbs.add_parser("archive", help="copy the topic to HDFS, exactly once, until stopped")
    archiving.set_defaults(run=_archive)
    return parser


if __name__ == "__main__":
    sys.exit(main())
