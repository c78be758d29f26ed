"""The drills, one entry each. A fault is one function: it begins the fault and returns when the fault is over."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from confluent_kafka import Producer

from batch.__main__ import GOES_ON
from contract.event import MAX_VALUE_BYTES
from ingest.topics import add_partitions
from tests.drill import edges, takeback
from tests.drill.faults import BatchRun
from tests.drill.scene import Ground, Scene
from tests.drill.traffic import Load
from tests.fixtures.corpus import MALFORMED
from tests.fixtures.kafka import next_offsets_of

BOLT, WORKER = "speed.sketch_bolt", "org.apache.storm.daemon.worker.Worker"
OUTAGE_S, STOPPED_S, PARTITION_S, FULL_S = 30, 90, 30, 30
# Nimbus gives a supervisor up after nimbus.supervisor.timeout.secs, 120, and looks every 10 s.
GIVEN_UP_S = 150
FLOOD, FLOOD_DAYS = 100_000, 30
HISTORY, HISTORY_DAYS = 20_000, 10
_TIMES = 5
HUGE, REJECTED, REJECTED_BYTES = 12_000, 200_000, 5_000
ADDED, MORE, MORE_DAYS = 2, 20_000, 5
BOUNDED = ("kafka", "archiver", "supervisor", "timescaledb", "datanode-1", "spark-worker")


@dataclass(frozen=True)
class Drill:
    """`healed`, if there is one, raises AssertionError until what readers do not see is whole again too. `ended` looks once
    more at all of it after the batch run in the end. A `seed` is named by each complaint.

    Fast ones take some 20 s without their batch run, and need no disk of known size: `make test-all` runs them. One that
    `loses` records of Kafka for good has traffic of which it is known where each record was; Kafka's offsets and Braid's
    differ afterwards. With `full`, the batch run in the end reads all that is on HDFS.
    """

    name: str
    fault: str
    inject: Callable[[Scene], None]
    healed: Callable[[Scene], None] = lambda scene: None
    fast: bool = False
    load: Load = field(default_factory=Load)
    loses: bool = False
    full: bool = False
    seed: int | None = None
    ended: Callable[[Scene], None] = lambda scene: None


def kill_broker(ground: Ground) -> None:
    ground.faults.kill("kafka", "java")


def kill_bolt(ground: Ground) -> None:
    ground.faults.kill("supervisor", "--oldest", "--full", BOLT)


def kill_worker(ground: Ground) -> None:
    ground.faults.kill("supervisor", "--full", WORKER)


def kill_supervisor(ground: Ground) -> None:
    ground.faults.kill("supervisor", "--full", "org.apache.storm.daemon.supervisor.Supervisor")


def keep_supervisor_down(scene: Scene) -> None:
    """It remembers a worker when it comes back, which Nimbus wants no more until it has seen the supervisor."""
    scene.faults.kill_and_keep_down("supervisor")
    scene.hold(GIVEN_UP_S)
    scene.faults.start("supervisor")


def one_worker_lives(scene: Scene) -> None:
    workers = scene.faults.inside("supervisor", "pgrep", "--list-full", "--full", WORKER)
    ids = set(re.findall(r"-Dworker\.id=(\S+)", workers))
    assert len(ids) == 1, f"{len(ids)} workers live: {', '.join(sorted(ids))}"


def kill_nimbus_and_zookeeper(ground: Ground) -> None:
    ground.faults.kill_and_keep_down("nimbus", "zookeeper")
    ground.hold(OUTAGE_S)
    ground.faults.start("zookeeper", "nimbus")


def nimbus_leads(scene: Scene) -> None:
    for role, service in (("nimbus", "nimbus"), ("supervisor", "supervisor")):
        # Exits with 1 until Nimbus leads and knows the supervisor.
        scene.faults.inside(service, "probe", role)


def kill_archiver(ground: Ground) -> None:
    ground.say(ground.faults.script("archiver", "kill_mid_file.py").strip())


def lose_datanode(scene: Scene) -> None:
    """Its disk is gone with it; the container that comes back is a new, empty DataNode."""
    scene.faults.signal("datanode-2", "STOP", "java")
    scene.faults.inside("datanode-2", "rm", "-rf", "/var/lib/braid/datanode")
    scene.faults.kill("datanode-2", "java")


def replicated(scene: Scene) -> None:
    state = scene.faults.hdfs("FSNamesystemState")
    blocks = scene.faults.hdfs("FSNamesystem")
    assert state["NumLiveDataNodes"] == 2, f"{state['NumLiveDataNodes']} DataNodes are alive"
    assert blocks["MissingBlocks"] == 0, f"{blocks['MissingBlocks']} blocks are lost"
    wanting = blocks["UnderReplicatedBlocks"] + blocks["PendingReplicationBlocks"]
    assert wanting == 0, f"{wanting} of {blocks['BlocksTotal']} blocks have one replica only"


def kill_namenode(ground: Ground) -> None:
    ground.faults.kill("namenode", "java")


def kill_database(ground: Ground) -> None:
    ground.faults.kill("timescaledb", "postgres")


def kill_spark_worker(scene: Scene) -> None:
    """Some views and days of the run are written, others are being written, when worker, executor and tasks die."""
    last = scene.last_run()
    batch = BatchRun(scene.faults)
    run_id = scene.next_run(last, batch)
    claim = f"day={datetime.now(UTC).date()} page_traffic/0"
    with scene.faults.held("INSERT INTO serving.run_task VALUES (%s, %s)", run_id, claim):
        scene.until(lambda: scene.waiting("serving.write_task") > 0 and scene.tasks_of(run_id) > 0, batch)
        scene.faults.kill("spark-worker", "java")
        scene.fault_is_over()
    scene.later.append(lambda: scene.expect_published(batch, run_id))


def master_is_back(scene: Scene) -> bool:
    """Whether Spark's master leads and has heard of a worker."""
    page = scene.faults.inside("spark-master", "curl", "-fsS", "http://spark-master:8080/json/", check=False)
    answer = json.loads(page) if page else {}
    return answer.get("status") == "ALIVE" and bool(answer.get("aliveworkers"))


