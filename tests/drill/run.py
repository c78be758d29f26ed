"""One drill: traffic, a fault in the middle of it, recovery, and then equality with ground truth in every place."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from confluent_kafka import KafkaException
from requests import RequestException

from batch.archive import Archive
from contract.errors import BraidError
from contract.views import VIEWS, with_rollups
from serving.database import connect
from tests.drill.drills import Drill
from tests.drill.faults import BATCH, Faults
from tests.drill.judge import NOTHING, Announced, Poll, judge
from tests.drill.loss import Loss, LostFile, numbered
from tests.drill.reader import Reader, poll
from tests.drill.scene import Scene
from tests.drill.traffic import RecordedTraffic, Traffic
from tests.drill.truth import Truth
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import each_record_of, next_offsets_of
from tests.fixtures.stack import Stack, shifted
from tests.fixtures.views import stored_rows
from tests.oracle import Record, expected_rows

RECOVERY_LIMIT_S = 60
_GIVE_UP_S = 180
_WARM_S = 2
_AFTER_S = 2
_SEED = 1


@dataclass
class Result:
    """One row of the table. Times count from the end of the fault, which for a kill is the kill.

    `views_s`: until a poll showed all that was in Kafka at the end of the fault, and more. `archive_s`: until that was
    archived and, where the drill says so, replicated. None: not within the time that a drill waits. `complaints`: what was
    not true. `too_slow`: which recovery took longer than its limit, which is a measurement and wants a machine at rest.
    `largest_lag_s`: how old the oldest record in Kafka was that an answer did not have. `figures`: what a drill measures.
    """

    name: str
    fault: str
    views_s: float | None = None
    archive_s: float | None = None
    polls: int = 0
    failed_polls: int = 0
    events: int = 0
    largest_error: int | None = None
    difference: int | None = None
    largest_lag_s: float | None = None
    figures: dict[str, float | str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    too_slow: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong at any moment, and recovery within its limit."""
        return not self.complaints and not self.too_slow


def run_drill(drill: Drill, stack: Stack, project: str, say: Callable[[str], None], with_batch: bool = True) -> Result:
    """The drill's result; whatever goes wrong is a complaint in it. Without batch run the last check is left out."""
    result = Result(drill.name, drill.fault)
    try:
        _run(drill, stack, Faults(stack, project), say, with_batch, result)
    except (AssertionError, BraidError) as failure:
        result.complaints.append(" ".join(str(failure).split()))
    if drill.seed is not None:
        result.complaints = [f"seed {drill.seed}: {complaint}" for complaint in result.complaints]
        result.too_slow = [f"seed {drill.seed}: {complaint}" for complaint in result.too_slow]
    return result


def _run(drill: Drill, stack: Stack, faults: Faults, say: Callable[[str], None], with_batch: bool, result: Result) -> None:
    say("waiting for rest")
    wait_for_rest(stack)
    site = f"{drill.name}-{uuid.uuid4().hex[:6]}"
    with connect(stack.settings, "reader") as connection:
        before = poll(connection, [site])
    shifts, others = stack.shifts(), digest(stack, site)

    readers = [Reader(stack.settings, [site, f"{site}-other"], drill.load.poll_s) for _ in range(drill.load.readers)]
    scene = Scene(stack, faults, say, readers[0], before.positions, site, shifts=shifts)
    scene.complaints, scene.figures = result.complaints, result.figures
    try:
        _break(drill, scene, readers, others, with_batch, result)
    except (AssertionError, BraidError):
        if not drill.loses and not scene.takes_over() and not scene.taken_back:
            say("broken off; comparing what readers saw until then")
            # It may be Kafka that is gone.
            with suppress(KafkaException, AssertionError):
                truth = Truth(_in_topic(scene, shifts))
                for reader in readers:
                    judge_reader(reader, truth, before, NOTHING, scene.during, result)
        raise
    say("comparing with ground truth")
    truth, kept = _truths(scene, shifts, result)
    # A batch run that changed no row leaves those of before it.
    result.difference = rows_that_differ(stack, kept, site)
    if with_batch:
        _batch_covers(stack, scene.ends(), before.received + kept.outcome.received, result)
    announced = Announced(None if kept is truth else kept, scene.anew_s, scene.takes_over())
    for reader in readers:
        judge_reader(reader, truth, before, announced, scene.during, result)
    if result.difference:
        result.complaints.append(f"{result.difference} rows are not the oracle's")


