"""A process that hangs is seen, and ended; one that waits for a server is neither."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Event

from contract.errors import EngineUnavailable
from contract.settings import Settings
from ingest.archive import Archiver
from ingest.heartbeat import Heartbeat


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_who_beats_stays_and_who_does_not_is_ended_once(tmp_path: Path):
    clock, ended, said = Clock(), [], []
    heart = Heartbeat(tmp_path / "alive", 600, clock, lambda: ended.append(clock.now_s))
    for _ in range(100):
        clock.now_s += 599
        heart.beat()
        assert heart.look(said.append)
    clock.now_s += 600
    assert heart.look(said.append)
    clock.now_s += 1
    assert not heart.look(said.append)
    assert (len(ended), said) == (1, ["nothing has moved for 601 s: ended, to be started again"])


def test_the_files_time_is_the_last_beats(tmp_path: Path):
    clock, file = Clock(), tmp_path / "alive"
    heart = Heartbeat(file, clock_s=clock)
    heart.beat()
    os.utime(file, (1, 1))
    clock.now_s = 0.5
    heart.beat()
    assert file.stat().st_mtime == 1  # not more than once a second
    clock.now_s = 1.5
    heart.beat()
    assert file.stat().st_mtime > 1


def test_a_process_that_hangs_is_ended_from_its_thread(tmp_path: Path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom ingest import heartbeat\n"
        "heartbeat._LOOK_EVERY_S = 0.01\n"
        "heart = heartbeat.Heartbeat(Path(sys.argv[1]), 0.05)\n"
        "with heart.watched(lambda text: print(text, flush=True)):\n    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "alive")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(" for ")[0]) == (1, "nothing has moved"), done


def test_an_archiver_that_waits_for_kafka_beats():
    waits, beats = [], []

    class Stop(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if len(waits) == 3:
                self.set()
            return self.is_set()

    def down() -> None:
        raise EngineUnavailable.at("Kafka", "kafka:29092", "refused")

    Archiver(
        Settings(),
        down,
        down,
        None,
        Stop(),
        lambda line: None,
        beat=lambda: beats.append(len(waits)),  # type: ignore[arg-type]
    ).run()
    assert beats == [0, 1, 2]
