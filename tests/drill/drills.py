"""The drills, one entry each. A fault is one function: it begins the fault and returns when the fault is over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice

from confluent_kafka import Producer

from ingest.simulate import Shares, events
from tests.drill.faults import BatchRun
from tests.drill.scene import Scene
from tests.fixtures.corpus import MALFORMED

BOLT, WORKER = "speed.sketch_bolt", "org.apache.storm.daemon.worker.Worker"
OUTAGE_S, STOPPED_S, PARTITION_S, FULL_S = 30, 90, 30, 30
# Nimbus gives a supervisor up after nimbus.supervisor.timeout.secs, 120, and looks every 10 s.
GIVEN_UP_S = 150
FLOOD, FLOOD_DAYS = 100_000, 30
HISTORY, HISTORY_DAYS = 20_000, 10
_TIMES = 5


@dataclass(frozen=True)
class Drill:
    """`healed`, if there is one, raises AssertionError until what readers do not see is whole again too.

    Fast ones take some 20 s without their batch run, and need no disk of known size: `make test` runs them.
    """

    name: str
    fault: str
    inject: Callable[[Scene], None]
    healed: Callable[[Scene], None] = lambda scene: None
    fast: bool = False
    malformed: float = 0.001


def kill_broker(scene: Scene) -> None:
    scene.faults.kill("kafka", "java")


def kill_bolt(scene: Scene) -> None:
    scene.faults.kill("supervisor", "--oldest", "--full", BOLT)


def kill_worker(scene: Scene) -> None:
    scene.faults.kill("supervisor", "--full", WORKER)


def kill_supervisor(scene: Scene) -> None:
    scene.faults.kill("supervisor", "--full", "org.apache.storm.daemon.supervisor.Supervisor")


def keep_supervisor_down(scene: Scene) -> None:
    """It remembers a worker when it comes back, which Nimbus wants no more until it has seen the supervisor."""
    scene.faults.kill_and_keep_down("supervisor")
    scene.hold(GIVEN_UP_S)
    scene.faults.start("supervisor")


def one_worker_lives(scene: Scene) -> None:
    workers = scene.faults.inside("supervisor", "pgrep", "--list-full", "--full", WORKER)
    ids = set(re.findall(r"-Dworker\.id=(\S+)", workers))
    assert len(ids) == 1, f"{len(ids)} workers live: {', '.join(sorted(ids))}"


def kill_nimbus_and_zookeeper(scene: Scene) -> None:
    scene.faults.kill_and_keep_down("nimbus", "zookeeper")
    scene.hold(OUTAGE_S)
    scene.faults.start("zookeeper", "nimbus")


def nimbus_leads(scene: Scene) -> None:
    for role, service in (("nimbus", "nimbus"), ("supervisor", "supervisor")):
        # Exits with 1 until Nimbus leads and knows the supervisor.
        scene.faults.inside(service, "probe", role)


def kill_archiver(scene: Scene) -> None:
    scene.say(scene.faults.script("archiver", "kill_mid_file.py").strip())


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


def kill_namenode(scene: Scene) -> None:
    scene.faults.kill("namenode", "java")


def kill_database(scene: Scene) -> None:
    scene.faults.kill("timescaledb", "postgres")


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


def cut_bolt_from_database(scene: Scene) -> None:
    with scene.faults.partition("supervisor", "timescaledb"):
        scene.hold(PARTITION_S)


def cut_archiver_from_hdfs(scene: Scene) -> None:
    with scene.faults.partition("archiver", "namenode", "datanode-1", "datanode-2"):
        scene.hold(PARTITION_S)


def run_two_batches(scene: Scene) -> None:
    last = scene.last_run()
    batches = [BatchRun(scene.faults) for _ in range(2)]
    scene.until(lambda: scene.last_run() == last + 2)
    scene.later.append(lambda: _one_is_published(batches))


def _one_is_published(batches: list[BatchRun]) -> None:
    ended = [batch.finish() for batch in batches]
    assert any(status == 0 for status, _ in ended), f"neither run was published: {ended}"
    for status, said in ended:
        refused = status == 1 and re.search(r"planned on generation \d+, but generation \d+ .*nothing was changed", said)
        assert status == 0 or refused, said
        assert "Traceback" not in said


def flood_with_late_events(scene: Scene) -> None:
    start = datetime.now(UTC) - timedelta(days=FLOOD_DAYS)
    flood = _stretch(scene, start, timedelta(hours=24), FLOOD)
    last = scene.last_run()
    batch = BatchRun(scene.faults)
    run_id = scene.next_run(last, batch)
    scene.produce(flood)
    assert not batch.has_ended, "the run was over before the flood was"
    scene.later.append(lambda: scene.expect_published(batch, run_id))


def send_history_thrice(scene: Scene) -> None:
    start = datetime.now(UTC) - timedelta(days=HISTORY_DAYS)
    history = _stretch(scene, start, timedelta(hours=1), HISTORY)
    for _ in range(3):
        scene.produce(history)


def send_malformed(scene: Scene) -> None:
    """The simulator's mistakes are in the traffic; beside it, whole classes of records that no producer of ours sends."""
    producer = Producer({"bootstrap.servers": scene.stack.settings.kafka_bootstrap, "acks": "all"})
    values = [value for values in MALFORMED.values() for value in values]
    for number, value in enumerate(_TIMES * values):
        producer.produce(scene.stack.settings.topic, value, f"{number}")
    assert producer.flush(60) == 0
    scene.acknowledged += _TIMES * len(values)


def fill_datanodes(scene: Scene) -> None:
    with scene.faults.full("datanode-1", "datanode-2"):
        scene.hold(FULL_S)


def fill_database(scene: Scene) -> None:
    with scene.faults.full("timescaledb"):
        scene.hold(FULL_S)
        assert not scene.is_fresh(), "the database went on counting without disk"


def _stretch(scene: Scene, start: datetime, length: timedelta, number: int) -> list[bytes]:
    """Valid events of the drill's site, spread over a time, none twice."""
    ticks = count()
    stream = events(1, lambda: start + length * next(ticks) / number, "history", [scene.site], Shares(0, 0, 0))
    return [value for _, value in islice(stream, number)]


DRILLS = (
    Drill("kill-broker", "kill -9 of the broker", kill_broker, fast=True),
    Drill("kill-bolt", "kill -9 of a sketch bolt's Python process", kill_bolt, fast=True),
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
    Drill("kill-spark-driver", "kill -9 of the Spark driver before it publishes", kill_spark_driver),
    Drill("stop-bolt", f"SIGSTOP of a bolt in mid-commit for {STOPPED_S} s, then SIGCONT", stop_bolt),
    Drill("cut-bolt-database", f"no network from the bolts to the database for {PARTITION_S} s", cut_bolt_from_database),
    Drill("cut-archiver-hdfs", f"no network from the archiver to HDFS for {PARTITION_S} s", cut_archiver_from_hdfs),
    Drill("two-batches", "two batch runs at once", run_two_batches),
    Drill("late-flood", f"{FLOOD:,} events {FLOOD_DAYS} days late during a batch run", flood_with_late_events),
    Drill("history-thrice", "the same hour of history sent three times", send_history_thrice, fast=True),
    Drill("malformed", "20 % malformed records of every class", send_malformed, fast=True, malformed=0.2),
    Drill("full-datanodes", f"both DataNodes' disks full for {FULL_S} s", fill_datanodes, replicated),
    Drill("full-database", f"the database's disk full for {FULL_S} s", fill_database),
)
