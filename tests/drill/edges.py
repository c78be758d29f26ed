"""Faults at the edges of the pipeline: Kafka's log, a volume, a transaction of somebody else's, the clock."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

import msgspec
from confluent_kafka import KafkaException, Producer

from contract.master import MASTER, OffsetRange, gaps
from contract.resumption import ResumedPartition, Resumption
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.topics import add_partitions
from serving.log_ends import log_ends
from tests.drill.loss import Loss
from tests.drill.scene import Scene
from tests.drill.traffic import RecordedTraffic
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import expire, make_again, next_offsets_of
from tests.fixtures.stack import status_of

_ENOUGH, _AFTER_LOSS = 300, 6_000
_SEEN_WITHIN_S = 120
_TRANSACTION_S, _GIVES_UP_S = 300, 15
HOUR_S, STEP_S = 3_600, 20
NOTHING: Mapping[int, int] = {}


def lose_power(scene: Scene) -> None:
    """The machine of broker and archiver loses power: what the archiver held is gone, and what of Kafka's log was in memory.

    Of each partition the speed layer has read all, and HDFS has a part. Of every second one Kafka loses a part of that too,
    and of the others a part of what the speed layer alone has.
    """
    traffic = _recorded(scene)
    archived = _kill_archiver_with_files(scene)
    scene.until(lambda: _is_ahead(scene.reader.positions, archived))
    # Nobody could know what became of a record that is under way; all of them are acknowledged, and counted.
    traffic.pause()
    scene.until(scene.is_counted)
    scene.faults.kill_and_keep_down("kafka")
    counted = scene.reader.positions
    other = {p: counted[p] if p % 2 else scene.before.get(p, 0) for p in archived}
    cuts = {p: (end + other[p]) // 2 - scene.shifts.get(p, 0) for p, end in archived.items()}
    topic = scene.stack.settings.topic
    cut = json.loads(scene.faults.beside("kafka", "cut_log.py", "/var/lib/braid/kafka", topic, json.dumps(cuts)))
    scene.faults.start("kafka", "archiver")
    ends = {int(partition): offset for partition, offset in cut.items()}
    _until_kafka_ends_at(scene, ends)
    _go_on_in_another_log(scene, traffic, archived, {p: end + scene.shifts.get(p, 0) for p, end in ends.items()})


def replace_topic(scene: Scene) -> None:
    """The archiver lives on, and what it held and had not written is lost."""
    traffic = _recorded(scene)
    traffic.pause()
    scene.until(scene.is_counted)
    # As many partitions as it had, whatever a new one gets.
    make_again(replace(scene.stack.settings, topic_partitions=len(scene.before)))
    _go_on_in_another_log(scene, traffic)


def lose_kafka(scene: Scene) -> None:
    """docs/operations.md, 'a volume is lost'."""
    traffic = _recorded(scene)
    traffic.pause()
    scene.until(scene.is_counted)
    scene.faults.lose_volume("kafka")
    _up(scene)
    add_partitions(scene.stack.settings, len(scene.before))
    _until_kafka_ends_at(scene, dict.fromkeys(scene.before, 0))
    _go_on_in_another_log(scene, traffic)


def lose_archive_file(scene: Scene) -> None:
    """Kafka has expired what was in it: docs/operations.md, 'a file of the archive is damaged or gone', without backup."""
    _recorded(scene)
    settings = scene.stack.settings
    scene.until(lambda: bool(_files_of_their_own(scene)))
    archived = _kill_archiver_with_files(scene)
    scene.until(lambda: _is_ahead(scene.reader.positions, archived))
    expire(settings, {partition: end - scene.shifts.get(partition, 0) for partition, end in archived.items()})
    own = _files_of_their_own(scene)
    assert own, "the archiver has merged the files that this drill could lose"
    file, scene.gap = own.popitem()
    Hdfs(settings.webhdfs_url).delete(file.path(settings.archive_root, MASTER))
    scene.faults.start("archiver")
    eventually(lambda: _gap_is_named(scene, archived), _SEEN_WITHIN_S)
    refused = scene.stack.run("make", "--silent", "batch", check=False)
    assert refused.returncode != 0, "a run was published over a gap"
    assert "make accept-gap" in refused.stderr, refused.stderr
    scene.stack.run("env", "YES=1", "make", "--silent", "accept-gap")
    lost = scene.stack.ask("SELECT partition, first_offset, next_offset FROM lost_offsets WHERE run_id IS NOT NULL")
    assert astuple(scene.gap) in lost, f"the ledger names {lost}, and {scene.gap} was lost"


def lose_datanode_volume(scene: Scene) -> None:
    """docs/operations.md, 'a volume is lost'."""
    scene.faults.lose_volume("datanode-2")
    _up(scene)


def lose_namenode(scene: Scene) -> None:
    """docs/operations.md, 'a volume is lost': without the NameNode nobody knows what the DataNodes' blocks are."""
    _require_whole_log(scene)
    scene.stack.compose("rm", "--stop", "--force", "archiver")
    scene.faults.lose_volume("namenode", "datanode-1", "datanode-2")
    _up(scene)


