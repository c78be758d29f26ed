"""A file into Kafka: what was counted of it before is not sent again, whatever its name is by now."""

from __future__ import annotations

import time
from collections.abc import Callable

from contract.errors import InputError
from contract.settings import Settings
from ingest.counting import Counting, Intake, ReaderOf
from ingest.formats.detect import WantedLog
from ingest.hdfs import FileStore, Hdfs
from ingest.line_records import LineReader
from ingest.lines import InputFile
from ingest.parquet import count_parquet, is_parquet
from ingest.progress import LineProgress
from ingest.readers import reader_for, require_site
from ingest.register import Register
from ingest.sender import Sender, connect
from ingest.stop import Stop
from ingest.summary import Summary
from ingest.topics import next_offsets

_WAIT_S = 0.2
SETTLE_EVERY_S = 10.0
"""What a live text has is brought into the register so often, if there is anything: it is a file on HDFS each time."""


def produce(
    settings: Settings,
    file: InputFile,
    wanted: WantedLog,
    stop: Stop,
    say: Callable[[str], None],
    final: bool = False,
    again: bool = False,
    store: FileStore | None = None,
) -> Summary:
    """Count a file; returns when Kafka has all of it. Ctrl-C says how far it came; the same command goes on from there.

    A live pipe is counted line by line, until it ends. `say` hears how its lines are read. `final`: the last line counts if
    it has no end. `again`: lines that were counted before are sent too, with their ids. The register is in `store`, by
    default on HDFS.
    """
    with file:
        key = settings.secret("visitor_key")
        sender = Sender(settings, connect(settings), stop)
        intake = Intake(register_of(settings, store), sender, key, now_ms)
        name = file.path.name
        if is_parquet(file.head, wanted.format):
            summary = count_parquet(intake, file, wanted, again)
        else:
            with LineProgress(name, file.size_bytes) as progress:
                counting = Counting(
                    intake,
                    file,
                    name,
                    None if wanted.site is None else require_site(wanted.site),
                    reader_of_lines(name, wanted, key, say),
                    again,
                    lambda: progress.update(counting.sent_lines, file.read_bytes),
                )
                try:
                    _count(file, counting, stop, final)
                except KeyboardInterrupt:
                    sender.abandon()
                    raise KeyboardInterrupt(
                        f"interrupted: of {counting.sent_lines:,} lines of {name} {sender.delivered:,} are in Kafka "
                        "as records; the same command again sends the rest, what is there counts once"
                    ) from None
            summary = Summary.of(file, counting)
    summary.next_offsets = next_offsets(settings)
    return summary


def register_of(settings: Settings, store: FileStore | None = None) -> Register:
    """The register beside the master dataset."""
    return Register(store or Hdfs(settings.webhdfs_url), settings.archive_root, now_ms)


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def wanted_log(
    name: str,
    site: str | None = None,
    file_format: str = "auto",
    zone: str | None = None,
    keys: dict[str, str] | None = None,
) -> WantedLog:
    """What somebody says of a file of this name. Lines that name no site are of the one that its name says."""
    printable = name.encode("utf-8", "backslashreplace").decode()
    return WantedLog(printable.partition(".")[0] or printable, site, file_format, zone, keys or {})


def reader_of_lines(name: str, wanted: WantedLog, key: str, say: Callable[[str], None]) -> ReaderOf:
    """What reads the lines of a file of this name; `say` hears how, once."""
    said = ""

    def reader_of(sample: bytes, site: str | None) -> LineReader:
        nonlocal said
        try:
            reader = reader_for(sample, wanted.of_site(site), lambda: key)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        if said != reader.text():
            said = reader.text()
            say(said)
        return reader

    return reader_of


def _count(file: InputFile, counting: Counting, stop: Stop, final: bool) -> None:
    settled_s = time.monotonic()
    while file.live and not file.ended and not stop.is_set():
        if file.wait(_WAIT_S):
            counting.run()
        if time.monotonic() - settled_s > SETTLE_EVERY_S:
            counting.settle()
            settled_s = time.monotonic()
    stop.raise_if_interrupted()
    counting.patient = False
    counting.run(final)
    counting.settle()
