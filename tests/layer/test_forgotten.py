"""Events are taken back, between a real Kafka, HDFS and database: nothing of them is left, and nothing comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from batch.archive import Archive
from batch.audit import audit
from batch.audit_archive import ArchiveAudit
from batch.run import run
from contract.archive_file import decode
from contract.errors import ForgettingUnfinished, RollbackRefused
from contract.forgotten import Kind, Said
from contract.master import MASTER, QUARANTINE
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from ingest.archive import Archiver, connect
from ingest.archive_files import ArchiveFiles
from ingest.forget import in_kafka, keep_to, lift, plan
from ingest.forgotten_log import ForgottenLog
from ingest.hdfs import Hdfs
from ingest.register import Register
from ingest.stop import Stop
from ingest.topics import topic_of
from serving.database import connect as connect_database
from serving.forgotten import forgotten_statements, record_forgotten
from serving.rollback import rollback
from serving.status import read_status
from tests.fixtures.database import emptying
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import next_offsets_of
from tests.layer.test_batch import merged
from tests.layer.test_positions import count_all
from tests.oracle import Record, expected_rows, pipeline

NOW_MS = int(datetime.now(UTC).timestamp() * 1000)
SITES = ("shop", "demo", "other")


def quiet(line: str) -> None:
    pass


@pytest.fixture
def whole(whole: Settings) -> Settings:
    """Files are small, and merged now and then."""
    return replace(whole, archive_merge_files=2)


def value(number: int) -> bytes:
    """Each tenth is no event; it names its site and visitor all the same."""
    day = 18 + number % 3
    event = (
        f'{{"event_id":"log~{number // 7 % 3}:{number}","event_time":"2025-11-{day}T10:00:00Z","site":"{SITES[number % 3]}",'
        f'"page":"/{number % 7}","visitor_id":"v{number % 5}","status":200,"bytes_sent":1}}'
    ).encode()
    return event[:-1] if number % 10 == 0 else event


def send(settings: Settings, numbers: Iterable[int]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    for number in numbers:
        producer.produce(settings.topic, value(number), partition=number % 4)
    producer.flush()


def files_of(settings: Settings) -> ArchiveFiles:
    return ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)


def log_of(settings: Settings) -> ForgottenLog:
    return ForgottenLog(Hdfs(settings.webhdfs_url), settings)


def register_of(settings: Settings) -> Register:
    return Register(Hdfs(settings.webhdfs_url), settings.archive_root, lambda: NOW_MS)


def archive_all(settings: Settings) -> None:
    """An archiver starts and comes to Kafka's end."""
    arguments = (settings, lambda: connect(settings), topic_of(settings), files_of(settings), Stop(), quiet)
    archiver = Archiver(*arguments, rules=log_of(settings).rules)

    def done() -> None:
        archiver.step()
        assert archiver.next_offsets == next_offsets_of(settings)

    try:
        archiver.start()
        eventually(done, within_s=60)
    finally:
        archiver.close()


def take_in(settings: Settings, numbers: Iterable[int]) -> None:
    """Sent, archived and counted by the speed layer."""
    send(settings, numbers)
    archive_all(settings)
    count_all(settings)


def say(settings: Settings, kind: Kind, what: str) -> None:
    """What compose/forget does until the archive's files are to keep to it; no archiver runs."""
    statement, amount = plan(settings, log_of(settings), files_of(settings), register_of(settings), kind, what, quiet)
    assert amount.events.total() > 0
    assert in_kafka(settings, amount).startswith("Kafka has none of it any more from 20")
    log_of(settings).add(statement)
    with connect_database(settings, "batch") as connection:
        record_forgotten(connection, log_of(settings).said())


def forget(settings: Settings, *wanted: tuple[Kind, str]) -> None:
    for kind, what in wanted:
        say(settings, kind, what)
        assert keep_to(log_of(settings), files_of(settings), register_of(settings), quiet) > 0
    run(settings, quiet, full=True)


def query(settings: Settings, text: str) -> list[tuple[object, ...]]:
    with connect_database(settings, "reader") as connection:
        return connection.execute(text).fetchall()  # type: ignore[arg-type]


def assert_views(settings: Settings, numbers: Iterable[int], received: int) -> None:
    """All views are the oracle's of these records, and the rest of what was received is forgotten."""
    records: list[Record] = [(number % 4, number, NOW_MS, value(number)) for number in numbers]
    truth = pipeline(records)
    for view in with_rollups(VIEWS):
        assert merged(settings, view) == expected_rows(truth, view.name)
    sides = "sum(received), sum(counted + duplicate), sum(quarantined), sum(forgotten), sum(in_flight), sum(abs(difference))"
    ((*found,),) = query(settings, f"SELECT {sides} FROM ledger")
    kept = truth.counted + truth.duplicate
    assert found == [received, kept, truth.rejects.total(), received - kept - truth.rejects.total(), 0, 0]


def is_in_no_file(settings: Settings, text: str) -> bool:
    archive = Archive(settings)
    paths = [
        file.path(archive.root, dataset)
        for dataset in (MASTER, QUARANTINE)
        for partition in archive.partitions()
        for file in archive.listing(dataset, partition)
    ]
    return not any(text in str(decode(archive.read(path), path)[0].to_pydict()) for path in paths)