def lose_database(scene: Scene) -> None:
    """docs/operations.md, 'the database is lost'."""
    _require_whole_log(scene)
    scene.faults.lose_volume("timescaledb")
    scene.anew_s = time.monotonic()
    _up(scene)
    scene.stack.run("env", "BRAID_RESCUE_OFFSETS=1", "make", "--silent", "batch")


def lose_zookeeper(scene: Scene) -> None:
    """docs/operations.md, 'a volume is lost'."""
    scene.faults.lose_volume("zookeeper")
    scene.stack.compose("rm", "--stop", "--force", "nimbus", "supervisor")
    _up(scene)


def leave_transaction_open(scene: Scene) -> None:
    """In each partition, with events in it that must never count, because the transaction is aborted in the end."""
    settings, name = scene.stack.settings, f"drill-{scene.site}"
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "transactional.id": name,
            "transaction.timeout.ms": _TRANSACTION_S * 1_000,
            "log_level": 2,
        }
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    start = datetime.now(UTC) - timedelta(hours=1)
    partitions = list(log_ends(settings))
    for number, value in enumerate(scene.stretch(start, timedelta(minutes=1), 10 * len(partitions))):
        producer.produce(settings.topic, value, partition=partitions[number % len(partitions)])
    assert producer.flush(60) == 0

    def at_the_transaction() -> bool:
        ends = log_ends(settings)
        return all(
            end.held_back > _ENOUGH and scene.reader.positions.get(p) == end.last_stable_offset + scene.shifts.get(p, 0)
            for p, end in ends.items()
        )

    scene.until(at_the_transaction)
    stands_at = dict(scene.reader.positions)
    status = status_of(scene.stack)
    shown = {one["partition"]: one for one in status["open_transactions"]}
    assert shown.keys() == stands_at.keys(), f"status shows open transactions of partitions {sorted(shown)}"
    assert all(one["held_back"] and one["since"] for one in shown.values()), shown
    for at in status["positions"]:
        assert at["last_stable_offset"] == at["speed"] == stands_at[at["partition"]] < at["kafka"], at
    said = scene.stack.run("make", "--silent", "transactions").stdout
    assert name in said, f"make transactions does not name {name}: {said}"
    wanted = json.dumps({partition: end.high_watermark for partition, end in log_ends(settings).items()})
    wait = ("run", "--rm", "-T", "--no-deps", "tools", "-m", "serving", "wait", "--partition-offsets", wanted)
    gave_up = scene.stack.run("compose/engine", "compose", *wait, "--timeout-s", str(_GIVES_UP_S), check=False)
    told = " ".join(gave_up.stderr.split())
    assert gave_up.returncode != 0, "a wait ended, though the transaction holds back what it waits for"
    assert "a transaction of some producer, open since" in told, told
    assert dict(scene.reader.positions) == stands_at, f"{scene.reader.positions} are past the open transaction"
    scene.stack.run("make", "--silent", "transactions", f"END={name}")
    producer.purge()