def kill_spark_master(scene: Scene) -> None:
    """A run writes rows when the master dies; the one that comes back knows it, or its executors would be taken from it."""
    last = scene.last_run()
    batch = BatchRun(scene.faults)
    run_id = scene.next_run(last, batch)
    claim = f"day={datetime.now(UTC).date()} page_traffic/0"
    with scene.faults.held("INSERT INTO serving.run_task VALUES (%s, %s)", run_id, claim):
        scene.until(lambda: scene.waiting("serving.write_task") > 0, batch)
        scene.faults.kill("spark-master", "java")
        scene.until(lambda: master_is_back(scene), batch)
        scene.fault_is_over()
        # A master that did not know the run would have its worker end the executor meanwhile.
        scene.hold(OUTAGE_S)
    scene.later.append(lambda: scene.expect_published(batch, run_id))


def kill_spark_driver(scene: Scene) -> None:
    """All days are written and the publication is asked for when the driver dies."""
    last = scene.last_run()
    batch = BatchRun(scene.faults)
    run_id = scene.next_run(last, batch)
    with scene.faults.held("LOCK TABLE serving.publication IN ROW EXCLUSIVE MODE"):
        scene.until(lambda: scene.waiting("serving.publish") > 0, batch)
        batch.kill()
        scene.fault_is_over()
    scene.until(lambda: scene.waiting("serving.publish") == 0)
    assert scene.state_of(run_id) != "published", f"run {run_id} was published by a driver that was dead"


