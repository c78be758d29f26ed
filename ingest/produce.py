"""A file into Kafka: what was counted of it before is not sent again, whatever its name is by now."""

from __future__ import annotations

import time

from contract.errors import InputError
from contract.event import SITE_LENGTH
from contract.settings import Settings
from ingest.counting import Counting, Intake, ReaderOf
from ingest.hdfs import FileStore, Hdfs
from ingest.line_records import LineReader, LogReader, json_record, one_by_one
from ingest.lines import InputFile
from ingest.progress import LineProgress
from ingest.register import Register
from ingest.sender import Sender, connect
from ingest.stop import Stop
from ingest.summary import Summary
from ingest.topics import next_offsets

FORMATS = ("auto", "log", "jsonl")
_WAIT_S = 0.2
SETTLE_EVERY_S = 10.0
"""What a live text has is brought into the register so often, if there is anything: it is a file on HDFS each time."""


def produce(
    settings: Settings,
    file: InputFile,
    site: str | None,
    file_format: str,
    stop: Stop,
    final: bool = False,
    again: bool = False,
    store: FileStore | None = None,
) -> Summary:
    """Count a file; returns when Kafka has all of it. Ctrl-C says how far it came; the same command goes on from there.

    A live pipe is counted line by line, until it ends. `final`: the last line counts if it has no end. `again`: lines that
    were counted before are sent too, with their ids. The register is in `store`, by default on HDFS.
    """
    with file:
        if site is not None:
            _require_site(site)
        key = settings.secret("visitor_key")
        reader_of = reader_of_lines(file.path.name, file_format, key)
        sender = Sender(settings, connect(settings), stop)
        with LineProgress(file.path.name, file.size_bytes) as progress:
            counting = Counting(
                Intake(register_of(settings, store), sender, key, now_ms),
                file,
                file.path.name,
                site,
                reader_of,
                again,
                lambda: progress.update(counting.sent_lines, file.read_bytes),
            )
            try:
                if file.live:
                    _count_live(file, counting, stop)
                if not file.live or final:
                    counting.run(final)
                counting.settle()
            except KeyboardInterrupt:
                sender.abandon()
                raise KeyboardInterrupt(
                    f"interrupted: of {counting.sent_lines:,} lines of {file.path.name} {sender.delivered:,} are in Kafka "
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


def reader_of_lines(name: str, file_format: str, visitor_key: str) -> ReaderOf:
    """What reads the lines of a file of this name. Its events are of the site that is wanted, or that the name says."""

    def reader_of(sample: bytes, site: str | None) -> LineReader:
        if file_format == "jsonl" or (file_format == "auto" and sample.lstrip()[:1] == b"{"):
            if site is not None:
                raise InputError(f"{name} has JSON lines, each of which names its site, so --site {site!r} means nothing")
            record = one_by_one(json_record)
            return LineReader(lambda source, offset, block: record(offset, block), "", own_ids=True)
        printable = name.encode("utf-8", "backslashreplace").decode()
        of_site = _require_site(printable.partition(".")[0] or printable if site is None else site)
        return LineReader(LogReader(of_site, visitor_key).read, of_site)

    return reader_of


def _count_live(file: InputFile, counting: Counting, stop: Stop) -> None:
    settled_s = time.monotonic()
    while not file.ended and not stop.is_set():
        if file.wait(_WAIT_S):
            counting.run()
        if time.monotonic() - settled_s > SETTLE_EVERY_S:
            counting.settle()
            settled_s = time.monotonic()
    stop.raise_if_interrupted()


def _require_site(site: str) -> str:
    if not 1 <= len(site) <= SITE_LENGTH or not site.isprintable():
        raise InputError(f"site {site!r} is not a printable text of 1 to {SITE_LENGTH} characters; give another with --site")
    return site