def step_clocks(scene: Scene) -> None:
    """One hour forward, back, back once more, and forward: spout, bolts and archiver go on at each."""
    with scene.faults.own_clock("archiver", "supervisor") as set_clock:
        scene.until(scene.is_fresh)
        for bolt in scene.faults.processes("supervisor", "speed.sketch_bolt"):
            # Fails if it is not there.
            scene.faults.inside("supervisor", "grep", "clock.so", f"/proc/{bolt}/maps")
        for ahead_s in (HOUR_S, 0, -HOUR_S, 0):
            set_clock(ahead_s)
            seen = scene.faults.inside(
                "archiver", "env", "LD_PRELOAD=/opt/braid/clock.so", "CLOCK_FILE=/tmp/clock", "python", "-c",
                "import time; print(time.time())",
            )  # fmt: skip
            assert abs(float(seen) - time.time() - ahead_s) < HOUR_S / 2, f"the clock shows {seen}, not {ahead_s} s more"
            scene.until(_archives_from(scene, scene.ends()))
            scene.hold(STEP_S)
            assert scene.is_fresh(), f"a clock that was set to {ahead_s} s stopped the speed layer"


def _archives_from(scene: Scene, ends: dict[int, int]) -> Callable[[], bool]:
    # A file that waits for the old time to come again would be due in an hour.
    deadline_s = time.monotonic() + 3 * scene.stack.settings.archive_flush_ms / 1_000 + STEP_S

    def archived() -> bool:
        at = scene.archive_ends()
        assert time.monotonic() < deadline_s, f"the archive stands at {at}, below {ends}, since the clock was set"
        return all(at[partition] >= end for partition, end in ends.items())

    return archived


def _go_on_in_another_log(
    scene: Scene, traffic: RecordedTraffic, archived: Mapping[int, int] = NOTHING, kept: Mapping[int, int] = NOTHING
) -> None:
    """New records come; nothing is taken of them, and it is said why; then docs/operations.md, 'the topic was replaced'.

    `archived` is where the archive ended at the loss, if it cannot have gone on since, and `kept` up to where Kafka still
    has the old log. Where that is above the archive's end, the archiver has lost nothing and may go on.
    """
    stands_at, before = dict(scene.reader.positions), scene.shifts
    traffic.go_on()
    scene.until(lambda: len(traffic.logs[1]) >= _AFTER_LOSS)
    eventually(lambda: _both_are_named(scene), _SEEN_WITHIN_S)
    ends = scene.archive_ends()
    archived = archived or ends
    assert dict(scene.reader.positions) == stands_at, f"from {stands_at} on the speed layer counted in another log"
    alone = {partition: offset for partition, offset in kept.items() if offset > archived[partition]}
    ahead = {p: end for p, end in ends.items() if p not in alone and end > min(archived[p], stands_at[p])}
    assert not ahead, f"the archiver took records of another log: {ahead}, where {stands_at} was read"
    plan = msgspec.json.decode(scene.stack.tools("-m", "serving", "resume-plan"), type=Resumption)
    said = scene.stack.run("make", "--silent", "resume-topic").stderr
    scene.shifts = scene.stack.shifts()
    # HDFS has or gets the rest of what Kafka kept.
    scene.archived = {**archived, **alone}
    in_both = (part for part in plan.partitions if part.partition not in alone)
    scene.plan = Resumption((*in_both, *(_as_resumed(said, p, end, stands_at[p]) for p, end in alone.items())))
    lost = scene.stack.ask("SELECT partition, first_offset, next_offset FROM lost_offsets WHERE run_id IS NOT NULL")
    planned = [
        (part.partition, part.lost_offset, part.lost_next_offset)
        for part in scene.plan.partitions
        if part.lost_offset < part.lost_next_offset
    ]
    assert set(planned) <= set(lost), f"the ledger names {lost}, the plan was {planned}"
    # Sent again by who has them, they count, once.
    loss = Loss(scene.plan, (traffic.logs[0], []), scene.archived, before)
    traffic.send_again(value for *_, value in loss.lost())


def _is_ahead(reader: Mapping[int, int], other: Mapping[int, int]) -> bool:
    return all(reader.get(partition, 0) - offset >= _ENOUGH for partition, offset in other.items())


