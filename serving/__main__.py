"""python -m serving VERB: the database and its schema, questions to it, and what the other layers want to know of it.

Each verb imports what it needs itself: somebody waits for the answer to a question, and what all verbs need together takes
several times as long to import as the database takes to answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import BraidError, InputError
from contract.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

WELCOME_QUERIES = (
    (
        "Views of each site in the last hour, and which part counted them",
        "SELECT site, total(views) AS views, total(batch_views) AS batch_views, total(speed_views) AS speed_views "
        "FROM site_traffic WHERE bucket > now() - interval '1 hour' GROUP BY site ORDER BY views DESC, site",
    ),
    (
        "The five most viewed pages, with unique visitors and 95th percentile of latency in ms",
        "SELECT site, page, total(views) AS views, merged_count(visitors) AS visitors, "
        "round(merged_percentile(0.95, latency)) AS p95_ms "
        "FROM page_traffic_sketches GROUP BY site, page ORDER BY views DESC, site, page LIMIT 5",
    ),
    ("The ledger: nothing is lost, difference is 0", "SELECT * FROM ledger ORDER BY partition"),
)
_TIMEOUT_HELP = "give up after so long without progress (default: %(default)s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; results go to stdout, talk to stderr. 0, or 1 after a one-line error."""
    options = _parser().parse_args(arguments)
    try:
        options.verb(Settings.from_env(), options)
        sys.stdout.flush()
    except BraidError as error:
        print(f"braid: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe has seen enough; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="The serving layer: TimescaleDB's views and state."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("migrate", help="create or update database, roles and schema; safe to repeat")
    verb.set_defaults(verb=_migrate)

    verb = verbs.add_parser("schema", help="print the SQL that migrate applies")
    verb.set_defaults(verb=_schema)

    verb = verbs.add_parser("query", help="run one SQL statement as the reader role")
    verb.add_argument("sql", help="the statement, e.g. 'SELECT * FROM ledger'; - reads it from stdin")
    verb.add_argument("--format", choices=["table", "csv", "json"], default="table")
    verb.set_defaults(verb=_query)

    verb = verbs.add_parser("status", help="health, positions, last run, ledger, addresses")
    verb.add_argument("--format", choices=["table", "json"], default="table")
    verb.add_argument("--show-password", action="store_true", help="the reader's, in the addresses")
    verb.set_defaults(verb=_status)

    verb = verbs.add_parser("rollback", help="let the views answer from an earlier run that is kept")
    verb.add_argument("--run", type=int, help="its number in the view `runs`; by default the run before the live one")
    verb.set_defaults(verb=_rollback)

    verb = verbs.add_parser("wait", help="wait until the speed layer has counted up to given offsets")
    verb.add_argument("--partition-offsets", required=True, help='next offset by partition, e.g. \'{"0": 1200, "1": 900}\'')
    verb.add_argument("--timeout-s", type=float, default=600.0, help=_TIMEOUT_HELP)
    verb.set_defaults(verb=_wait)

    verb = verbs.add_parser(
        "counted", help="put into the view `sources` what `ingest produce`, `follow` or `sources`, by stdin, say"
    )
    kinds = verb.add_mutually_exclusive_group()
    kinds.add_argument("--all", action="store_true", help="there are no other sources")
    kinds.add_argument("--as-they-come", action="store_true", help="line by line, until no more come")
    kinds.add_argument("--partition-offsets", help="then wait, as `wait` does")
    verb.add_argument("--timeout-s", type=float, default=600.0, help=_TIMEOUT_HELP)
    verb.set_defaults(verb=_counted)

    verb = verbs.add_parser("covered", help="of which offsets and days repeats are recognised however old they are, as JSON")
    verb.set_defaults(verb=_covered)

    verb = verbs.add_parser(
        "unresolved", help="offsets of quarantined records that are still no events, in parts: a line of JSON each"
    )
    verb.add_argument("--reason", help="only those of this reason")
    verb.set_defaults(verb=_unresolved)

    verb = verbs.add_parser("resolve", help="record what became of quarantined records that were sent again")
    verb.add_argument("--no-wait", action="store_true", help="do not wait until they are counted")
    verb.add_argument("--format", choices=["text", "json"], default="text")
    verb.add_argument("--timeout-s", type=float, default=600.0, help=_TIMEOUT_HELP)
    verb.set_defaults(verb=_resolve)

    verb = verbs.add_parser("resume-plan", help="how readers go on where Kafka has another log than they read, as JSON")
    verb.add_argument("--wait", action="store_true", help="until the archive has all that Kafka has kept of the old log")
    verb.add_argument("--timeout-s", type=float, default=600.0, help=_TIMEOUT_HELP)
    verb.set_defaults(verb=_resume_plan)

    verb = verbs.add_parser("gap-plan", help="which offsets neither a file of the archive nor Kafka has, as JSON")
    verb.set_defaults(verb=_gap_plan)

    verb = verbs.add_parser(
        "record-lost", help="put into the ledger what is lost, as `serving gap-plan` or `ingest resume`, by stdin, say"
    )
    verb.set_defaults(verb=_record_lost)

    verb = verbs.add_parser(
        "record-forgotten", help="let the speed layer and the next run know what `ingest say`, by stdin, prints"
    )
    verb.add_argument("--again", action="store_true", help="the next run takes all of it out once more")
    verb.set_defaults(verb=_record_forgotten)

    verb = verbs.add_parser("known-forgotten", help="print, as JSON, what the database knows to be forgotten")
    verb.set_defaults(verb=_known_forgotten)

    verb = verbs.add_parser("welcome", help="wait until the merged views answer, then show addresses and first queries")
    verb.add_argument("--traffic", default="", help="'none' if no events come by themselves; do not wait for any then")
    verb.add_argument("--timeout-s", type=float, default=300.0, help=_TIMEOUT_HELP)
    verb.set_defaults(verb=_welcome)

    verb = verbs.add_parser("page", help="serve the live page until Ctrl-C")
    verb.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    verb.add_argument("--port", type=int, default=8010, help="its port (default: %(default)s)")
    verb.add_argument("--compose-file", type=Path, required=True, help="compose.yaml, for the containers' limits of memory")
    verb.add_argument("--cookbook", type=Path, required=True, help="docs/sql.md, for the questions of the SQL box")
    verb.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of compose.yaml")
    verb.set_defaults(verb=_page)

    verb = verbs.add_parser("export", help="answer /metrics with what status knows, for Prometheus, until it is ended")
    verb.set_defaults(verb=_export)

    verb = verbs.add_parser("dsn", help="print what psql connects with inside the network, password included")
    verb.set_defaults(verb=_dsn)
    return parser


def _migrate(settings: Settings, _: argparse.Namespace) -> None:
    from serving.migrate import migrate

    changed = migrate(settings)
    print(f"schema of database {settings.database_name} {'applied' if changed else 'is up to date'}", file=sys.stderr)


def _schema(_: Settings, __: argparse.Namespace) -> None:
    from serving.schema import script
    from serving.stored_view import first_versions

    sys.stdout.write(script(first_versions()))


def _query(settings: Settings, options: argparse.Namespace) -> None:
    from serving.database import connect
    from serving.query import run_query, write_result

    with connect(settings, "reader") as connection:
        result = run_query(connection, sys.stdin.read() if options.sql == "-" else options.sql)
    write_result(result, options.format, sys.stdout)
    print(f"{len(result.rows)} row{'' if len(result.rows) == 1 else 's'}", file=sys.stderr)


def _status(settings: Settings, options: argparse.Namespace) -> None:
    from serving.report import print_status
    from serving.status import read_status

    status = read_status(settings, options.show_password)
    if options.format == "json":
        print(json.dumps(status.as_dict(), indent=1))
    else:
        print_status(status, _console(sys.stdout.isatty()))


def _rollback(settings: Settings, options: argparse.Namespace) -> None:
    from serving.database import connect
    from serving.rollback import rollback

    with connect(settings, "batch") as connection:
        print(rollback(connection, options.run).text())


def _wait(settings: Settings, options: argparse.Namespace) -> None:
    from rich.console import Console

    from serving.progress import wait_for_offsets

    wait_for_offsets(settings, _offsets(options), options.timeout_s, Console(stderr=True))


def _offsets(options: argparse.Namespace) -> dict[int, int]:
    try:
        return {int(partition): int(offset) for partition, offset in json.loads(options.partition_offsets).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f'--partition-offsets {options.partition_offsets!r} is not a JSON object such as {{"0": 1200}}'
        ) from error


def _counted(settings: Settings, options: argparse.Namespace) -> None:
    from rich.console import Console

    from contract.replays import from_json
    from contract.sources import CountedSource
    from serving.database import connect
    from serving.progress import wait_for_offsets
    from serving.sources import TOLD_BY, record_as_they_come, record_sources

    if options.as_they_come:
        # A signal is for whoever tells: its last lines are to be heard.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        record_as_they_come(settings, sys.stdin, lambda text: print(f"braid: {text}", file=sys.stderr, flush=True))
        return
    offsets = None if options.partition_offsets is None else _offsets(options)
    sources = [from_json(CountedSource, line, TOLD_BY) for line in sys.stdin if line.strip()]
    with connect(settings, "batch") as connection:
        record_sources(connection, sources, options.all)
    if offsets:
        wait_for_offsets(settings, offsets, options.timeout_s, Console(stderr=True), "batch")


def _covered(settings: Settings, _: argparse.Namespace) -> None:
    from contract.replays import to_json
    from serving.database import connect
    from serving.replays import replay_cover

    with connect(settings, "reader") as connection:
        print(to_json(replay_cover(connection)))


def _unresolved(settings: Settings, options: argparse.Namespace) -> None:
    from contract.replays import to_json
    from serving.database import connect
    from serving.replays import unresolved

    with connect(settings, "reader") as connection:
        for part in unresolved(connection, settings.topic, options.reason):
            print(to_json(part))


def _resolve(settings: Settings, options: argparse.Namespace) -> None:
    from rich.console import Console

    from contract.replays import Judged, parts_from_json
    from serving.database import connect
    from serving.progress import wait_for_offsets
    from serving.replays import Judgements, resolve, resolved

    with connect(settings, "batch") as connection:

        def resolving() -> Iterator[Judged]:
            for part in parts_from_json(Judged, sys.stdin, "ingest replay-quarantine"):
                resolve(connection, settings.topic, part)
                yield part

        judged = Judgements.of(resolving())
        if not options.no_wait:
            wait_for_offsets(settings, judged.next_offsets, options.timeout_s, Console(stderr=True), "batch")
        result = resolved(connection, settings.topic, judged)
    print(json.dumps(result.as_dict()) if options.format == "json" else result.text())


def _resume_plan(settings: Settings, options: argparse.Namespace) -> None:
    from rich.console import Console

    from contract.replays import to_json
    from serving.progress import wait_for_archive
    from serving.resume import plan_resumption

    if options.wait:
        wait_for_archive(lambda: plan_resumption(settings), options.timeout_s, Console(stderr=True))
    print(to_json(plan_resumption(settings)))


def _gap_plan(settings: Settings, _: argparse.Namespace) -> None:
    from contract.replays import to_json
    from serving.gaps import describe, plan_acceptance

    plan = plan_acceptance(settings)
    for line in describe(plan):
        print(line, file=sys.stderr)
    print(to_json(plan))


def _record_lost(settings: Settings, _: argparse.Namespace) -> None:
    from contract.losses import Losses
    from contract.replays import from_json
    from serving.database import connect
    from serving.handoff import record_lost

    losses = from_json(Losses, sys.stdin.read(), "serving gap-plan")
    with connect(settings, "batch") as connection:
        record_lost(connection, losses.lost)


def _record_forgotten(settings: Settings, options: argparse.Namespace) -> None:
    from contract.forgotten import Said
    from contract.replays import from_json
    from serving.database import connect
    from serving.forgotten import record_forgotten

    said = from_json(Said, sys.stdin.read(), "ingest say")
    with connect(settings, "batch") as connection:
        record_forgotten(connection, said, options.again)


def _known_forgotten(settings: Settings, _: argparse.Namespace) -> None:
    from contract.forgotten import Said
    from contract.replays import to_json
    from serving.database import connect
    from serving.forgotten import forgotten_statements

    with connect(settings, "batch") as connection:
        print(to_json(Said(forgotten_statements(connection))))


def _welcome(settings: Settings, options: argparse.Namespace) -> None:
    from rich.console import Console

    from serving.database import connect
    from serving.progress import wait_for_views
    from serving.query import run_query, write_result
    from serving.report import print_addresses
    from serving.status import addresses

    wait_for_views(settings, options.traffic != "none", options.timeout_s, Console(stderr=True))
    console = _console(sys.stdout.isatty())
    print_addresses(addresses(settings), console)
    with connect(settings, "reader") as connection:
        for title, query in WELCOME_QUERIES:
            print(f'{title}:\n  make query SQL="{query}"\n')
            write_result(run_query(connection, query), "table", sys.stdout)
            print()


def _page(settings: Settings, options: argparse.Namespace) -> None:
    from contract import logs
    from serving.page.serve import serve

    logger = logs.begin("serving page", settings)
    variables = {name: value for name, _, value in (one.partition("=") for one in options.set)}
    serve(
        settings,
        options.host,
        options.port,
        options.compose_file,
        options.cookbook,
        variables,
        logger.error,
    )


def _export(settings: Settings, _: argparse.Namespace) -> None:
    from serving.exporter import export

    export(settings)


def _dsn(settings: Settings, _: argparse.Namespace) -> None:
    from serving.database import reader_dsn

    print(reader_dsn(settings, settings.database_host, settings.database_port))


def _console(terminal: bool) -> Console:
    from rich.console import Console

    # In a pipe nothing is folded.
    return Console(highlight=False, width=None if terminal else 200)


if __name__ == "__main__":
    sys.exit(main())
