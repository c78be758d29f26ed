"""A file into Kafka: the same file again sends the same event ids, so it counts nothing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

import msgspec

from contract.errors import InputError
from contract.event import SITE_LENGTH
from contract.settings import Settings
from ingest.access_log import AccessLog
from ingest.line_records import BlockReader, json_record, log_records, one_by_one
from ingest.lines import InputFile
from ingest.progress import LineProgress
from ingest.sender import Sender, connect
from ingest.stop import Stop
from ingest.topics import next_offsets

FORMATS = ("auto", "log", "jsonl")
_NAME_LENGTH = 100


@dataclass
class Result:
    """What was done; a reader of each partition that stands at next_offsets has read all of it."""

    lines: int = 0
    sent: int = 0
    unparsed: int = 0
    skipped_empty: int = 0
    next_offsets: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """The result for people."""
        return (
            f"{self.lines:,} lines, {self.sent:,} sent, {self.unparsed:,} of them quarantined (did not parse), "
            f"{self.skipped_empty:,} empty lines skipped"
        )

    def json(self) -> str:
        """The result for programs."""
        return msgspec.json.encode(asdict(self)).decode()


def produce(settings: Settings, file: InputFile, site: str | None, file_format: str, stop: Stop) -> Result:
    """Send a file; returns when Kafka has all of it. Ctrl-C says how far it came; the same command goes on from there."""
    with file:
        read = _reader_of(settings, file, site, file_format)
        sender, result = Sender(settings, connect(settings), stop), Result()
        try:
            with LineProgress(file.path.name, file.size_bytes) as progress:
                for _ in send_blocks(file.blocks(), read, sender, result):
                    progress.update(result.lines, file.read_bytes)
            sender.finish()
        except KeyboardInterrupt:
            sender.abandon()
            raise KeyboardInterrupt(
                f"interrupted: of {result.lines:,} lines of {file.path.name} {sender.delivered:,} are in Kafka as records; "
                "the same command again sends the rest, what is there counts once"
            ) from None
        result.next_offsets = next_offsets(settings)
        return result


def send_blocks(blocks: Iterable[tuple[int, bytes]], read: BlockReader, sender: Sender, result: Result) -> Iterator[None]:
    """Send the records of each block and count into `result`; yields after each, for a look at it."""
    for offset, block in blocks:
        records = read(offset, block)
        result.lines += records.lines
        result.skipped_empty += records.lines - len(records.values)
        result.unparsed += records.keys.count(None)
        sender.send(zip(records.keys, records.values, strict=True))
        sender.poll()
        result.sent += len(records.values)
        yield


def _reader_of(settings: Settings, file: InputFile, site: str | None, file_format: str) -> BlockReader:
    if file_format == "jsonl" or (file_format == "auto" and file.head().lstrip()[:1] == b"{"):
        return one_by_one(json_record)
    name = file.path.name.encode("utf-8", "backslashreplace").decode()
    site = name.partition(".")[0] or name if site is None else site
    if not 1 <= len(site) <= SITE_LENGTH or not site.isprintable():
        raise InputError(f"site {site!r} is not a printable text of 1 to {SITE_LENGTH} characters; give another with --site")
    return log_records(AccessLog(source_of(name, site, file.first_line()), site, settings.secret("visitor_key")))


def source_of(name: str, site: str, first_line: bytes) -> str:
    """What an event id says of where the line came from: a file as it grows is one source, and no other file is the same.

    Logs of other sites, and of other days after a rotation, have the same name too, so site and first line are part of it.
    """
    digest = hashlib.sha256(b"\0".join((name.encode(), site.encode(), first_line))).hexdigest()
    return f"{name[:_NAME_LENGTH]}~{digest[:16]}"