def stop_bolt(scene: Scene) -> None:
    """It stands still with its commit all but done, locks held. Storm gives it up and starts another; then it wakes."""
    before = scene.faults.processes("supervisor", BOLT)
    with scene.faults.held("SELECT FROM serving.speed_progress ORDER BY partition FOR UPDATE"):
        scene.until(lambda: scene.waiting("serving.commit_range") == scene.stack.settings.bolts)
        scene.faults.signal("supervisor", "STOP", "--oldest", "--full", BOLT)
    scene.hold(STOPPED_S)
    successors = scene.faults.processes("supervisor", BOLT) - before
    is_replaced = scene.is_fresh()
    scene.faults.inside("supervisor", "pkill", "-CONT", "--full", BOLT, check=False)
    assert successors, f"no other bolt was started within {STOPPED_S} s"
    assert is_replaced, "the other bolt did not count on: the one that was stopped still held it up"


def cut_bolt_from_database(ground: Ground) -> None:
    with ground.faults.partition("supervisor", "timescaledb"):
        ground.hold(PARTITION_S)


def cut_archiver_from_hdfs(ground: Ground) -> None:
    with ground.faults.partition("archiver", "namenode", "datanode-1", "datanode-2"):
        ground.hold(PARTITION_S)


def run_two_batches(scene: Scene) -> None:
    """The second one is told which run goes on, and begins nothing."""
    last = scene.last_run()
    batch = BatchRun(scene.faults)
    run_id = scene.next_run(last, batch)
    claim = f"day={datetime.now(UTC).date()} page_traffic/0"
    with scene.faults.held("INSERT INTO serving.run_task VALUES (%s, %s)", run_id, claim):
        status, said = BatchRun(scene.faults).finish()
    assert status == GOES_ON, said
    assert re.search(rf"run {run_id} \(\w+\) goes on since .* UTC, for .*Nothing was begun", said), said
    assert scene.last_run() == run_id
    scene.later.append(lambda: scene.expect_published(batch, run_id))


def flood_with_late_events(scene: Scene) -> None:
    start = datetime.now(UTC) - timedelta(days=FLOOD_DAYS)
    flood = scene.stretch(start, timedelta(hours=24), FLOOD)
    last = scene.last_run()
    batch = BatchRun(scene.faults)
    run_id = scene.next_run(last, batch)
    scene.produce(flood)
    assert not batch.has_ended, "the run was over before the flood was"
    scene.later.append(lambda: scene.expect_published(batch, run_id))


def send_history_thrice(scene: Scene) -> None:
    start = datetime.now(UTC) - timedelta(days=HISTORY_DAYS)
    history = scene.stretch(start, timedelta(hours=1), HISTORY)
    for _ in range(3):
        scene.produce(history)


def send_malformed(scene: Scene) -> None:
    """The simulator's mistakes are in the traffic; beside it, whole classes of records that no producer of ours sends."""
    _send(scene, _TIMES * [value for values in MALFORMED.values() for value in values])