def _break(
    drill: Drill, scene: Scene, readers: Sequence[Reader], others: list[tuple[object, ...]], with_batch: bool, result: Result
) -> None:
    """The fault under traffic, recovery, and what must be so then; readers look on all the while."""
    stack, say, site = scene.stack, scene.say, scene.site
    with ExitStack() as reading:
        for reader in readers:
            reading.enter_context(reader)
        with (RecordedTraffic if drill.loses else Traffic)(stack, site, _SEED, drill.load) as traffic:
            scene.beside, scene.traffic = reading, traffic
            scene.until(lambda: readers[0].views >= _WARM_S * drill.load.rate)
            say(drill.fault)
            drill.inject(scene)
            scene.fault_is_over()
            say("waiting for recovery")
            _recover(drill, scene, result)
            scene.hold(_AFTER_S)
        scene.acknowledged += traffic.acknowledged
        for last_part in scene.later:
            last_part()
        wait_for_rest(stack)
        _changes_nothing(stack, others, site, "the fault", result)
        if with_batch:
            say("one batch run")
            now = digest(stack)
            stack.run(*BATCH, "batch", "python", "-m", "batch", "run", *(("--full",) if drill.full else ()))
            _changes_nothing(stack, now, "", "the batch run", result)
            drill.ended(scene)


def _in_topic(scene: Scene, shifts: Mapping[int, int]) -> Iterator[Record]:
    """All records since the drill began, by Braid's numbers."""
    first = {partition: position - shifts.get(partition, 0) for partition, position in scene.before.items()}
    messages = each_record_of(scene.stack.settings, first)
    records = ((m.partition(), m.offset(), m.timestamp()[1], m.value()) for m in messages)
    return numbered(records, shifts)  # type: ignore[arg-type]


def _truths(scene: Scene, shifts: Mapping[int, int], result: Result) -> tuple[Truth, Truth]:
    """Of all records that counted at some time, and of those that count in the end; what was acknowledged must be there."""
    kafka = scene.stack.settings
    if scene.plan is None and scene.gap is None:
        all_records = _in_topic(scene, shifts)
        if scene.taken_back:
            kept_records = list(all_records)
            all_records = iter(kept_records)
        if scene.file:
            all_records = scene.file.noted(all_records)
        truth = Truth(all_records)
        result.events = truth.outcome.received
        in_topic = result.events - (scene.file.records if scene.file else 0)
        if in_topic != scene.acknowledged:
            result.complaints.append(f"{scene.acknowledged} records were acknowledged, the topic has {in_topic}")
        if scene.file:
            result.complaints += scene.file.complaints()
        if scene.taken_back:
            named = scene.taken_back.encode()
            return truth, Truth(record for record in kept_records if named not in (record[3] or b""))
        return truth, truth
    assert isinstance(scene.traffic, RecordedTraffic)
    loss: Loss | LostFile
    if scene.gap:
        loss = LostFile(scene.gap, scene.traffic.logs[0], shifts)
    else:
        assert scene.plan
        old, new = scene.traffic.logs
        loss = Loss(scene.plan, (old, new), scene.archived, shifts)
        result.complaints += loss.complaints()
        # What came after the loss: none of it may be missing.
        found = {(m.partition(), m.offset()) for m in each_record_of(kafka, loss.first_offsets())}
        if found != {record[:2] for record in new}:
            result.complaints.append(f"{len(new)} records were acknowledged after the loss, the topic has {len(found)}")
    truth, kept = Truth(loss.counted()), Truth(loss.kept())
    result.events = scene.acknowledged
    announced = dict(scene.stack.ask("SELECT partition, lost FROM ledger"))
    scene.say(f"{len(loss.lost())} acknowledged records are lost, and announced: {announced}")
    return truth, kept


def wait_for_rest(stack: Stack) -> None:
    """Until speed layer and archive are at the end of the topic, and the ledger's difference is 0."""
    ends = shifted(next_offsets_of(stack.settings), stack.shifts())

    def at_rest() -> None:
        try:
            archived = Archive(stack.settings).next_offsets()
            ledger = stack.ask("SELECT partition, next_offset, difference, in_flight FROM ledger")
        except (BraidError, RequestException) as error:
            raise AssertionError(str(error)) from error
        assert {partition: offset for partition, offset, *_ in ledger} == ends, f"counted {ledger}, Kafka ends at {ends}"
        assert {p: archived.get(p, 0) for p in ends} == ends, f"archived {archived}, Kafka ends at {ends}"
        assert all(difference == in_flight == 0 for *_, difference, in_flight in ledger), ledger

    eventually(at_rest, _GIVE_UP_S)


