"""python -m ingest VERB: from the world into Kafka, and from Kafka to HDFS. Results on stdout, talk on stderr."""

from __future__ import annotations

import argparse
import io
import json
import logging
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from contract import logs
from contract.errors import BraidError, InputError
from contract.forgotten import Kind, Said, Statement
from contract.losses import Losses
from contract.replays import Cover, Wanted, from_json, parts_from_json, to_json
from contract.resumption import Resumption
from contract.settings import Settings
from contract.sources import CountedSource
from ingest import simulate
from ingest.accept import accept
from ingest.archive_files import ArchiveFiles
from ingest.background import Background
from ingest.follow import follow
from ingest.forget import in_kafka, keep_to, lift, plan
from ingest.forgotten_log import ForgottenLog
from ingest.formats.catalogue import AUTO, NAMES
from ingest.formats.detect import WantedLog
from ingest.formats.rows import keys_of
from ingest.hdfs import Hdfs
from ingest.heartbeat import Heartbeat
from ingest.lines import InputFile
from ingest.produce import produce, register_of, wanted_log
from ingest.quarantine import replay_quarantined
from ingest.replay import replay
from ingest.replay_request import ReplayRequest
from ingest.replay_result import Replayed
from ingest.resume import resume
from ingest.sample_log import ENDS, LOG_NAME, TRUTH_NAME, SampleLog
from ingest.sample_log import FORMATS as LOG_FORMATS
from ingest.simulate import Simulated
from ingest.stop import stop_on_signals
from ingest.summary import Summary
from ingest.topic_budget import keep_to_budget
from ingest.topics import add_partitions, ensure_topic, topic_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed with one line that says why, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    verb: Callable[[Settings, argparse.Namespace], None] = options.run
    process = f"ingest {options.verb}"
    logger = logs.begin(process, Settings())
    try:
        settings = Settings.from_env()
        logs.begin(process, settings)
        verb(settings, options)
        return 0
    except BraidError as error:
        logger.error("%s: %s", process, error)
        return 1
    except KeyboardInterrupt as interrupt:
        logger.error("%s: %s", process, interrupt or "interrupted")
        return 130


def _topic(settings: Settings, options: argparse.Namespace) -> None:
    created = ensure_topic(settings)
    found, wanted = len(topic_of(settings)().partitions), settings.topic_partitions
    print(f"topic {settings.topic} with {found} partitions {'created' if created else 'is there'}")
    if found < wanted:
        _log(f"BRAID_TOPIC_PARTITIONS={wanted} is for a new topic; `make add-partitions N={wanted}` gives this one as many")
    _log(keep_to_budget(settings, _archive_files(settings).extent))


def _add_partitions(settings: Settings, options: argparse.Namespace) -> None:
    had = add_partitions(settings, options.count)
    if had == options.count:
        print(f"topic {settings.topic} has {had} partitions already")
        return
    print(f"topic {settings.topic} has {options.count} partitions now, it had {had}")
    _log(keep_to_budget(settings, _archive_files(settings).extent))
    _log(
        "all readers find them by themselves within a minute, producers within five. `make batch` when they have: then "
        "what was sent before is recognised in whatever partition it comes again"
    )


def _produce(settings: Settings, options: argparse.Namespace) -> None:
    path = Path(options.name if options.file == "-" else options.file)
    wanted = _wanted(options, path)
    with stop_on_signals() as stop:
        if options.file == "-":
            pipe = _spooled() if options.again else _standard_input()
            file = InputFile(path, pipe, options.size_bytes, live=not options.size_bytes and not options.again)
        else:
            file = InputFile(path)
        summary = produce(settings, file, wanted, stop, _log, options.final, options.again)
    for note in summary.notes:
        _log(note)
    _show(summary, options.json)
    if options.source:
        print(to_json(summary.source) if summary.source else "")
    if options.next_offsets:
        print(json.dumps(summary.next_offsets))


def _wanted(options: argparse.Namespace, path: Path) -> WantedLog:
    return wanted_log(path.name, options.site, options.format, options.zone, keys_of(options.map))


def _standard_input() -> io.RawIOBase:
    return open(0, "rb", buffering=0, closefd=False)


def _spooled() -> io.RawIOBase:
    """Standard input as a file, which can be read twice."""
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (whoever reads it closes it)
    shutil.copyfileobj(_standard_input(), file)
    file.seek(0)
    return file


def _follow(settings: Settings, options: argparse.Namespace) -> None:
    def told(source: CountedSource) -> None:
        if options.sources:
            print(to_json(source), flush=True)

    with stop_on_signals() as stop:
        path = Path(options.file)
        counted = follow(settings, path, _wanted(options, path), stop, _log, told)
    _log(f"stopped: {counted.lines:,} lines, {counted.events:,} of them counted; the next start goes on there")


