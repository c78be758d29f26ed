"""Spout and bolts are processes: what each counts is added up, survives it, and one of them answers for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from speed.metrics import problem
from tests.fixtures.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
# A task of the topology that says its numbers and lives until its stdin ends.
TASK = """
import sys
from speed.metrics import of_task
task, port, counted = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
metrics = of_task({"taskid": task, "componentid": "sketch_bolt"}, port)
metrics.plans()
metrics.committed(0, {"counted": counted, "duplicate": 1}, None, 0.5)
metrics.counted(0)
print("said", flush=True)
sys.stdin.read()
"""


class Tasks:
    """Processes of one container."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.running: list[subprocess.Popen[str]] = []

    def start(self, task: int, counted: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TASK, str(task), str(self.port), str(counted)],
            cwd=ROOT,
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "said\n"
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()
        self.running.remove(process)

    def samples(self) -> dict[str, float]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
                text = answer.read().decode()
        except OSError as error:
            raise AssertionError(error) from error
        families = text_string_to_metric_families(text)
        return {f"{s.name} {json.dumps(sorted(s.labels.values()))}": s.value for family in families for s in family.samples}


@pytest.fixture
def tasks(tmp_path: Path, unused_port: int):
    tasks = Tasks(tmp_path, unused_port)
    yield tasks
    for process in list(tasks.running):
        tasks.kill(process)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_what_all_have_counted_is_added_up_and_outlives_them(tasks: Tasks):
    first, second = tasks.start(4, counted=10), tasks.start(5, counted=100)

    def shows(counted: float, starts: float) -> None:
        samples = tasks.samples()
        assert samples['braid_speed_records_total ["0", "counted"]'] == counted
        assert samples['braid_speed_starts_total ["sketch_bolt"]'] == starts
        assert samples["braid_speed_commit_seconds_count []"] == starts

    eventually(lambda: shows(110, 2), within_s=20)
    # The one that answered is gone: another one takes its place, and the same task goes on with its numbers.
    tasks.kill(first)
    eventually(lambda: shows(110, 2), within_s=20)
    tasks.start(4, counted=1)
    eventually(lambda: shows(111, 3), within_s=20)
    tasks.kill(second)
    eventually(lambda: shows(111, 3), within_s=20)
    # As many files as tasks, however often they start.
    assert len(list(tasks.folder.glob("counter_*.db"))) == 2


def registry(planned_ago_s: float | None, failing: dict[int, int]) -> CollectorRegistry:
    made = CollectorRegistry()
    planned = Gauge("braid_speed_planned_timestamp_seconds", "", registry=made)
    if planned_ago_s is not None:
        planned.set(1_000 - planned_ago_s)
    gauge = Gauge("braid_speed_partition_failing", "", ("partition",), registry=made)
    for partition, value in failing.items():
        gauge.labels(str(partition)).set(value)
    return made


@pytest.mark.parametrize(
    ("planned_ago_s", "failing", "said"),
    [
        (0.5, {0: 0, 1: 0}, None),
        (None, {}, "the spout has not asked Kafka and the database yet"),
        (31, {}, "the spout has not had an answer of Kafka or the database for 31 s"),
        (1, {0: 0, 2: 1, 1: 1}, "ranges of partition 1, 2 cannot be counted, and are tried again"),
    ],
)
def test_it_is_ready_if_the_spout_is_answered_and_ranges_are_counted(
    planned_ago_s: float | None, failing: dict[int, int], said: str | None
):
    assert problem(registry(planned_ago_s, failing), 1_000) == said
