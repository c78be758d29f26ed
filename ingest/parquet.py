"""A Parquet file into Kafka, with names of columns as people have them. It is a source as a whole: its bytes name it."""

from __future__ import annotations

import hashlib
import hmac
import tempfile
from collections.abc import Iterator

import polars as pl
from msgspec.structs import replace

from contract.errors import InputError
from contract.sources import CountedSource
from ingest.beginning import Mark, group_of
from ingest.counting import Intake, time_text
from ingest.formats.catalogue import AUTO, PARQUET
from ingest.formats.detect import WantedLog
from ingest.formats.rows import Rows
from ingest.line_records import LineRecords
from ingest.lines import InputFile
from ingest.readers import rows_of
from ingest.source import Group, Source, id_of
from ingest.summary import Summary
from ingest.tally import Judge, Tally

_MAGIC = b"PAR1"
_BATCH_ROWS = 20_000


def is_parquet(head: bytes, wanted: str) -> bool:
    """Whether a file that begins so is read as Parquet."""
    return wanted == PARQUET or (wanted == AUTO and head.startswith(_MAGIC))


def count_parquet(intake: Intake, file: InputFile, wanted: WantedLog, again: bool) -> Summary:
    """Count the file unless it was counted; its ids follow from its bytes, so a crash repeats them. InputError if it is no
    Parquet, or lacks a column."""
    name = file.path.name
    site = wanted.site or ""
    # Polars reads files alone, so a pipe or a compressed one is copied into one.
    with tempfile.NamedTemporaryFile(prefix="braid-parquet-") as copy:
        digest, size_bytes = hmac.new(intake.key.encode(), b"parquet", hashlib.sha256), 0
        for part in file.content():
            copy.write(part)
            digest.update(part)
            size_bytes += len(part)
        copy.flush()
        mark = Mark(size_bytes, digest.digest()[:12])
        group, known = _known(intake, mark, site)
        if known is not None and not again:
            return _repeats(name, known.row(group.name), sent_again=0)
        now = time_text(intake.now_ms())
        source = known or Source(max(group.sources, default=0) + 1, site, (), now, now)
        rows = rows_of(wanted, intake.key)
        try:
            table = pl.scan_parquet(copy.name)
            judge = Judge(intake.now_ms, rows.name_of("event_id") in table.collect_schema().names())
            tally = Tally()
            for records in _records(table, rows, id_of(group.name, source, mark)):
                intake.sender.send(zip(records.keys, records.values, strict=True))
                intake.sender.poll()
                tally += judge.tally(records)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{name} cannot be read as Parquet: {' '.join(str(error).split())[:300]}") from error
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    intake.sender.finish()
    if known is not None:
        return _repeats(name, known.row(group.name), sent_again=tally.lines)
    source = replace(source, names=(name,), announced=mark, counted=mark, points=(mark,), tally=tally)
    while not intake.register.save(group, source):
        group, known = _known(intake, mark, site)
        if known is not None:  # another replay of the same file counted it meanwhile, with the same ids
            return _repeats(name, known.row(group.name), sent_again=tally.lines)
        source = replace(source, number=max(group.sources, default=0) + 1)
    return Summary(
        name,
        tally.lines,
        tally.lines,
        tally.events,
        tally.repeats,
        quarantined=tally.rejected,
        source=source.row(group.name),
    )


def _known(intake: Intake, mark: Mark, site: str) -> tuple[Group, Source | None]:
    group = intake.register.load(group_of(mark.digest, intake.key))
    return group, next((one for one in group.sources.values() if one.site == site), None)


def _repeats(name: str, source: CountedSource, sent_again: int) -> Summary:
    return Summary(name, source.lines, sent_again, repeats=source.lines, sent_again=sent_again, source=source)


def _records(table: pl.LazyFrame, rows: Rows, source: str) -> Iterator[LineRecords]:
    schema = table.collect_schema()
    rows.require(schema.names())
    time = schema.get(rows.name_of("event_time"))
    if isinstance(time, pl.Datetime) and time.time_zone is None and rows.zone is None:
        raise InputError("its times have no zone; say of which zone they are, as LOG_ZONE=Europe/Berlin or LOG_ZONE=UTC")
    number = 0
    for batch in table.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
        found = [rows.record(f"{source}:{number + at}", row) for at, row in enumerate(batch.iter_rows(named=True))]
        number += len(found)
        yield LineRecords(len(found), [key for key, _ in found], [value for _, value in found], range(len(found)))