def _sources(settings: Settings, options: argparse.Namespace) -> None:
    for source in register_of(settings).rows():
        print(to_json(source))


def _sample_log(_: Settings, options: argparse.Namespace) -> None:
    wanted = SampleLog(options.lines, options.days, options.seed, options.hosts, options.format, options.site)
    if options.folder == "-":
        with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
            truth = wanted.write(Path(folder))
            for name in (LOG_NAME, TRUTH_NAME):
                archive.add(Path(folder) / name, name)
    else:
        truth = wanted.write(Path(options.folder))
    _log(truth.text())


def _simulate(settings: Settings, options: argparse.Namespace) -> None:
    rate = settings.rate if options.rate is None else options.rate
    seed = settings.seed if options.seed is None else options.seed
    with stop_on_signals() as stop:
        shares = simulate.Shares(options.late, options.twice, options.malformed, options.late_days)
        result = simulate.simulate(settings, stop, rate, seed, options.events, options.site or simulate.SITES, shares)
    _show(result, options.json)


def _replay(settings: Settings, options: argparse.Namespace) -> None:
    request = ReplayRequest.of(
        settings, options.first, options.last, options.site, options.speed, options.shift, options.topic, options.dry_run
    )
    cover = from_json(Cover, options.cover, "serving covered")
    with stop_on_signals() as stop:
        result = replay(settings, request, cover, stop, _log)
    _show(result, options.json)
    if options.next_offsets:
        # Another topic is counted by nobody.
        counted = result.next_offsets if request.topic == settings.topic and not request.dry_run else {}
        print(json.dumps(counted))


def _replay_quarantine(settings: Settings, options: argparse.Namespace) -> None:
    parts = parts_from_json(Wanted, sys.stdin, "serving unresolved")
    with stop_on_signals() as stop:
        replay_quarantined(settings, parts, stop, lambda judged: print(to_json(judged), flush=True))


def _collect(settings: Settings, options: argparse.Namespace) -> None:
    # What only this verb needs takes time to load.
    from ingest.collector.serve import serve

    serve(settings, options.host, options.port, options.agent_port, _log)


def _archive(settings: Settings, options: argparse.Namespace) -> None:
    # As above.
    from prometheus_client import REGISTRY

    from contract.probes import Probes
    from ingest import archive
    from ingest.archive_metrics import ArchiveMetrics

    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    heart = Heartbeat(Path("/tmp/braid-archiver"))  # where the health check looks
    metrics = ArchiveMetrics(REGISTRY)
    probes = Probes(metrics.waits_for, heart.problem)
    with probes.served(settings.metrics_port), heart.watched(_log), stop_on_signals() as stop, Background() as background:
        connect = partial(archive.connect, settings)
        rules = _forgotten_log(settings).rules
        archiver = archive.Archiver(
            settings,
            connect,
            topic_of(settings),
            files,
            stop,
            _log,
            writer=background,
            rules=rules,
            beat=heart.beat,
            metrics=metrics,
        )
        try:
            archiver.run()
        finally:
            archiver.close()
    position = f"with {archiver.next_offsets} on HDFS; the next start goes on there"
    if stop.interrupted:
        raise KeyboardInterrupt(f"interrupted {position}")
    _log(f"stopped {position}")


def _resume(settings: Settings, options: argparse.Namespace) -> None:
    resumption = from_json(Resumption, sys.stdin.read(), "serving resume-plan")
    resume(ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root), resumption, _log)
    print(to_json(resumption.losses))


def _accept(settings: Settings, options: argparse.Namespace) -> None:
    losses = from_json(Losses, sys.stdin.read(), "serving gap-plan")
    accept(ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root), losses, _log)


def _forget_plan(settings: Settings, options: argparse.Namespace) -> None:
    asked = {"site": options.site, "visitor": options.visitor, "source": options.source}
    named: list[tuple[Kind, str]] = [(kind, what) for kind, what in asked.items() if what is not None]  # type: ignore[misc]
    if len(named) != 1:
        raise InputError("one of SITE=, VISITOR= and SOURCE= says what is to be forgotten")
    log, files = _forgotten_log(settings), _archive_files(settings)
    statement, amount = plan(settings, log, files, register_of(settings), *named[0], _log)
    for line in amount.lines():
        _log(line)
    if amount.files:
        _log(in_kafka(settings, amount))
    print(msgspec.json.encode(statement if amount.files else None).decode())


def _say(settings: Settings, options: argparse.Namespace) -> None:
    log = _forgotten_log(settings)
    added = log.add(from_json(Statement, sys.stdin.read(), "ingest forget-plan"))
    _log(f"statement {added.number} is written down")
    print(to_json(log.said()))


