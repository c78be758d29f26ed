"""What people would use instead of the speed layer: each rival drains the bench's topic into tables of its own.

Like Braid each is measured from the first rows that can be seen until all are there, and only if both of its views then hold
exactly the events that it should count. They are those of traffic: Braid has referrers too, and no rival is asked for them.
Which records are events is its own decoder's affair: `takes` has the reasons for which Braid rejects what the rival counts.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from serving.database import Connection, connect
from tests.bench.place import Place
from tests.bench.rounds import Sample
from tests.fixtures.stack import ROOT

_VIEWS = {"site_traffic": ("site",), "page_traffic": ("site", "page")}
_COUNTS = "views bigint, errors bigint, bytes_sent bigint"
_LOOK_S = 0.3
_QUIET_S = 2


@dataclass(frozen=True)
class Rival:
    """A rival, the role as which it writes, and its tables: how their names begin, and what is not the same for all."""

    title: str
    prefix: str
    role: str
    batch: str
    """The column that tells a group's rows of several batches apart, if there are such."""
    measures: str
    takes: frozenset[str]

    def prepare(self, place: Place) -> None:
        """Empty tables."""
        with connect(place.stack.settings, "postgres") as owner:
            for view, keys in _VIEWS.items():
                columns = [self.batch, "bucket timestamptz", *(f"{key} text" for key in keys)]
                listed = ", ".join(filter(None, columns))
                names = ", ".join(column.split()[0] for column in columns if column)
                statements = (
                    f"DROP TABLE IF EXISTS {self.prefix}_{view};"
                    f"CREATE TABLE {self.prefix}_{view} ({listed}, {_COUNTS}, {self.measures}, PRIMARY KEY ({names}));"
                    f"GRANT SELECT, INSERT, UPDATE, DELETE ON {self.prefix}_{view} TO {self.role};"
                )
                owner.execute(statements)

    def also_takes(self, place: Place) -> int:
        """How many records are events to it and not to Braid, whose ledger must hold the whole topic: each once."""
        query = f"SELECT count(DISTINCT value) FROM quarantine WHERE reason IN ({_texts(self.takes)})"
        return int(place.stack.ask(query, role="postgres")[0][0])

    def counts(self, eye: Connection) -> dict[str, int]:
        """How many events each of its views holds now."""
        sums = ", ".join(f"(SELECT coalesce(sum(views), 0)::bigint FROM {self.prefix}_{view})" for view in _VIEWS)
        return dict(zip(_VIEWS, eye.execute(f"SELECT {sums}").fetchall()[0], strict=True))


STRUCTURED_STREAMING = Rival(
    title="R2 Structured Streaming",
    prefix="streamed",
    role="batch",
    batch="batch bigint",
    measures="visitors bytea, latency double precision[]",
    takes=frozenset({"too_deep", "too_large", "not_utf8"}),
)
FLINK = Rival(
    title="R3 Flink SQL",
    prefix="flink",
    role="speed",
    batch="",
    measures="visitors bigint, p50 double precision, p95 double precision, p99 double precision",
    takes=frozenset({"too_deep", "too_large", "wrong_type", "not_an_object"}),
)
NAIVE = Rival(
    title="R1 naive streamparse",
    prefix="naive",
    role="speed",
    batch="",
    measures="visitors bytea, latency jsonb",
    takes=frozenset({"too_deep", "too_large"}),
)
_NAIVE_OFFSETS = 2_500
"""R1 gets so many records of each partition only: it is orders of magnitude slower than the others."""


def structured_streaming(place: Place, records: int, events: int) -> Sample:
    """R2 drains the topic, which holds so many records, all in Braid's ledger, and exactly so many different events.

    The supervisor is stopped then.
    """
    return _drained(place, STRUCTURED_STREAMING, records, events, "tests.bench.rivals.structured_streaming")


def flink(place: Place, records: int, events: int) -> Sample:
    """R3 does so."""
    return _drained(place, FLINK, records, events, "tests.bench.rivals.flink_sql")


def naive(place: Place) -> Sample:
    """R1 drains a part of the topic, beside Braid's topology, which has nothing to do. The supervisor runs then."""
    records = _NAIVE_OFFSETS * place.stack.settings.topic_partitions
    counted = (
        f"""SELECT count(*) FROM quarantine WHERE "offset" < {_NAIVE_OFFSETS} AND reason NOT IN ({_texts(NAIVE.takes)})"""
    )
    # It removes no repeats, so they are events too.
    expected = records - int(place.stack.ask(counted, role="postgres")[0][0])
    place.containers.start("supervisor")
    # After its start Braid reads again which events it knows.
    place.until(lambda: _is_quiet(place))
    NAIVE.prepare(place)
    place.say(f"draining {records:,} records with {NAIVE.title}")
    with connect(place.stack.settings, "postgres") as eye:
        _submit(place, str(_NAIVE_OFFSETS))
        try:
            sample = place.sample(lambda: _least(NAIVE, eye), expected, _LOOK_S)
        finally:
            _submit(place)
        return _judged(NAIVE, eye, expected, records, sample)


def _drained(place: Place, rival: Rival, records: int, events: int, program: str) -> Sample:
    received = place.truth()["received"]
    assert received == records, f"Braid's ledger, which judges {rival.title}, holds {received:,} of {records:,} records"
    expected = events + rival.also_takes(place)
    place.containers.stop("supervisor")
    rival.prepare(place)
    place.say(f"draining with {rival.title}")
    with connect(place.stack.settings, "postgres") as eye:
        with _running(program) as has_ended:

            def position() -> int:
                ended, counted = has_ended(), _least(rival, eye)
                assert counted >= expected or not ended, (
                    f"{rival.title} counted {counted:,} of {expected:,} events, and ended"
                )
                return counted

            sample = place.sample(position, expected, _LOOK_S)
        return _judged(rival, eye, expected, records, sample)


def _judged(rival: Rival, eye: Connection, expected: int, records: int, sample: Sample) -> Sample:
    """The sample by records, as Braid's are, if both views are right."""
    counts = rival.counts(eye)
    assert set(counts.values()) == {expected}, f"{rival.title} counted {counts}, but there are {expected:,} events"
    return replace(sample, events=round(sample.events * records / expected))


def _least(rival: Rival, eye: Connection) -> int:
    return min(rival.counts(eye).values())


@contextmanager
def _running(program: str) -> Iterator[Callable[[], bool]]:
    """A program in a container until it ends by itself; what it yields says whether it has, or raises AssertionError."""
    log = ROOT / "build" / "bench-rivals.log"
    command = ["compose/engine", "compose", "run", "--rm", "-T", "--no-deps", "rivals", "python", "-m", program]
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

        def has_ended() -> bool:
            assert process.poll() in (None, 0), f"{program} failed; see {log.relative_to(ROOT)}"
            return process.poll() == 0

        try:
            yield has_ended
            process.wait(timeout=60)
            has_ended()
        finally:
            process.terminate()
            process.wait()


def _submit(place: Place, *arguments: str) -> None:
    place.stack.compose(
        *("run", "--rm", "-T", "--no-deps", "rivals", "python", "-m", "tests.bench.rivals.naive.submit", *arguments)
    )


def _is_quiet(place: Place) -> bool:
    with place.containers.metered() as used:
        time.sleep(_QUIET_S)
    return used.cpu_s["supervisor"] < _QUIET_S / 4


def _texts(names: frozenset[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
