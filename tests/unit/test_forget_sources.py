"""What is forgotten of a source: just what was counted of it, and the register does not say what it was."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from contract.errors import InputError
from contract.forgotten import Keyed, Kind, Rules, Statement
from contract.source_ids import IdRange, SourceIds
from ingest.forget import digests_of
from ingest.forget_sources import ids_of, keep_sources_to
from ingest.register import Register
from ingest.source import Source
from tests.fixtures.counted import ROOT, SITE, MemoryKafka, count
from tests.fixtures.memory import MemoryStore

KEY = "of these tests"
SAME = b"GET /health\n" * 9
# More lines than have a name of their own.
A, B = (SAME + b"".join(b"%s %d\n" % (name, at) for at in range(700)) for name in (b"a", b"b"))
AFTER_US = 1 << 62


@dataclass
class Place:
    store: MemoryStore = field(default_factory=MemoryStore)
    kafka: MemoryKafka = field(default_factory=MemoryKafka)

    @property
    def register(self) -> Register:
        return Register(self.store, ROOT, lambda: 0)

    def count(self, content: bytes, **how: object) -> dict[str, bytes]:
        """Sends what is new, with these ids."""
        before = set(self.kafka.lines)
        count(self.store, self.kafka, content, **how)  # type: ignore[arg-type]
        return {name: line for name, line in self.kafka.lines.items() if name not in before}

    def sources(self) -> dict[str, Source]:
        groups = [self.register.load(name) for name in self.register.groups()]
        return {f"{group.name}.{number}": one for group in groups for number, one in group.sources.items()}

    def forget(self, kind: Kind, what: str, until_us: int = AFTER_US) -> Rules:
        keyed = Keyed(KEY)
        digests = digests_of(keyed, kind, ids_of(self.register, what) if kind == "source" else what, "")
        rules = Rules((Statement(1, kind, "2025-11-21T00:00:00Z", keyed.check, until_us, digests),), KEY)
        keep_sources_to(self.register, rules)
        return rules


@pytest.fixture
def place() -> Place:
    return Place()


def is_forgotten(rules: Rules, event_id: str) -> bool:
    source, _, byte = event_id.rpartition(":")
    return rules.forgets_id(source, int(byte))


@pytest.mark.parametrize("number", [0, 1])
def test_all_that_was_counted_of_a_source_is_forgotten_and_nothing_else(place: Place, number: int):
    sent = [place.count(A), place.count(B)]
    rules = place.forget("source", list(place.sources())[number])
    assert all(is_forgotten(rules, one) for one in sent[number])
    assert not any(is_forgotten(rules, one) for one in sent[1 - number])
    # As long as one source, the other is alike.
    later = place.count((A, B)[number] + b"later\n" * 300)
    assert len(later) == 300
    assert not any(is_forgotten(rules, one) for one in later)


def test_a_source_that_is_forgotten_has_no_name_and_is_known_when_it_comes_again(place: Place):
    sent = place.count(A, name="private.log")
    (name,) = place.sources()
    assert b"private" in b"".join(content for content, _ in place.store.files.values())
    place.forget("source", name)
    (source,) = place.sources().values()
    assert (source.names, source.is_forgotten, source.tally.lines) == ((), True, len(sent))
    assert source.row("g").is_forgotten
    assert b"private" not in b"".join(content for content, _ in place.store.files.values())
    assert place.count(A, name="private.log") == {}
    assert keep_sources_to(place.register, Rules()) == 1
    assert not place.sources()[name].is_forgotten
    assert keep_sources_to(place.register, Rules()) == 0


def test_of_a_site_that_is_forgotten_no_source_is_left_but_those_that_came_after(place: Place):
    place.count(A)
    place.count(B, site="other")
    sites = [source.site for source in place.sources().values()]
    assert sites == [SITE, "other"]
    place.forget("site", SITE, 0)  # they were counted at that time
    assert [source.site for source in place.sources().values()] == sites
    rules = place.forget("site", SITE)
    assert [source.site for source in place.sources().values()] == ["other"]
    assert SITE.encode() not in b"".join(content for content, _ in place.store.files.values())
    assert len(place.count(A)) == 0  # the same ids again
    assert keep_sources_to(place.register, rules) == 1


def test_a_change_of_the_register_meanwhile_is_no_hindrance(place: Place):
    place.count(A)
    (name,) = place.sources()
    ours, theirs = place.register, Place(place.store, place.kafka)
    load, came = ours.load, []

    def overtaken(group: str):
        found = load(group)
        if not came:
            came.append(theirs.count(A + b"more\n"))
        return found

    ours.load = overtaken  # type: ignore[method-assign]
    keyed = Keyed(KEY)
    digests = keyed.of_source(place.sources()[name].ids(name.partition(".")[0]))
    assert keep_sources_to(ours, Rules((Statement(1, "source", "", keyed.check, 0, digests),), KEY)) == 1
    (source,) = place.sources().values()
    assert source.is_forgotten
    assert source.counted.end == len(A + b"more\n")


def test_a_source_that_nobody_counted_is_an_error_and_other_texts_are_what_ids_begin_with(place: Place):
    place.count(A)
    for source in ("0123456789ab.1", next(iter(place.sources())) + "0"):
        with pytest.raises(InputError, match=f"SOURCE={source}: no such source was counted; `make sources` lists"):
            ids_of(place.register, source)
    assert ids_of(place.register, "mine") == SourceIds((IdRange("mine"),))
    for source in ("", "x" * 257):
        with pytest.raises(InputError, match=r"^SOURCE='x*' is not a text of 1 to 256 characters, so no event has it"):
            ids_of(place.register, source)
