"""Leaves a stack of its own alone for hours: default traffic, a run every hour, an audit every night, faults at random.

Meanwhile it looks at the memory and the open handles of each container, at the bytes of each volume, and at how long events
take to be seen, one a second. It ends with a run and an audit, which must find nothing. All that was seen is in
build/soak.json, as a chart in build/soak.svg; the table has how much each grew in an hour, by the line that fits best.
With few hours everything comes more often, so that each happens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from tests.fixtures.own_stack import claim, own_stack, parser_of, told

claim()
# What a user gets: the simulator, at its rate.
os.environ.pop("TRAFFIC", None)

from tests.age.measures import audit_s  # noqa: E402 settings are read from the environment above
from tests.bench.place import Place  # noqa: E402
from tests.bench.usage import Containers  # noqa: E402
from tests.drill.drills import ANYTIME  # noqa: E402
from tests.drill.faults import BatchRun, Faults  # noqa: E402
from tests.drill.scene import Ground  # noqa: E402
from tests.fixtures.stack import ROOT, Stack  # noqa: E402
from tests.soak.canary import Canary  # noqa: E402
from tests.soak.chart import draw  # noqa: E402
from tests.soak.samples import KINDS, Sample, Slope, look, slopes  # noqa: E402
from tests.soak.timetable import HOUR_S, Due, timetable  # noqa: E402

_LOOK_S, _LOOKS = 60.0, 20
"""How often is looked, and how many times at least."""
_AGAIN_S = 0.5
_RESULT, _CHART = ROOT / "build" / "soak.json", ROOT / "build" / "soak.svg"


@dataclass(frozen=True)
class Happened:
    """What was done when, how long it took until all was counted and archived again, and how it ended if not well."""

    at_s: float
    kind: str
    name: str
    took_s: float
    wrong: str = ""


@dataclass
class Soak:
    """A soak while it lasts."""

    place: Place
    ground: Ground
    began_s: float = field(default_factory=time.monotonic)
    happened: list[Happened] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def now_s(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began_s

    def look_every(self, period_s: float, canary: Canary) -> None:
        """Until it is stopped."""
        while not self.stop.wait(period_s - self.now_s() % period_s):
            try:
                sample = look(self.place.containers, self.ground.faults, self.now_s(), canary.taken_ms(), self.place.say)
                self.samples.append(sample)
            except (AssertionError, OSError) as error:
                self.place.say(f"not looked: {error}")

    def do(self, due: Due, running: list[threading.Thread]) -> None:
        """What is due; a run goes on beside what follows, but for an audit, which waits for it."""
        self.place.say(f"after {self.now_s() / HOUR_S:.2f} h: {due.kind} {due.name}".rstrip())
        if due.kind == "fault":
            self._note(due, lambda: self._break(due.name))
        elif due.kind == "audit":
            _join(running)
            self._note(due, lambda: audit_s(self.place))
        elif not any(thread.is_alive() for thread in running):
            running.append(threading.Thread(target=self._note, args=(due, self._run), daemon=True))
            running[-1].start()

    def end(self) -> None:
        """The traffic ends, and a last run and audit are made of all of it."""
        self.place.containers.stop("simulator")
        self.place.settle()
        self._note(Due(self.now_s(), "run"), self._run)
        self._note(Due(self.now_s(), "audit"), lambda: audit_s(self.place))

    def _break(self, name: str) -> None:
        ANYTIME[name](self.ground)
        self.place.recover(_AGAIN_S)

    def _run(self) -> None:
        status, said = BatchRun(self.ground.faults).finish()
        assert status == 0, f"status {status}: {said.strip().splitlines()[-1] if said.strip() else ''}"

    def _note(self, due: Due, action: Callable[[], object]) -> None:
        at_s, wrong = self.now_s(), ""
        try:
            action()
        except (AssertionError, subprocess.CalledProcessError) as error:
            wrong = " ".join(str(error).split())[:500]
        self.happened.append(Happened(round(at_s, 1), due.kind, due.name, round(self.now_s() - at_s, 1), wrong))
        self.place.say(f"{due.kind} {due.name} took {self.now_s() - at_s:.1f} s {wrong}".rstrip())


def main() -> int:
    """Exit status: 0 all audits and the last run were well, and each fault was over in time; 1 not; 2 wrong usage."""
    parser = parser_of("soak", __doc__)
    parser.add_argument("--hours", type=float, default=10.0, help="how long (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=200, help="events a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (default: %(default)s)")
    options = parser.parse_args()
    try:
        due = timetable(options.hours, options.seed, list(ANYTIME))
    except ValueError as error:
        parser.error(str(error))
    # Read by compose for the simulator.
    os.environ["RATE"] = str(options.rate)
    with told("soak"), own_stack(options.keep):
        stack, project = Stack.of_this_project(), os.environ["COMPOSE_PROJECT_NAME"]
        place = Place(stack, Containers(project), _say, False)
        place.wait_for_rest()
        soak = Soak(place, Ground(stack, Faults(stack, project), _say))
        _last(soak, due, options.hours * HOUR_S)
    result = _stored(soak, vars(options))
    print(json.dumps(result, indent=2) if options.format == "json" else _table(soak))
    # A fault may end a run that is under way; the last one nobody disturbs.
    return 1 if any(one.wrong for one in soak.happened if one.kind != "run" or one is soak.happened[-2]) else 0


def _last(soak: Soak, due: Sequence[Due], length_s: float) -> None:
    """Until it has ended; whatever goes wrong is in what happened."""
    running: list[threading.Thread] = []
    with Canary(soak.place.stack) as canary:
        period_s = min(_LOOK_S, length_s / _LOOKS)
        looking = threading.Thread(target=soak.look_every, args=(period_s, canary), daemon=True)
        looking.start()
        for one in due:
            soak.stop.wait(max(0.0, one.at_s - soak.now_s()))
            soak.do(one, running)
        soak.stop.wait(max(0.0, length_s - soak.now_s()))
        _join(running)
        soak.stop.set()
        looking.join()
    soak.end()


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def _stored(soak: Soak, options: dict[str, object]) -> dict[str, object]:
    """What is in build/soak.json; the chart is drawn too."""
    result: dict[str, object] = {
        "hours": options["hours"],
        "rate": options["rate"],
        "seed": options["seed"],
        "slopes": [asdict(one) for one in slopes(soak.samples)],
        "happened": [asdict(one) for one in soak.happened],
        "samples": [sample.json() for sample in soak.samples],
    }
    _RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    services = {kind: sorted({name for sample in soak.samples for name in sample.held[kind]}) for kind in KINDS}
    pictures = {
        f"{kind}, {unit}": {
            service: [(one.at_s / HOUR_S, one.held[kind][service]) for one in soak.samples if service in one.held[kind]]
            for service in services[kind]
        }
        for kind, unit in KINDS.items()
    }
    delays = [(one.at_s / HOUR_S, one.json()["delays_ms"]) for one in soak.samples if one.delays_ms]
    pictures["freshness, ms"] = {name: [(hour, of[name]) for hour, of in delays] for name in ("p50", "p99")}
    draw(pictures, [(one.at_s / HOUR_S, one.kind) for one in soak.happened], _CHART)
    return result


def _table(soak: Soak) -> str:
    """How much each grew, how fresh it was, and what went wrong."""
    lines = [
        "| kind | service | first | last | an hour |",
        "| --- | --- | ---: | ---: | ---: |",
        *map(_row, slopes(soak.samples)),
    ]
    delays_ms = sorted(delay for sample in soak.samples for delay in sample.delays_ms)
    if delays_ms:
        p50, p99 = (delays_ms[int(share * (len(delays_ms) - 1))] for share in (0.5, 0.99))
        lines.append(
            f"freshness: p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, longest {delays_ms[-1]:,.0f} ms of {len(delays_ms):,} events"
        )
    for one in soak.happened:
        what = " ".join(filter(None, (one.kind, one.name)))
        lines.append(f"{one.at_s / HOUR_S:6.2f} h  {what}: {one.took_s:.1f} s {one.wrong}".rstrip())
    return "\n".join(lines)


def _row(slope: Slope) -> str:
    unit = KINDS[slope.kind]
    return f"| {slope.kind}, {unit} | {slope.service} | {slope.first:,.0f} | {slope.last:,.0f} | {slope.an_hour:+,.1f} |"


def _say(line: str) -> None:
    print(f"soak: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
