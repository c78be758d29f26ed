"""The faults of the drill chaos follow from the seed alone, and are lifted whatever happens meanwhile."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from tests.drill import strikes as strikes_module
from tests.drill.chaos import Chaos
from tests.drill.faults import SERVERS, Faults
from tests.drill.scene import Ground
from tests.drill.schedule import CUTS, DISKS, FROZEN_S, KINDS, PROCESSES, STEP_S, Strike, schedule
from tests.drill.strikes import strike

SEEDS = range(100)


def test_a_seed_gives_the_same_faults_at_the_same_times_and_another_one_others():
    assert schedule(7, 10) == schedule(7, 10)
    assert schedule(7, 10) != schedule(8, 10)
    # What comes first does not depend on how long it lasts.
    assert schedule(7, 30)[: len(schedule(7, 10))] == schedule(7, 10)


@pytest.mark.parametrize("minutes", [2, 4, 10])
def test_faults_follow_one_another_and_are_over_within_the_minutes(minutes: int):
    for seed in SEEDS:
        strikes = schedule(seed, minutes)
        assert len(strikes) >= minutes / 2
        assert strikes[0].due_s > 0
        assert all(after.due_s > before.due_s + before.length_s for before, after in pairwise(strikes))
        assert strikes[-1].due_s + strikes[-1].length_s <= 60 * minutes


def test_too_short_a_time_is_refused():
    with pytest.raises(ValueError, match=r"MINUTES=1\.5 is too short; it takes 2 at least"):
        schedule(1, 1.5)


def test_ten_minutes_have_each_kind_whatever_the_seed():
    for seed in SEEDS:
        assert {one.kind for one in schedule(seed, 10)} == set(KINDS), seed


def test_seeds_break_every_part_there_is():
    strikes = [one for seed in SEEDS for one in schedule(seed, 30)]
    parts = {kind: {one.parts for one in strikes if one.kind == kind} for kind in KINDS}
    assert parts["kill-container"] == {(service,) for service in SERVERS}
    assert {len(names) for names in parts["kill-containers"]} == {2, 3}
    assert {len(names) for names in parts["freeze"]} == {1, 2}
    assert {name for names in parts["freeze"] for name in names} == set(SERVERS)
    assert parts["kill-process"] == {(service, *words) for service, of in PROCESSES.items() for words in of}
    assert parts["stop-process"] == {one for one in parts["kill-process"] if len(PROCESSES[one[0]]) > 1}
    assert (parts["cut"], parts["fill-disk"]) == (set(CUTS), set(DISKS))
    assert {one.ahead_s for one in strikes if one.kind == "step-clock"} == {-STEP_S, STEP_S}
    # Sessions with Storm, Kafka and ZooKeeper end before.
    assert all(one.length_s > 40 for one in strikes if one.kind in ("freeze", "stop-process"))


@dataclass
class Engine:
    """A container engine: what it was asked for, and what is not as it should be."""

    broken: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        assert command[:2] == ("compose/engine", "docker")
        verb, *words = command[2:]
        self.asked.append(" ".join((verb, *words)))
        match verb:
            case "ps":
                return self._said(next(word for word in words if "compose.service" in word).split("=")[-1])
            case "inspect":
                is_state = "{{.State.Status}}" in words
                return self._said(self.states.get(words[-1], "running") if is_state else f"address-of-{words[-1]}")
            case "kill":
                self.broken |= set(words[2:])
            case "start":
                self.broken -= set(words)
            case "pause":
                self.broken.add(words[0])
            case "unpause":
                self.broken.remove(words[0])
            case "run":
                place = next(word for word in words if word.startswith("container:"))
                _, change, *addresses = words[words.index("-") :]
                for address in addresses:
                    self._set(f"{place} to {address}", change == "cut")
            case "exec":
                self._inside(*words)
            case _:
                raise AssertionError(f"nobody should ask for {verb}")
        return self._said("")

    def _inside(self, service: str, program: str, *words: str) -> None:
        if program == "pkill":
            name = [word for word in words[1:] if word not in ("--oldest", "--newest")]
            if words[0] in ("-STOP", "-CONT"):
                self._set(f"{service}: {' '.join(name)}", words[0] == "-STOP")
        elif program == "dd":
            self._set(words[1].removesuffix("-1M").removesuffix("-4k"), True)
        elif program == "find":
            self.broken = {one for one in self.broken if "/ballast/" not in one}
        else:
            raise AssertionError(f"nobody should start {program}")

    def _set(self, what: str, is_broken: bool) -> None:
        if is_broken:
            self.broken.add(what)
        else:
            self.broken.remove(what)

    def _said(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, text, "")


class Held(Ground):
    """No time passes; what was broken during a fault, and whether something happens meanwhile."""

    def __init__(self, engine: Engine, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__(engine, Faults(engine, "braid-drill"), lambda line: None)  # type: ignore[arg-type]
        self.engine, self.meanwhile, self.held = engine, meanwhile, list[tuple[float, set[str]]]()

    def hold(self, seconds: float) -> None:
        self.held.append((seconds, set(self.engine.broken)))
        self.meanwhile()

    def set_clock(self, ahead_s: int) -> None:
        self.engine.asked.append(f"clock {ahead_s}")
        self.engine.broken = {f"clock {ahead_s}"} if ahead_s else set()


def interrupt() -> None:
    raise KeyboardInterrupt


ONE_OF_EACH = {one.kind: one for seed in range(20) for one in schedule(seed, 10)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("meanwhile", [lambda: None, interrupt], ids=["undisturbed", "interrupted"])
def test_each_fault_breaks_what_it_names_for_its_length_and_is_lifted(kind: str, meanwhile: Callable[[], None]):
    one, ground = ONE_OF_EACH[kind], Held(Engine(), meanwhile)
    try:
        strike(ground, one, ground.set_clock)
    except KeyboardInterrupt:
        assert meanwhile is interrupt
    ((length_s, broken),) = ground.held
    assert length_s == one.length_s
    if kind == "kill-process":
        # It is for others to start it again.
        assert any(f"exec {one.parts[0]} pkill -KILL" in asked for asked in ground.engine.asked)
    elif kind in ("kill-container", "kill-containers", "freeze"):
        assert broken == set(one.parts)
    else:
        assert broken, "nothing was broken"
    assert ground.engine.broken == set()


@pytest.mark.parametrize("words", [words for of in PROCESSES.values() for words in of])
def test_a_stopped_process_goes_on_also_where_another_is_the_oldest_by_then(words: tuple[str, ...]):
    ground = Held(Engine())
    strike(ground, Strike(0, "stop-process", ("supervisor", *words), FROZEN_S[0]), ground.set_clock)
    (going_on,) = [asked for asked in ground.engine.asked if "-CONT" in asked]
    assert "est" not in going_on.split(words[-1])[0]


def test_a_fault_of_what_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strikes_module, "_READY_WITHIN_S", 0)
    story = Chaos(7, 10, schedule(7, 10))
    with pytest.raises(
        AssertionError, match=r"fault 1 of 18, no room on .*: still not so .*: not running: \{'timescaledb': 'ex"
    ):
        story.strike_all(Held(Engine(states={"timescaledb": "exited"})), lambda ahead_s: None)  # type: ignore[arg-type]


def test_all_faults_of_a_schedule_happen_in_its_order():
    story = Chaos(7, 10, schedule(7, 10))
    ground = Held(Engine())
    story.strike_all(ground, ground.set_clock)  # type: ignore[arg-type]
    assert [told.split(", ", 1)[1] for _, told in story.struck] == [one.text() for one in schedule(7, 10)]
    assert sum(length_s for length_s, _ in ground.held[1::2]) == sum(one.length_s for one in story.strikes)
    assert ground.engine.broken == set()


def test_the_docs_have_each_kind_and_how_many_there_are_in_ten_minutes():
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    _, chaos_text = text.split("\n### Chaos\n")
    assert re.findall(r"^\| `([a-z-]+)` \|", chaos_text.split("\n## ")[0], re.MULTILINE) == list(KINDS)
    numbers = [len(schedule(seed, 10)) for seed in SEEDS]
    assert f"Ten minutes have {min(numbers)} to {max(numbers)}, and all kinds." in " ".join(chaos_text.split())


def test_kinds_are_about_as_often_as_each_other():
    counted = Counter(one.kind for one in schedule(1, 300))
    assert max(counted.values()) - min(counted.values()) <= 1