def _restate(settings: Settings, options: argparse.Namespace) -> None:
    log = _forgotten_log(settings)
    if count := log.restate(from_json(Said, sys.stdin.read(), "serving known-forgotten")):
        _log(f"HDFS did not have {count} statements of what is forgotten; they are written down again")
    print(to_json(log.said()))


def _forget(settings: Settings, options: argparse.Namespace) -> None:
    if options.unfinished and not _forgotten_log(settings).said().unfinished:
        return
    replaced = keep_to(_forgotten_log(settings), _archive_files(settings), register_of(settings), _log)
    _log(f"{replaced:,} files replaced; no file of the archive holds what was forgotten")


def _lift(settings: Settings, options: argparse.Namespace) -> None:
    log = _forgotten_log(settings)
    lift(log, register_of(settings), options.number)
    _log(f"statement {options.number} is lifted: what it forgot counts if it comes again")
    print(to_json(log.said()))


def _forgotten_log(settings: Settings) -> ForgottenLog:
    return ForgottenLog(Hdfs(settings.webhdfs_url), settings)


def _archive_files(settings: Settings) -> ArchiveFiles:
    return ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)


def _show(result: Summary | Simulated | Replayed, as_json: bool) -> None:
    if as_json:
        print(result.text(), file=sys.stderr)
    print(result.json() if as_json else result.text())