def _kill_archiver_with_files(scene: Scene) -> dict[int, int]:
    """Where it was, once it had stored some of each partition."""
    scene.until(lambda: _is_ahead(scene.archive_ends(), scene.before))
    scene.faults.kill_and_keep_down("archiver")
    return scene.archive_ends()


def _files_of_their_own(scene: Scene) -> dict[OffsetRange, OffsetRange]:
    """Files of this drill's records alone, each with the offsets that are in no other; one that is merged has none."""
    settings = scene.stack.settings
    archive = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    found = {}
    for partition, first_offset in scene.before.items():
        files = archive.ranges(partition)
        for file in sorted(files):
            missing = gaps(other for other in files if other != file)
            if file.first_offset >= first_offset and missing:
                found[file] = missing[-1]
    return found


def _gap_is_named(scene: Scene, archived: Mapping[int, int]) -> None:
    assert scene.gap
    status = status_of(scene.stack)
    shown = [(gap["partition"], gap["first_offset"], gap["next_offset"], gap["is_lost"]) for gap in status["archive_gaps"]]
    assert shown == [(*astuple(scene.gap), True)], f"status shows {shown}, and {scene.gap} is lost"
    stands = [at["partition"] for at in status["positions"] if at["archive"] <= archived[at["partition"]]]
    assert not stands, f"the archiver does not go on in partitions {stands}"
    audit = scene.stack.run("make", "--silent", "audit", "FORMAT=json", "ONLY=archive", check=False)
    found = [finding["place"] for check in json.loads(audit.stdout)["checks"] for finding in check["findings"]]
    place = f"partition {scene.gap.partition}, offsets [{scene.gap.first_offset}, {scene.gap.next_offset})"
    assert audit.returncode != 0, "the audit finds nothing"
    assert found == [place], f"the audit finds {found}, and {place} is lost"


def _as_resumed(said: str, partition: int, kept: int, counted: int) -> ResumedPartition:
    """What `make resume-topic` must have come to, and from where on it said that numbers are new."""
    found = re.search(rf"^partition {partition}: Kafka's offset (\d+) is (\d+) from now on", said, re.MULTILINE)
    assert found, f"`make resume-topic` says of partition {partition} nothing: {said}"
    return ResumedPartition(partition, kept, int(found[2]), "", None, int(found[1]), kept, counted, "")


def _both_are_named(scene: Scene) -> None:
    shown = " ".join(status_of(scene.stack)["lost_positions"])
    assert "the archiver" in shown, f"status says of the archiver nothing: {shown}"
    assert "the speed layer" in shown, f"status says of the speed layer nothing: {shown}"
    audit = scene.stack.run("make", "--silent", "audit", "FORMAT=json", "ONLY=positions", check=False)
    assert audit.returncode != 0, "the audit finds nothing"
    found = {finding["place"] for check in json.loads(audit.stdout)["checks"] for finding in check["findings"]}
    assert found >= {"the archiver", "the speed layer"}, f"the audit finds {found}"


def _until_kafka_ends_at(scene: Scene, ends: dict[int, int]) -> None:
    def ends_there() -> None:
        try:
            found = next_offsets_of(scene.stack.settings, timeout_s=2)
        except KafkaException as error:
            raise AssertionError(f"Kafka does not answer: {error}") from error
        assert found == ends, f"Kafka's log ends at {found} and not at {ends}"

    eventually(ends_there, _SEEN_WITHIN_S)


def _recorded(scene: Scene) -> RecordedTraffic:
    assert isinstance(scene.traffic, RecordedTraffic), "a drill that loses records must say so"
    return scene.traffic


def _require_whole_log(scene: Scene) -> None:
    ends = log_ends(scene.stack.settings)
    is_whole = not any(scene.shifts.values()) and not any(end.first_offset for end in ends.values())
    assert is_whole, "this way back needs all that Kafka ever had, and an earlier drill took some of it: run it by itself"


def _up(scene: Scene) -> None:
    scene.stack.run("make", "--silent", "up", "TRAFFIC=none")