def digest(stack: Stack, but_site: str = "") -> list[tuple[object, ...]]:
    """Number and hash of the rows of each merged view in every column, those of one site left out."""
    # Which part a row comes from changes with every batch run; what it holds must not.
    return [
        row
        for view in with_rollups(VIEWS)
        for row in stack.ask(
            f"SELECT '{view.name}', count(*), "
            f"sum(hashtextextended(ROW({', '.join(view.schema.names())})::text, 0)::numeric) "
            f"FROM {stored_rows(view)} WHERE site <> '{but_site}'"
        )
    ]


def rows_that_differ(stack: Stack, truth: Truth, site: str) -> int:
    """How many rows of the site are not exactly the oracle's, in any view and any column."""
    differing = 0
    for view in with_rollups(VIEWS):
        merged = {row[: len(view.group)]: row for row in stack.merged(view, f"WHERE site = '{site}'")}
        expected = {row[: len(view.group)]: row for row in expected_rows(truth.outcome, view.name)}
        differing += sum(merged.get(key) != expected.get(key) for key in merged.keys() | expected.keys())
    return differing


def _recover(drill: Drill, scene: Scene, result: Result) -> None:
    archive = Archive(scene.stack.settings)
    assert scene.over_s is not None

    def views_are_fresh() -> None:
        assert _is_past(scene.reader.polls[-1], scene), f"counted {scene.reader.positions}, of {scene.marks} at least"

    def all_is_whole() -> None:
        try:
            archived = archive.next_offsets()
            drill.healed(scene)
        except (BraidError, RequestException) as error:
            raise AssertionError(str(error)) from error
        is_whole = all(archived.get(p, 0) >= end for p, end in scene.marks.items())
        assert is_whole, f"archived {archived}, of {scene.marks} at least"

    eventually(views_are_fresh, _GIVE_UP_S)
    result.views_s = next(p.at_s for p in scene.reader.polls if p.at_s > scene.over_s and _is_past(p, scene)) - scene.over_s
    eventually(all_is_whole, _GIVE_UP_S)
    result.archive_s = time.monotonic() - scene.over_s
    for what, took_s in (("the views", result.views_s), ("the archive", result.archive_s)):
        if took_s > RECOVERY_LIMIT_S:
            result.too_slow.append(f"{what} took {took_s:.1f} s to recover, the limit is {RECOVERY_LIMIT_S} s")


def _is_past(seen: Poll, scene: Scene) -> bool:
    """Whether everything up to the end of the fault is counted, and something that came after it."""
    ahead = {partition: seen.positions.get(partition, 0) - mark for partition, mark in scene.marks.items()}
    return min(ahead.values()) >= 0 and sum(ahead.values()) > 0


def _changes_nothing(stack: Stack, before: list[tuple[object, ...]], but_site: str, what: str, result: Result) -> None:
    after = digest(stack, but_site)
    if after != before:
        result.complaints.append(f"{what} changed rows of other sites or of earlier events: {before} became {after}")


def _batch_covers(stack: Stack, ends: Mapping[int, int], received: int, result: Result) -> None:
    ledger = stack.ask("SELECT partition, batch_next_offset, difference, in_flight FROM ledger ORDER BY partition")
    expected = [(partition, end, 0, 0) for partition, end in sorted(ends.items())]
    if ledger != expected:
        result.complaints.append(f"after the batch run the ledger is {ledger} instead of {expected}")
    ((accounted,),) = stack.ask("SELECT sum(received - forgotten)::bigint FROM ledger")
    if accounted != received:
        result.complaints.append(f"after the batch run the ledger has {accounted} records instead of {received}")


def judge_reader(
    reader: Reader, truth: Truth, before: Poll, announced: Announced, during: Callable[[float], str], result: Result
) -> None:
    """Adds to the result what one of its readers saw; each complaint says what was going on at its first wrong answer."""
    judgement = judge(reader.polls, truth, before, announced)
    result.polls += len(reader.polls)
    result.failed_polls += reader.failed
    result.largest_error = max(judgement.largest_error, result.largest_error or 0)
    result.complaints += [
        f"{during(judgement.first_s[kind])}{complaint}" for kind, complaint in judgement.complaints.items()
    ]
    # Polls are timed by another clock than records.
    began_s = time.time() - time.monotonic()
    lags_s = [truth.lag_s(poll.positions, 1_000 * (began_s + poll.at_s)) for poll in reader.polls]
    result.largest_lag_s = max([*lags_s, result.largest_lag_s or 0])
