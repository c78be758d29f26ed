"""What the drill `chaos` breaks, and when: by seed, the same for the same arguments, whatever happens meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.drill.faults import SERVERS

Kind = Literal[
    "kill-container", "kill-containers", "kill-process", "stop-process", "freeze", "cut", "fill-disk", "step-clock"
]
LEAST_MINUTES = 2
GAP_S, DOWN_S, CUT_S = (3.0, 15.0), (2.0, 20.0), (20.0, 50.0)
FROZEN_S = (45.0, 60.0)
"""Longer than sessions last without a word: Storm gives a bolt up after 45 s, ZooKeeper a session after at most 40 s."""
FULL_S, STEPPED_S, STEP_S = 30.0, 20.0, 3_600
# What pkill calls the processes of a container; where one matches several, the first of them is meant.
_OF_MANY: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "supervisor": (
        ("--oldest", "--full", "speed.range_spout"),
        ("--oldest", "--full", "speed.sketch_bolt"),
        ("--oldest", "--full", "speed.merge_bolt"),
        # Its parent, which carries its output, has its whole command line as arguments.
        ("--newest", "--full", "org.apache.storm.daemon.worker.Worker"),
        ("--oldest", "--full", "org.apache.storm.LogWriter"),
        ("--full", "org.apache.storm.daemon.supervisor.Supervisor"),
    ),
    "spark-worker": (("--oldest", "java"), ("--oldest", "--full", "CoarseGrainedExecutorBackend")),
    "timescaledb": (
        ("--oldest", "postgres"),
        ("--full", "postgres: checkpointer"),
        ("--full", "postgres: walwriter"),
        ("--oldest", "--full", "postgres: speed "),
        ("--oldest", "--full", "postgres: reader "),
    ),
}
_ALONE = {service: (("--oldest", "python" if service == "archiver" else "java"),) for service in SERVERS}
PROCESSES: Mapping[str, tuple[tuple[str, ...], ...]] = {**_ALONE, **_OF_MANY}
"""By service those that can be killed one by one."""
# The second part cannot be reached by the first. Of two networks only one would be cut, so none of the second has two.
CUTS: tuple[tuple[str, ...], ...] = (
    ("archiver", "kafka"),
    ("archiver", "namenode", "datanode-1", "datanode-2"),
    ("supervisor", "kafka"),
    ("supervisor", "timescaledb"),
    ("supervisor", "zookeeper"),
    ("nimbus", "zookeeper"),
    ("spark-worker", "spark-master"),
    ("spark-worker", "timescaledb"),
    ("spark-worker", "namenode", "datanode-1", "datanode-2"),
    ("datanode-1", "namenode"),
)
DISKS: tuple[tuple[str, ...], ...] = (("datanode-1",), ("datanode-1", "datanode-2"), ("timescaledb",))


@dataclass(frozen=True)
class Strike:
    """A fault that is due so long after the drill's first moment, or once the one before it is over, and its length.

    `parts` are services, or volumes; of one process its service and how pkill knows it; of a cut who does not reach whom.
    A clock is set `ahead_s` seconds.
    """

    due_s: float
    kind: Kind
    parts: tuple[str, ...]
    length_s: float = 0.0
    ahead_s: int = 0

    @property
    def services(self) -> tuple[str, ...]:
        """Those that it needs to run before."""
        return self.parts[:1] if self.kind in ("kill-process", "stop-process") else self.parts

    def text(self) -> str:
        """For people."""
        named, first, length = " and ".join(self.parts), self.parts[0], f"for {self.length_s:.0f} s"
        return {
            "kill-container": f"kill -9 of {named}, down {length}",
            "kill-containers": f"kill -9 of {named} at once, down {length}",
            "kill-process": f"kill -9 of {self.parts[-1].strip()} in {first}",
            "stop-process": f"SIGSTOP of {self.parts[-1].strip()} in {first} {length}",
            "freeze": f"SIGSTOP of all of {named} {length}",
            "cut": f"no network from {first} to {' and '.join(self.parts[1:])} {length}",
            "fill-disk": f"no room on the disk of {named} {length}",
            "step-clock": f"the clock of spout and bolts set {self.ahead_s:+} s {length}",
        }[self.kind]


def schedule(seed: int, minutes: float) -> list[Strike]:
    """One fault after the other, all over within the minutes; each kind is there before one comes again.

    ValueError if that is too short for one of any kind.
    """
    if minutes < LEAST_MINUTES:
        raise ValueError(f"MINUTES={minutes:g} is too short; it takes {LEAST_MINUTES} at least")
    chance, over_s = random.Random(seed), 0.0
    strikes: list[Strike] = []
    left: list[Kind] = []
    while True:
        left = left or chance.sample(list(_DRAWN), len(_DRAWN))
        strike = _DRAWN[kind := left.pop()](chance, over_s + chance.uniform(*GAP_S), kind)
        over_s = strike.due_s + strike.length_s
        if over_s > 60 * minutes:
            return strikes
        strikes.append(strike)


def _containers(most: int, length_s: tuple[float, float], least: int = 1) -> Callable[[random.Random, float, Kind], Strike]:
    def drawn(chance: random.Random, due_s: float, kind: Kind) -> Strike:
        parts = chance.sample(SERVERS, chance.randint(least, most))
        return Strike(due_s, kind, tuple(sorted(parts)), chance.uniform(*length_s))

    return drawn


def _killed_process(chance: random.Random, due_s: float, kind: Kind) -> Strike:
    service = chance.choice(SERVERS)
    return Strike(due_s, kind, (service, *chance.choice(PROCESSES[service])))


def _stopped_process(chance: random.Random, due_s: float, kind: Kind) -> Strike:
    # Where there is one alone, this is to freeze all of it.
    service = chance.choice(list(_OF_MANY))
    return Strike(due_s, kind, (service, *chance.choice(PROCESSES[service])), chance.uniform(*FROZEN_S))


_DRAWN: Mapping[Kind, Callable[[random.Random, float, Kind], Strike]] = {
    "kill-container": _containers(1, DOWN_S),
    "kill-containers": _containers(3, DOWN_S, least=2),
    "kill-process": _killed_process,
    "stop-process": _stopped_process,
    "freeze": _containers(2, FROZEN_S),
    "cut": lambda chance, due_s, kind: Strike(due_s, kind, chance.choice(CUTS), chance.uniform(*CUT_S)),
    "fill-disk": lambda chance, due_s, kind: Strike(due_s, kind, chance.choice(DISKS), FULL_S),
    "step-clock": lambda chance, due_s, kind: Strike(
        due_s, kind, ("supervisor",), STEPPED_S, chance.choice((-STEP_S, STEP_S))
    ),
}
KINDS = tuple(_DRAWN)
