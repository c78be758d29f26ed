"""A file into Kafka: the same file again sends the same event ids, so it counts nothing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain

import msgspec

from contract.errors import InputError
from contract.event import SITE_LENGTH
from contract.settings import Settings
from ingest.column_file import column_format
from ingest.column_file import records as column_records
from ingest.formats.detect import SAMPLE_LINES, WantedLog
from ingest.formats.rows import Rows
from ingest.formats.times import zone_of
from ingest.line_records import LineReader, LineRecords, reader_for
from ingest.lines import InputFile
from ingest.progress import LineProgress
from ingest.sender import Sender, connect
from ingest.stop import Stop
from ingest.topics import next_offsets

_NAME_LENGTH = 100
# Of so many bytes the lines are looked at, however few they are.
_SAMPLE_BYTES = 4 << 20


@dataclass
class Result:
    """What was done; a reader of each partition that stands at next_offsets has read all of it.

    `read_as` is how the file was read, `rejected` has the lines that are no event by reason, and `notes` what somebody
    should know who trusts the numbers.
    """

    lines: int = 0
    sent: int = 0
    unparsed: int = 0
    skipped_empty: int = 0
    next_offsets: dict[str, int] = field(default_factory=dict)
    read_as: str = ""
    rejected: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The result for people."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.rejected.items()))
        return (
            f"{self.lines:,} lines, {self.sent:,} sent, {self.unparsed:,} of them quarantined "
            f"({reasons or 'did not parse'}), {self.skipped_empty:,} empty lines skipped"
        )

    def json(self) -> str:
        """The result for programs."""
        return msgspec.json.encode(asdict(self)).decode()


def produce(settings: Settings, file: InputFile, wanted: WantedLog, stop: Stop, log: Callable[[str], None]) -> Result:
    """Send a file; returns when Kafka has all of it. Ctrl-C says how far it came; the same command goes on from there."""
    with file:
        try:
            records, reader = _records(settings, file, wanted)
            if reader is not None:
                log(reader.text())
            return _send(settings, file, records, reader, stop)
        except InputError as error:
            raise error if str(error).startswith(str(file.path)) else InputError(f"{file.path}: {error}") from None


def _send(
    settings: Settings, file: InputFile, records: Iterable[LineRecords], reader: LineReader | None, stop: Stop
) -> Result:
    sender, result = Sender(settings, connect(settings), stop), Result()
    try:
        with LineProgress(file.path.name, file.size_bytes) as progress:
            for _ in send_records(records, sender, result):
                progress.update(result.lines, file.read_bytes)
        sender.finish()
    except KeyboardInterrupt:
        sender.abandon()
        raise KeyboardInterrupt(
            f"interrupted: of {result.lines:,} lines of {file.path.name} {sender.delivered:,} are in Kafka as records; "
            "the same command again sends the rest, what is there counts once"
        ) from None
    result.next_offsets = next_offsets(settings)
    if reader is not None:
        result.read_as, result.notes = reader.text(), reader.tally.notes()
        for why, count in reader.tally.rejected.items():
            result.rejected[why.reason] = result.rejected.get(why.reason, 0) + count
    return result


def send_records(records: Iterable[LineRecords], sender: Sender, result: Result) -> Iterator[None]:
    """Send records and count into `result`; yields after each part of them, for a look at it."""
    for part in records:
        result.lines += part.lines
        result.skipped_empty += part.lines - len(part.values)
        result.unparsed += part.keys.count(None)
        sender.send(zip(part.keys, part.values, strict=True))
        sender.poll()
        result.sent += len(part.values)
        yield


def _records(settings: Settings, file: InputFile, wanted: WantedLog) -> tuple[Iterator[LineRecords], LineReader | None]:
    """The file's records, and what reads its lines, if it has lines."""
    name = wanted.name if wanted.site is None else wanted.site
    if not 1 <= len(name) <= SITE_LENGTH or not name.isprintable():
        raise InputError(f"site {name!r} is not a printable text of 1 to {SITE_LENGTH} characters; give another with --site")
    key = partial(settings.secret, "visitor_key")
    source = source_of(file.path.name.encode("utf-8", "backslashreplace").decode(), name, file.first_line())
    if (form := column_format(file.head(), wanted.format, bool(wanted.keys))) is not None:
        zone = None if wanted.zone is None else zone_of(wanted.zone)
        return column_records(file.content, form, Rows(wanted.keys, wanted.site, zone, key()), source), None
    blocks = file.blocks()
    first = _first_blocks(blocks)
    sample = [line for _, block in first for line in block.split(b"\n")]
    reader = reader_for(sample[:SAMPLE_LINES], wanted, source, key)
    return (reader.read(offset, block) for offset, block in chain(first, blocks)), reader


def _first_blocks(blocks: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """As many of the blocks as have the lines that a format is found by."""
    first: list[tuple[int, bytes]] = []
    lines = size_bytes = 0
    while lines < SAMPLE_LINES and size_bytes < _SAMPLE_BYTES and (more := next(blocks, None)) is not None:
        first.append(more)
        lines, size_bytes = lines + more[1].count(b"\n") + 1, size_bytes + len(more[1])
    return first


def source_of(name: str, site: str, first_line: bytes) -> str:
    """What an event id says of where the line came from: a file as it grows is one source, and no other file is the same.

    Logs of other sites, and of other days after a rotation, have the same name too, so site and first line are part of it.
    """
    digest = hashlib.sha256(b"\0".join((name.encode(), site.encode(), first_line))).hexdigest()
    return f"{name[:_NAME_LENGTH]}~{digest[:16]}"
