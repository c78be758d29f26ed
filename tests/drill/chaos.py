"""The drill `chaos`: by seed one fault after the other, any of them, while everything that a stack does goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.bench.usage import Containers
from tests.drill.drills import Drill, master_is_back, nimbus_leads, one_worker_lives, replicated
from tests.drill.faults import SERVERS, BatchRun
from tests.drill.runs import RUN_LIMIT_S, Runs
from tests.drill.scene import Scene
from tests.drill.schedule import Strike, schedule
from tests.drill.sent_file import SentFile
from tests.drill.strikes import strike
from tests.drill.traffic import Load

MOST_TIMES_MEMORY = 1.3
_LATE_DAYS, _TWICE, _MALFORMED = 40, 0.03, 0.01
_READERS, _POLL_S = 2, 0.5
_NOISE_BYTES = 16 * 2**20
"""Of a small process so much is no growth: an allocator takes memory in pieces."""


def chaos(seed: int, minutes: float, rate: int) -> Drill:
    """ValueError if the minutes are too few."""
    story = Chaos(seed, minutes, schedule(seed, minutes))
    return Drill(
        "chaos",
        f"{len(story.strikes)} faults of any kind in {minutes:g} minutes, by seed {seed}",
        story.inject,
        story.healed,
        load=Load(rate, late_days=_LATE_DAYS, twice=_TWICE, malformed=_MALFORMED, readers=_READERS, poll_s=_POLL_S),
        seed=seed,
        ended=story.ended,
    )


@dataclass
class Chaos:
    """A sequence of faults, and what is known of it while it lasts: `struck` has when each began."""

    seed: int
    minutes: float
    strikes: Sequence[Strike]
    struck: list[tuple[float, str]] = field(default_factory=list)
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    started: Mapping[str, str] = field(default_factory=dict)
    first_run: int = 0
    runs: Runs | None = None

    def inject(self, scene: Scene) -> None:
        """All faults, in their order; runs and a log's replays go on until the traffic has ended."""
        scene.during = self.during
        with ExitStack() as clocks:
            set_clock: Callable[[int], None] = lambda ahead_s: None  # noqa: E731 there is no clock to set
            if any(one.kind == "step-clock" for one in self.strikes):
                scene.say("a clock of its own for the supervisor")
                set_clock = clocks.enter_context(scene.faults.own_clock("supervisor"))
                scene.until(scene.is_fresh)
            self._look_first(scene)
            self.runs = scene.beside.enter_context(Runs(scene.faults, self._complaining(scene)))
            scene.file = scene.beside.enter_context(SentFile(scene.stack, scene.site, 60 * self.minutes))
            # First the file: it may need until then to be counted.
            scene.later += [scene.file.end, self.runs.end]
            self.strike_all(scene, set_clock)
        scene.fault_is_over()

    def strike_all(self, scene: Scene, set_clock: Callable[[int], None]) -> None:
        """Each when it is due, or at once if the ones before took longer. AssertionError says which could not be done."""
        began_s = time.monotonic()
        for number, one in enumerate(self.strikes, 1):
            scene.hold(max(0.0, began_s + one.due_s - time.monotonic()))
            told = f"fault {number} of {len(self.strikes)}, {one.text()}"
            self.struck.append((time.monotonic(), told))
            scene.say(told)
            try:
                strike(scene, one, set_clock)
            except AssertionError as error:
                raise AssertionError(f"{told}: {error}") from error

    def during(self, at_s: float) -> str:
        """The last fault that had begun at a moment, and how long before, as the beginning of a complaint."""
        begun = [(began_s, told) for began_s, told in self.struck if began_s <= at_s]
        if not begun:
            return "before the first fault: "
        began_s, told = begun[-1]
        return f"{told}, begun {at_s - began_s:.1f} s before: "

    def healed(self, scene: Scene) -> None:
        """Every server has its parts again; whichever is started anew from then on is one too many."""
        scene.faults.all_run(*SERVERS)
        nimbus_leads(scene)
        one_worker_lives(scene)
        replicated(scene)
        assert master_is_back(scene), "Spark's master has no worker"
        self.started = scene.faults.started(*SERVERS)

    def ended(self, scene: Scene) -> None:
        """An audit, restarts since the recovery, memory, and what drift says of all runs."""
        assert self.runs
        scene.say("one audit")
        try:
            scene.stack.audit()
        except AssertionError as error:
            scene.complaints.append(" ".join(str(error).split()))
        again = [name for name, at in scene.faults.started(*SERVERS).items() if at != self.started[name]]
        if again:
            scene.complaints.append(f"started again after the recovery: {', '.join(again)}")
        times = grown(self.memory_bytes, Containers(scene.faults.project).memory_bytes())
        scene.complaints += [
            f"{name} holds {factor:.2f} times the memory of the beginning, the limit is {MOST_TIMES_MEMORY}"
            for name, factor in times.items()
            if factor > MOST_TIMES_MEMORY
        ]
        # What a run's filter dropped is missing in each of its views.
        ((dropped, wrong),) = scene.stack.ask(
            "SELECT coalesce(sum(dropped), 0)::bigint, coalesce(sum(wrong), 0)::bigint FROM (SELECT max(dropped) AS dropped,"
            " count(*) FILTER (WHERE verdict = 'wrong') AS wrong"
            f" FROM drift_summary WHERE run_id > {self.first_run} GROUP BY run_id) AS of_run"
        )
        if wrong:
            scene.complaints.append(f"drift finds {wrong} views of runs wrong")
        most = max(times, key=lambda name: times[name])
        scene.figures.update(
            seed=self.seed,
            faults=len(self.struck),
            runs=len(self.runs.took_s),
            published=self.runs.published,
            longest_run_s=round(max(self.runs.took_s), 1),
            dropped=dropped,
            memory_times=round(times[most], 2),
            memory_of=most,
        )

    def _look_first(self, scene: Scene) -> None:
        """What is held before the first fault, but after a run: whatever a server needs at all it has by then."""
        scene.say("a batch run before the first fault")
        status, said = BatchRun(scene.faults).finish(RUN_LIMIT_S)
        assert status == 0, said
        self.first_run = scene.last_run()
        self.memory_bytes = Containers(scene.faults.project).memory_bytes()

    def _complaining(self, scene: Scene) -> Callable[[float, str], None]:
        def complain(at_s: float, text: str) -> None:
            scene.complaints.append(self.during(at_s) + " ".join(text.split()))

        return complain


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, float]:
    """By service how many times as much memory it holds as before; a few megabytes more are no growth."""
    return {
        name: 1.0 if after[name] - held <= _NOISE_BYTES else after[name] / held
        for name, held in before.items()
        if name in after
    }