def send_huge_records(scene: Scene) -> None:
    """Events of up to 64 KiB, whose further fields are ignored, and between them what is none, of 1 byte to 64 KiB."""
    scene.started = scene.faults.started(*BOUNDED)
    start = datetime.now(UTC) - timedelta(days=1)
    chance = random.Random(1)

    def padded(event: bytes) -> bytes:
        room = MAX_VALUE_BYTES - len(event) - len(b',"more":""')
        return (
            event[:-1]
            + b',"more":"'
            + chance.choice([b"x", b"\xc3\xbc", b"\xf0\x9f\x98\x80"]) * chance.randrange(room // 4)
            + b'"}'
        )

    values = [padded(event) for event in scene.stretch(start, timedelta(hours=1), HUGE)]
    _send(
        scene,
        [one for value in values for one in (value, b"x" * chance.choice([1, 100, chance.randrange(1, MAX_VALUE_BYTES)]))],
    )


def send_rejects_only(scene: Scene) -> None:
    """Half as many in one commit took PostgreSQL 3 GB."""
    scene.started = scene.faults.started(*BOUNDED)
    _send(scene, (b"%d" % number + b"\xff" * REJECTED_BYTES for number in range(REJECTED)))


def none_ran_out_of_memory(scene: Scene) -> None:
    """The kernel has ended no process because its container was at its limit, nor a container for it."""
    assert scene.faults.started(*BOUNDED) == scene.started, f"started anew: {scene.started} were the starts before"
    for service in BOUNDED:
        # The first is there with cgroups of version 2, the second with version 1.
        files = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
        said = scene.faults.inside(service, "cat", *files, check=False)
        ended = [int(count) for count in re.findall(r"^oom_kill (\d+)$", said, re.MULTILINE)]
        assert ended, f"{service} does not tell how many processes were ended"
        assert ended == [0], f"{ended[0]} processes of {service} were ended for want of memory"


def _send(scene: Scene, values: Iterable[bytes]) -> None:
    """Records as they are, all of them acknowledged when this returns."""
    options = {"acks": "all", "compression.type": "lz4", "linger.ms": 20, "message.max.bytes": 2 * MAX_VALUE_BYTES}
    # By itself the client would hold a gigabyte.
    options["queue.buffering.max.kbytes"] = 65_536
    producer = Producer({"bootstrap.servers": scene.stack.settings.kafka_bootstrap, **options})
    sent = 0
    for sent, value in enumerate(values, 1):
        while True:
            try:
                producer.produce(scene.stack.settings.topic, value, f"{sent}")
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    scene.acknowledged += sent


def add_partitions_under_traffic(scene: Scene) -> None:
    """A producer that starts now spreads its visitors over all of them; one that runs hears of them within five minutes.

    That is longer than a drill lasts, so each repeat is in its first copy's partition, as the truth has it.
    """
    settings = scene.stack.settings
    before = next_offsets_of(settings)
    add_partitions(settings, len(before) + ADDED)
    scene.produce(scene.stretch(datetime.now(UTC) - timedelta(days=MORE_DAYS), timedelta(hours=1), MORE))
    empty = [partition for partition, end in next_offsets_of(settings).items() if partition not in before and not end]
    assert not empty, f"no event went to the partitions {empty} that were added"
    scene.later.append(lambda: _none_is_unread(scene))


def _none_is_unread(scene: Scene) -> None:
    unread = json.loads(scene.stack.tools("-m", "serving", "status", "--format", "json"))["unread"]
    assert not unread, "; ".join(unread)


def fill_datanodes(scene: Scene) -> None:
    with scene.faults.full("datanode-1", "datanode-2"):
        scene.hold(FULL_S)


def fill_database(scene: Scene) -> None:
    with scene.faults.full("timescaledb"):
        scene.hold(FULL_S)
        assert not scene.is_fresh(), "the database went on counting without disk"


DRILLS = (
    Drill("kill-broker", "kill -9 of the broker", kill_broker, fast=True),
    Drill("kill-bolt", "kill -9 of a sketch bolt's Python process", kill_bolt),
    Drill("kill-worker", "kill -9 of the Storm worker's JVM", kill_worker, fast=True),
    Drill("kill-supervisor", "kill -9 of the Storm supervisor", kill_supervisor, fast=True),
    Drill(
        "lose-supervisor",
        f"kill -9 of the Storm supervisor, down {GIVEN_UP_S} s",
        keep_supervisor_down,
        one_worker_lives,
    ),
    Drill(
        "kill-nimbus-zookeeper",
        f"kill -9 of Nimbus and ZooKeeper, both down {OUTAGE_S} s",
        kill_nimbus_and_zookeeper,
        nimbus_leads,
    ),
    Drill("kill-archiver", "kill -9 of the archiver in mid-file", kill_archiver, fast=True),
    Drill("lose-datanode", "kill -9 of a DataNode, its disk lost", lose_datanode, replicated),
    Drill("kill-namenode", "kill -9 of the NameNode", kill_namenode, replicated, fast=True),
    Drill("kill-database", "kill -9 of PostgreSQL", kill_database, fast=True),
    Drill("kill-spark-worker", "kill -9 of the Spark worker while it writes rows", kill_spark_worker),
    Drill("kill-spark-master", "kill -9 of the Spark master while a run writes rows", kill_spark_master),
    Drill("kill-spark-driver", "kill -9 of the Spark driver before it publishes", kill_spark_driver),
    Drill("stop-bolt", f"SIGSTOP of a bolt in mid-commit for {STOPPED_S} s, then SIGCONT", stop_bolt),
    Drill("cut-bolt-database", f"no network from the bolts to the database for {PARTITION_S} s", cut_bolt_from_database),
    Drill("cut-archiver-hdfs", f"no network from the archiver to HDFS for {PARTITION_S} s", cut_archiver_from_hdfs),
    Drill("two-batches", "two batch runs at once", run_two_batches),
    Drill("late-flood", f"{FLOOD:,} events {FLOOD_DAYS} days late during a batch run", flood_with_late_events),
    Drill("history-thrice", "the same hour of history sent three times", send_history_thrice),
    Drill("malformed", "20 % malformed records of every class", send_malformed, fast=True, load=Load(malformed=0.2)),
    Drill("huge-records", f"{2 * HUGE:,} records of 1 B to 64 KiB", send_huge_records, none_ran_out_of_memory),
    Drill(
        "all-rejected",
        f"{REJECTED:,} malformed records of {REJECTED_BYTES:,} bytes",
        send_rejects_only,
        none_ran_out_of_memory,
    ),
    Drill(
        "more-partitions",
        f"{ADDED} partitions more, and {MORE:,} events that go to all",
        add_partitions_under_traffic,
        fast=True,
    ),
    Drill("full-datanodes", f"both DataNodes' disks full for {FULL_S} s", fill_datanodes, replicated),
    Drill("full-database", f"the database's disk full for {FULL_S} s", fill_database),
    Drill("open-transaction", "somebody's transaction open, then aborted", edges.leave_transaction_open),
    Drill("clock-steps", "clocks set one hour on and back, twice", edges.step_clocks),
    Drill("forget-site", "a site forgotten, and sent once more", takeback.forget_a_site),
    Drill("volume-lost-zookeeper", "ZooKeeper's volume lost", edges.lose_zookeeper, nimbus_leads),
    Drill("volume-lost-datanode", "a DataNode's volume lost", edges.lose_datanode_volume, replicated, full=True),
    Drill("volume-lost-namenode", "the NameNode's volume lost", edges.lose_namenode, replicated, full=True),
    Drill("volume-lost-timescaledb", "the database's volume lost", edges.lose_database, full=True),
    # These take records from Kafka, so what needs all of them is before.
    Drill(
        "power-loss", "broker and archiver killed, the end of Kafka's log cut off", edges.lose_power, fast=True, loses=True
    ),
    Drill("topic-replaced", "the topic deleted and made again", edges.replace_topic, loses=True),
    Drill("volume-lost-kafka", "Kafka's volume lost", edges.lose_kafka, loses=True),
    Drill("lost-archive-file", "a file of the archive lost after retention", edges.lose_archive_file, loses=True),
)

ANYTIME: Mapping[str, Callable[[Ground], None]] = {
    "kill-broker": kill_broker,
    "kill-bolt": kill_bolt,
    "kill-worker": kill_worker,
    "kill-supervisor": kill_supervisor,
    "kill-nimbus-zookeeper": kill_nimbus_and_zookeeper,
    "kill-archiver": kill_archiver,
    "kill-namenode": kill_namenode,
    "kill-database": kill_database,
    "cut-bolt-database": cut_bolt_from_database,
    "cut-archiver-hdfs": cut_archiver_from_hdfs,
}
"""Faults of drills that need nothing but the stack: whatever traffic there is, and whoever looks."""
