"""What must be true of the archive: what was received is in it, once and byte for byte, and nothing leaves it by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.master import MASTER, OffsetRange, archived_next_offset, covering
from tests.simulate.stored import Held

if TYPE_CHECKING:
    from tests.simulate.world import World


class ArchiveChecker:
    """Holds a world's archive against what Kafka has acknowledged."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._files: dict[str, tuple[bytes, int]] = {}
        self._seen: dict[str, tuple[bytes, int]] = {}
        self._covered: dict[int, set[int]] = {}
        self.records: dict[int, dict[int, int]] = {}
        """By partition and offset: the time of the record that a file has, or had. An offset never means two records."""

    def look(self) -> None:
        """After each step: which records a file has, and which ones it says are taken back. AssertionError as `check`."""
        files = self._world.store.files
        if files == self._seen:
            return
        before, self._seen = self._seen, dict(files)
        for partition in self._world.archived_partitions():
            for file in self._world.stored.files(partition):
                path = file.path(self._world.settings.archive_root, MASTER)
                if before.get(path) is not files[path]:
                    self._look_at(file)

    def _look_at(self, file: OffsetRange) -> None:
        known = self.records.setdefault(file.partition, {})
        for one in self._world.stored.held(file):
            assert known.setdefault(one.offset, one.time_ms) == one.time_ms, f"{file}: another record at {one.offset}"
        marks = self._world.stored.marked(file)
        if not marks:
            return
        end = self._world.stored.end(file)
        log = self._world.logs.log(file.partition, end.topic_id, end.leader_epoch)
        marked = self._world.marked.setdefault(file.partition, {})
        for offset in marks:
            time_ms = known.get(offset) or log.time_at(offset - end.shift)
            assert time_ms is not None, f"{file}: offset {offset}, which has no record, is forgotten"
            assert self._world.statements.may_be_marked(time_ms), (
                f"{file}: offset {offset} is forgotten, and nobody has taken back {self._world.logs.sent[time_ms]}"
            )
            known[offset] = marked[offset] = time_ms

    def check(self) -> None:
        """AssertionError that says what differs."""
        if self._world.store.files == self._files:
            return
        self._files = dict(self._world.store.files)
        self.look()
        for partition in self._world.archived_partitions():
            self._check_partition(partition)
        for partition in self._world.topic.partitions:
            self._check_order(partition)

    def _check_partition(self, partition: int) -> None:
        stored, removed = self._world.stored, self._world.removed.get(partition, {})
        covered = stored.covered(partition)
        gone = self._covered.get(partition, set()) - covered - removed.keys()
        assert not gone, f"partition {partition}: no file has the offsets {sorted(gone)} any more"
        self._covered[partition] = self._covered.get(partition, set()) | covered
        known = self.records.setdefault(partition, {})
        files = stored.files(partition)
        for file in files:
            for one in stored.held(file):
                self._check_record(file, one)
        # Of a file that others cover the rejects may be gone, and then nobody reads it.
        for piece in covering(partition, files, archived_next_offset(files)):
            inside = {offset for offset in known if piece.first_offset <= offset < piece.next_offset} - removed.keys()
            missing = inside - {one.offset for one in stored.held(piece.file)} - {*stored.marked(piece.file)}
            assert not missing, f"{piece.file}: without the records at {sorted(missing)}"
        # Those without a master file beside them too.
        for path, rejects in stored.rejects(partition).items():
            for one in rejects:
                assert self._world.statements.may_be_held(one.time_ms), f"{path}, offset {one.offset} is forgotten"
        assert len(set(known.values())) == len(known), f"partition {partition}: a record is archived under two offsets"

    def _check_record(self, file: OffsetRange, one: Held) -> None:
        sent = self._world.logs.sent[one.time_ms]
        assert self._world.statements.may_be_held(one.time_ms), f"{file}, offset {one.offset}: {sent} is forgotten"
        is_half_done = not one.is_event and self._world.statements.may_be_half_done(one.time_ms)
        is_marked = one.offset in self._world.stored.marked(file)
        assert is_half_done or not is_marked, f"{file}: offset {one.offset} is there, and forgotten"
        found, truth = (file.partition, one.is_event, one.value), (sent.partition, sent.day is not None, sent.value)
        assert found == truth, f"{file}, offset {one.offset}: {found}, but {sent} was sent"

    def _check_order(self, partition: int) -> None:
        """No record of a log is passed over: below one that is archived all are, unless they have expired."""
        archived = set(self.records.get(partition, {}).values())
        there = self._world.logs.there(partition)
        last = max((number for number, one in enumerate(there) if one.time_ms in archived), default=-1)
        passed = [one.offset for one in there[: last + 1] if one.time_ms not in archived]
        assert not passed, f"partition {partition}: the archiver passed over the records at Kafka's offsets {passed}"