def _log(line: str) -> None:
    logging.getLogger(logs.NAME).info("%s", line)


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

    adding = verbs.add_parser("add-partitions", help="give the topic more partitions")
    adding.add_argument("count", type=_positive, metavar="N", help="how many it shall have, in all")
    adding.set_defaults(run=_add_partitions)

    sending = argparse.ArgumentParser(add_help=False)
    sending.add_argument("--json", action="store_true", help="print the result as JSON, with next_offsets by partition")

    waited = argparse.ArgumentParser(add_help=False)
    waited.add_argument(
        "--next-offsets", action="store_true", help="then print, as JSON, what `python -m serving wait` waits for"
    )

    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument(
        "--site", help="site of all events; default: the host that a line names, else the file's name up to its first dot"
    )
    reading.add_argument(
        "--format",
        choices=NAMES,
        default=AUTO,
        metavar="NAME",
        help=f"{', '.join(NAMES)} (default: what its first lines fit)",
    )
    reading.add_argument("--zone", help="zone of times that name none: Europe/Berlin, UTC, +02:00")
    reading.add_argument("--map", metavar="FIELD=NAME,…", help="names of columns or keys: page=url,client=ip")

    producing = verbs.add_parser(
        "produce", parents=[sending, waited, reading], help="count a log, JSON lines or a table, plain or compressed"
    )
    producing.add_argument("file", metavar="FILE", help="- reads standard input")
    producing.add_argument("--name", default="stdin", help="the file's name, if it comes by standard input")
    producing.add_argument(
        "--size-bytes",
        type=int,
        default=0,
        help="its size, if it comes by standard input; 0: it is read line by line",
    )
    producing.add_argument("--final", action="store_true", help="the last line counts though it has no end")
    producing.add_argument("--again", action="store_true", help="send what was counted before, too: its ids are the same")
    producing.add_argument("--source", action="store_true", help="then print what `python -m serving counted` takes")
    producing.set_defaults(run=_produce)

    following = verbs.add_parser(
        "follow", parents=[reading], help="count a log as it grows, through rotation, until stopped"
    )
    following.add_argument("file", metavar="FILE", help="its folder is looked into, too, for files that were rotated")
    following.add_argument("--sources", action="store_true", help="print what `python -m serving counted` takes")
    following.set_defaults(run=_follow)

    listing = verbs.add_parser("sources", help="print what was counted of which files, as JSON, a line each")
    listing.set_defaults(run=_sources)

    usual_log = SampleLog()
    sampling = verbs.add_parser("sample-log", help="write a made-up access log, and as JSON what a right count of it gives")
    sampling.add_argument("folder", metavar="FOLDER", help=f"gets {LOG_NAME} and {TRUTH_NAME}; - writes it as tar to stdout")
    for name, meaning in (
        ("lines", "how many lines"),
        ("days", f"spread over so many days before {ENDS:%Y-%m-%d}"),
        ("seed", "the same seed gives the same bytes"),
        ("hosts", "so many virtual hosts; more than one needs --format vhost"),
    ):
        default = getattr(usual_log, name)
        sampling.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} (default: {default})")
    sampling.add_argument("--format", default=usual_log.format, help=f"{', '.join(LOG_FORMATS)} (default: %(default)s)")
    sampling.add_argument("--site", default=usual_log.site, help="site of a log without hosts (default: %(default)s)")
    sampling.set_defaults(run=_sample_log)

    simulating = verbs.add_parser("simulate", parents=[sending], help="send simulated traffic until stopped")
    simulating.add_argument("--rate", type=_positive, help="events/s, mean of a day (default: RATE)")
    simulating.add_argument("--events", type=_positive, help="stop after so many records")
    simulating.add_argument("--seed", type=int, help="the same seed gives the same traffic (default: BRAID_SEED)")
    simulating.add_argument("--site", action="append", help=f"may be repeated (default: {' '.join(simulate.SITES)})")
    usual = simulate.Shares()
    for share, meaning in (("late", "late"), ("twice", "sent twice"), ("malformed", "made unreadable")):
        simulating.add_argument(
            f"--{share}",
            type=_share,
            metavar="SHARE",
            default=getattr(usual, share),
            help=f"part of the events that is {meaning} (default: %(default)s)",
        )
    simulating.add_argument(
        "--late-days",
        type=_positive,
        metavar="N",
        default=usual.late_days,
        help="how many days late at most (default: %(default)s)",
    )
    simulating.set_defaults(run=_simulate)

    replaying = verbs.add_parser(
        "replay", parents=[sending, waited], help="send events of some days once more, from the master dataset on HDFS"
    )
    replaying.add_argument("--from", dest="first", metavar="DAY", required=True, help="the first day, in UTC")
    replaying.add_argument("--to", dest="last", metavar="DAY", help="the last day (default: the first one)")
    replaying.add_argument("--site", help="only events of this site")
    replaying.add_argument("--speed", default="max", help="60x: an hour in a minute; default: max, as fast as possible")
    replaying.add_argument("--shift", metavar="now", help="now: as new events of today, of site replay.SITE; they count")
    replaying.add_argument("--topic", help="another topic than the one that is counted")
    replaying.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    replaying.add_argument("--cover", metavar="JSON", default="{}", help="what `python -m serving covered` printed")
    replaying.set_defaults(run=_replay)

    judging = verbs.add_parser(
        "replay-quarantine",
        help="send quarantined records that are events by now: those that `python -m serving unresolved` prints, by stdin",
    )
    judging.set_defaults(run=_replay_quarantine)

    resuming = verbs.add_parser(
        "resume",
        help="let the archive go on in another log, as `python -m serving resume-plan`, by stdin, has planned; "
        "prints what is lost, as JSON",
    )
    resuming.set_defaults(run=_resume)

    accepting = verbs.add_parser(
        "accept", help="write into the archive what is lost, as `python -m serving gap-plan`, by stdin, has planned"
    )
    accepting.set_defaults(run=_accept)

    planning = verbs.add_parser(
        "forget-plan", help="how much there is of what is to be forgotten, and what would be said of it"
    )
    for name, meaning in (
        ("site", "all of a site"),
        ("visitor", "all of a visitor: a client's address or name, or a pseudonym"),
        ("source", "a source as `ingest sources` names it, or all ids that begin with this and a colon"),
    ):
        planning.add_argument(f"--{name}", metavar="TEXT", help=meaning)
    planning.set_defaults(run=_forget_plan)

    saying = verbs.add_parser(
        "say", help="write down what `ingest forget-plan`, by stdin, has planned; prints all that was said"
    )
    saying.set_defaults(run=_say)

    restating = verbs.add_parser(
        "restate", help="write down again what HDFS lacks of `serving known-forgotten`, by stdin; prints all that was said"
    )
    restating.set_defaults(run=_restate)

    forgetting = verbs.add_parser("forget", help="let the archive's files keep to what was said; no archiver must run")
    forgetting.add_argument("--unfinished", action="store_true", help="only if files may not keep to it yet")
    forgetting.set_defaults(run=_forget)

    lifting = verbs.add_parser("lift", help="what a statement forgets counts if it comes again; prints all that was said")
    lifting.add_argument("number", type=_positive, metavar="N", help="the statement's number")
    lifting.set_defaults(run=_lift)

    collecting = verbs.add_parser("collect", help="take events over HTTP until stopped")
    collecting.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    collecting.add_argument("--port", type=int, default=8000, help="port of HTTP (default: %(default)s)")
    collecting.add_argument("--agent-port", type=int, default=8001, help="port for HAProxy's agent (default: %(default)s)")
    collecting.set_defaults(run=_collect)

    archiving = verbs.add_parser("archive", help="copy the topic to HDFS, exactly once, until stopped")
    archiving.set_defaults(run=_archive)
    return parser


if __name__ == "__main__":
    sys.exit(main())