GONE: dict[Kind, tuple[str, Callable[[int], bool]]] = {
    "site": ("shop", lambda number: number % 3 == 0),
    "visitor": ("v1", lambda number: number % 5 == 1),
    "source": ("log~1", lambda number: number // 7 % 3 == 1),
}


def test_what_is_forgotten_is_nowhere_and_does_not_come_back(whole: Settings):
    take_in(whole, range(200))
    run(whole, quiet)
    take_in(whole, range(200, 280))
    run(whole, quiet)
    take_in(whole, range(280, 320))
    forget(whole, *((kind, what) for kind, (what, _) in GONE.items()))
    left = [number for number in range(320) if not any(of_kind(number) for _, of_kind in GONE.values())]
    assert_views(whole, left, 320)
    for kind in ("site", "visitor"):
        assert is_in_no_file(whole, GONE[kind][0])
    known = "SELECT kind, run_id IS NOT NULL FROM forgotten ORDER BY number"
    assert query(whole, known) == [(kind, True) for kind in GONE]
    with connect_database(whole, "batch") as connection, pytest.raises(RollbackRefused):
        rollback(connection, None)
    report = audit(whole, quiet)
    assert report.ok, report.text()

    # Sent again it is received, and that is all: before a run, after one, and after a full one.
    take_in(whole, range(320))
    # Of what was not forgotten these are repeats; a reject is one once more.
    again = sum(number % 10 == 0 for number in left)
    counted = len(left) - again
    sides = "sum(received), sum(counted), sum(duplicate), sum(quarantined), sum(forgotten), sum(abs(difference))"
    expected = [(640, counted, counted, 2 * again, 640 - 2 * counted - 2 * again, 0)]
    assert query(whole, f"SELECT {sides} FROM ledger") == expected
    for full in (False, True):
        run(whole, quiet, full=full)
        assert query(whole, f"SELECT {sides} FROM ledger") == expected
    # And a database that is made anew from HDFS alone knows it too.
    with connect_database(whole, "postgres") as owner:
        owner.execute(emptying(owner))
    run(whole, quiet)
    assert query(whole, f"SELECT {sides} FROM ledger") == expected
    assert query(whole, known) == [(kind, True) for kind in GONE]
    report = audit(whole, quiet)
    assert report.ok, report.text()

    # Unless that is wanted.
    for number in range(1, 1 + len(GONE)):
        lift(log_of(whole), register_of(whole), number)
    with connect_database(whole, "batch") as connection:
        record_forgotten(connection, log_of(whole).said())
    take_in(whole, range(320))
    run(whole, quiet)
    ((back,),) = query(whole, "SELECT sum(counted) FROM ledger")
    assert back == sum(number % 10 != 0 for number in range(320))


def test_until_the_files_keep_to_it_no_run_begins_and_all_say_why(whole: Settings):
    take_in(whole, range(80))
    run(whole, quiet)
    say(whole, "site", "shop")
    before = query(whole, "SELECT run_id, state FROM runs ORDER BY 1")
    with pytest.raises(
        ForgettingUnfinished, match=r"statement 1 of .* may still be in files .* `make forget RESUME=1` goes on"
    ):
        run(whole, quiet)
    assert query(whole, "SELECT run_id, state FROM runs ORDER BY 1") == before
    assert [one["number"] for one in read_status(whole).still_shown] == [1]
    found = ArchiveAudit(whole, Archive(whole), quiet).run().findings
    assert found[0].problem == "what it forgets may still be in files of the archive"
    assert any("rows are forgotten" in finding.problem for finding in found)
    keep_to(log_of(whole), files_of(whole), register_of(whole), quiet)
    run(whole, quiet)
    assert read_status(whole).still_shown == []
    assert_views(whole, [number for number in range(80) if number % 3], 80)


def test_a_statement_that_comes_while_a_run_begins_is_seen_by_it(whole: Settings, monkeypatch: pytest.MonkeyPatch):
    take_in(whole, range(80))
    begin_run = run.__globals__["begin_run"]

    def said_meanwhile(*arguments, **options):
        say(whole, "site", "shop")
        return begin_run(*arguments, **options)

    monkeypatch.setitem(run.__globals__, "begin_run", said_meanwhile)
    with pytest.raises(ForgettingUnfinished):
        run(whole, quiet)
    assert query(whole, "SELECT state FROM runs") == [("failed",)]
    assert query(whole, "SELECT run_id FROM forgotten") == [(None,)]


def test_an_archive_that_was_lost_hears_of_it_from_the_database(whole: Settings):
    take_in(whole, range(80))
    forget(whole, ("site", "shop"))
    hdfs = Hdfs(whole.webhdfs_url)
    for file in hdfs.list(f"{whole.archive_root}/forgotten"):
        hdfs.delete(f"{whole.archive_root}/forgotten/{file.name}")
    with pytest.raises(ForgettingUnfinished, match=r"the database knows 1 statements of what is forgotten, but HDFS has 0"):
        run(whole, quiet)
    with connect_database(whole, "batch") as connection:
        known = Said(forgotten_statements(connection))
    assert log_of(whole).restate(known) == 1
    assert log_of(whole).restate(known) == 0
    keep_to(log_of(whole), files_of(whole), register_of(whole), quiet)
    run(whole, quiet)
    assert_views(whole, [number for number in range(80) if number % 3], 80)


def test_hdfs_renames_over_a_file_at_once(archive_root: str):
    hdfs = Hdfs(Settings.from_env().webhdfs_url)
    hdfs.write(f"{archive_root}/a", b"old")
    hdfs.write(f"{archive_root}/b", b"new")
    assert not hdfs.rename(f"{archive_root}/b", f"{archive_root}/a")
    hdfs.replace(f"{archive_root}/b", f"{archive_root}/a")
    assert hdfs.read(f"{archive_root}/a") == b"new"
    assert [file.name for file in hdfs.list(archive_root)] == ["a"]
