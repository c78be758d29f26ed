"""What is measured of a stack whatever its age; each entry of MEASURES yields numbers, in the order of the table.

They are in this order because some leave traces: events of freshness are on any day, so that runs after it compute all.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tests.age.questions import QUESTIONS, taken_ms_of
from tests.age.report import Figure
from tests.bench.freshness import delays_ms_of, traffic
from tests.bench.place import Place
from tests.drill.faults import SERVERS, Faults
from tests.fixtures.own_stack import compose
from tests.fixtures.stack import ROOT

RATES = (200, 2_000, 20_000)
_MEMORY_AT = 2_000
_WARM_S = 5
_LEAST_TRAFFIC = 0.98
_ASKED = 20
_VOLUMES = ("kafka", "namenode", "datanode-1", "datanode-2", "zookeeper", "nimbus", "supervisor", "timescaledb")
_LOOK_S = 0.2
_ANSWERED_WITHIN_MS = {
    "a site's total and visitors, all history": 100.0,
    "the newest five rows of all pages": 50.0,
    "the newest five, by day": 50.0,
}
"""What the 99th percentile of these questions may be, however old the stack is."""


@dataclass(frozen=True)
class Subject:
    """A stack, what can be done to it, and how much past the aged one has: both get the same new events."""

    place: Place
    faults: Faults
    aged_days: int
    aged_events: int


def volumes(subject: Subject) -> Iterator[Figure]:
    """Megabytes on each volume, as files take them."""
    for service in _VOLUMES:
        # A file may go while it is looked for.
        kilobytes = int(subject.faults.inside(service, "du", "-sk", "/var/lib/braid", check=False).split()[0])
        yield Figure(f"volume {service}", kilobytes / 1_000, "MB")


def questions(subject: Subject) -> Iterator[Figure]:
    """Answers to what readers ask: p50 and p99 of a session's questions."""
    for name, question in QUESTIONS.items():
        subject.place.say(f"asking for {name}")
        if not subject.place.stack.ask(question):
            # An hour after a past was made nothing of it is of the last hour.
            subject.place.say("there are no such rows any more")
            continue
        taken_ms = taken_ms_of(subject.place.stack.settings, question, _ASKED)
        for fraction, most in ((50, None), (99, _ANSWERED_WITHIN_MS.get(name))):
            yield Figure(f"{name}, p{fraction}", float(np.percentile(taken_ms, fraction)), "ms", most=most)


def nightly(subject: Subject) -> Iterator[Figure]:
    """The run that takes over the last day."""
    yield Figure("nightly run", subject.place.batch_run_s(), "s")


def little(subject: Subject) -> Iterator[Figure]:
    """A run after new events, a hundredth of the aged past's, all of the last day."""
    subject.place.send(max(subject.aged_events // 100, 100), 1)
    yield Figure("run after 1 % new", subject.place.batch_run_s(), "s", most_times=1.5)


def audited(subject: Subject) -> Iterator[Figure]:
    """An audit, which must find nothing."""
    yield Figure("audit", audit_s(subject.place), "s")


def freshness(subject: Subject) -> Iterator[Figure]:
    """From sending an event until SQL shows it, under traffic; beside it what containers hold in memory.

    Of the traffic 2 % are late by up to 3 days, 0.1 % by up to the past's length.
    """
    place = subject.place
    for rate in RATES:
        place.settle()
        place.say(f"canaries at {rate:,} events/s")
        with traffic(place, rate, subject.aged_days) as events_per_s:
            time.sleep(_WARM_S)
            with place.containers.metered() as used:
                delays_ms = delays_ms_of(place)
            reached = events_per_s()
        # A sender that falls behind flatters the delays.
        beside = "" if reached >= _LEAST_TRAFFIC * rate else f"only {reached:,.0f} events/s were sent"
        for fraction, goal in ((50, None), (99, 1.3)):
            value = float(np.percentile(delays_ms, fraction))
            yield Figure(f"freshness p{fraction}, {rate:,}/s", value, "ms", most_times=goal, beside=beside)
        if rate == _MEMORY_AT:
            for service, memory_bytes in sorted(used.memory_bytes.items()):
                if service != "tests":
                    yield Figure(f"memory {service}, {rate:,}/s", memory_bytes / 1e6, "MB")


def everywhere(subject: Subject) -> Iterator[Figure]:
    """A run after an event on each day of the past, and a full one beside it."""
    place = subject.place
    # So that what the run computes is what is said here.
    place.batch_run_s()
    place.send(2 * subject.aged_days, subject.aged_days)
    taken_s = place.batch_run_s()
    full_s = place.batch_run_s("--full")
    yield Figure("run after events on all days", taken_s, "s")
    yield Figure("full run", full_s, "s")
    yield Figure("the one as a share of the other", taken_s / full_s, "x", most=1.2)


def restarts(subject: Subject) -> Iterator[Figure]:
    """From the command that restarts a server until its own health check is content, and it does its work again."""
    place = subject.place
    for service in SERVERS:
        place.say(f"restarting {service}")
        place.settle()
        # Something is to be counted and archived again when it is back.
        place.fill(100, seed=1)
        started_s = time.monotonic()
        compose("restart", service)
        place.until(lambda service=service: place.containers.is_healthy(service), _LOOK_S)  # type: ignore[misc]
        healthy_s = time.monotonic() - started_s
        place.recover(_LOOK_S)
        most = 30.0 if service == "namenode" else None
        yield Figure(f"restart of {service}", healthy_s, "s", most=most)
        yield Figure(f"restart of {service}, all counted", time.monotonic() - started_s, "s")


def warm(subject: Subject) -> Iterator[Figure]:
    """`make up` after `make down`, with images built and volumes as they are."""
    subject.place.say("make down, make up")
    compose("--profile", "*", "down", "--remove-orphans")
    started_s = time.monotonic()
    subprocess.run(["compose/up"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    yield Figure("make up, warm", time.monotonic() - started_s, "s")


def audit_s(place: Place) -> float:
    """How long `make audit` takes; AssertionError if it finds something."""
    place.say("an audit")
    started_s = time.monotonic()
    place.stack.audit()
    return time.monotonic() - started_s


MEASURES: dict[str, Callable[[Subject], Iterator[Figure]]] = {
    "volumes": volumes,
    "questions": questions,
    "nightly": nightly,
    "little": little,
    "audit": audited,
    "freshness": freshness,
    "everywhere": everywhere,
    "restarts": restarts,
    "warm": warm,
}
