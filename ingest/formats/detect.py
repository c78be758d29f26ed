"""Of which format a log is: the one that most of its first lines fit, or a refusal that says what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from functools import cached_property

from contract.errors import InputError
from ingest.formats.catalogue import AUTO, FORMATS, USUAL, Format
from ingest.formats.clients import Pseudonyms, address_of, client_address
from ingest.formats.events import NO_CLIENT, Events, Layout, Rules, first_fields, layout_of
from ingest.formats.json_form import JsonForm
from ingest.formats.logged import LineForm, Logged, Rejected
from ingest.formats.notes import Notes
from ingest.formats.nothing_fits import refusal
from ingest.formats.prefixes import Prefixes, candidates
from ingest.formats.requests import request_of
from ingest.formats.times import Times, is_in_hundredths, zone_of

SAMPLE_LINES = 1_000
_BYTE_ORDER_MARK = "\ufeff"
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class WantedLog:
    """What somebody says of a log. `site` is SITE=, if it was given, and `name` what the site is otherwise.

    `size_bytes` is how large its file is, 0 if nobody knows.
    """

    name: str
    site: str | None = None
    format: str = AUTO
    zone: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int = 0

    def of_site(self, site: str | None) -> WantedLog:
        """The same, of a log that is known to be of this site."""
        return replace(self, site=site)


@dataclass(frozen=True)
class Detected:
    """How a log is read: `fits` of `of` sampled lines are of the format."""

    format: Format
    prefixes: Prefixes
    form: LineForm
    times: Times
    rules: Rules
    fits: int
    of: int
    notes: tuple[str, ...]

    @property
    def is_usual(self) -> bool:
        """Whether lines may be of the form that contract/log_line.py reads, all of one site."""
        return self.form is USUAL and not self.prefixes.of and not self.rules.host_is_site and not self.times.hundredths

    def text(self) -> str:
        """For people: what was chosen, and how well it fits."""
        what = f"{self.format.name}{self.prefixes.text()}"
        return "; ".join([f"read as {what}: {self.fits:,} of the first {self.of:,} lines fit", *self.notes])


@dataclass(frozen=True)
class _Candidate:
    """What the sampled `texts` are, without the prefixes, if they are read by `form`; `of` is how many are no directives."""

    format: Format
    prefixes: Prefixes
    form: LineForm
    texts: list[str]
    logged: list[Logged]
    of: int
    layout: Layout

    @cached_property
    def clients(self) -> list[str]:
        """Where the lines say who asked."""
        if not self.format.is_clf:
            return [it.client for it in self.logged]
        number = 1 if self.layout is Layout.HOST_FIRST else 0
        return [first_fields(it.client)[number] for it in self.logged]

    @cached_property
    def addresses(self) -> int:
        """How many of them are addresses; many another word would pass for a host's name."""
        return sum(client_address(client, self.format.with_port) is not None for client in self.clients)


def text_of(line: bytes) -> str:
    r"""A line as text: bytes that are not UTF-8 become \xhh, as most servers write them themselves."""
    return line.decode("utf-8", "backslashreplace").rstrip()


def texts_of(sample: Sequence[bytes]) -> list[str]:
    """The lines of a sample that are not empty, as text."""
    texts = [text_of(line) for line in sample[:SAMPLE_LINES]]
    if texts:
        texts[0] = texts[0].removeprefix(_BYTE_ORDER_MARK)
    return [text for text in texts if text]


def detect(sample: Sequence[bytes], wanted: WantedLog) -> Detected:
    """How the log is read that begins with these lines; InputError if it cannot be counted, with the reason."""
    texts = texts_of(sample)
    named = [one for one in FORMATS if one.name == wanted.format]
    formats = named or [one for one in FORMATS if one.is_detected]
    tried = [_try(one, prefixes, texts, wanted) for prefixes in candidates(texts) for one in formats]
    best = max(tried, key=lambda it: (it.addresses, len(it.logged), len(it.prefixes.of)))
    if not best.logged:
        raise refusal(texts, {it.format.name: it.form for it in tried}, bool(named))
    return _detected(best, wanted)


def _try(one: Format, prefixes: Prefixes, texts: Sequence[str], wanted: WantedLog) -> _Candidate:
    own = [stripped for text in texts if (stripped := prefixes.strip(text)) is not None]
    form = _form(one, own, wanted)
    requests, logged = 0, []
    for text in own:
        # In this order: what a directive says holds for the lines behind it.
        if text[:1] == "#" and form.is_directive(text):
            continue
        requests += 1
        if (it := form.read(text)) is not None:
            logged.append(it)
    layout = one.layout or (layout_of([it.client for it in logged]) if one.is_clf else Layout.CLIENT_FIRST)
    return _Candidate(one, prefixes, form, own, logged, len(texts) - len(own) + requests, layout)


def _form(one: Format, texts: Sequence[str], wanted: WantedLog) -> LineForm:
    form = one.form(texts)
    return form.with_keys(wanted.keys) if isinstance(form, JsonForm) and wanted.keys else form


def _detected(best: _Candidate, wanted: WantedLog) -> Detected:
    one = best.format
    rules = _rules(best, wanted)
    zone = None if wanted.zone is None else zone_of(wanted.zone)
    is_zoned_clf = one.is_clf and not one.needs_zone
    hundredths = one.hundredths or (is_zoned_clf and all(is_in_hundredths(it.time) for it in best.logged))
    _require_events(best, rules, Times(zone or (UTC if one.needs_zone else None), hundredths))
    if one.needs_zone and zone is None:
        raise InputError(
            f"its lines are of format {one.name} ({one.writers}), whose times have no zone; say of which zone they are, as "
            "LOG_ZONE=Europe/Berlin, LOG_ZONE=UTC or LOG_ZONE=+02:00"
        )
    # A form that has read the sample may know of directives that come later in it.
    form, times = _form(one, best.texts, wanted), Times(zone, hundredths)
    return Detected(one, best.prefixes, form, times, rules, len(best.logged), best.of, _notes(best, rules, hundredths))


def _rules(best: _Candidate, wanted: WantedLog) -> Rules:
    logged = best.logged
    with_port = sum(client.count(":") == 1 and "." in client and address_of(client) is not None for client in best.clients)
    asked = [request for it in logged if (request := request_of(it.request)) is not None]
    paths = bool(asked) and sum(request.host is not None for request in asked) >= _NEARLY_ALL * len(asked)
    has_host = best.layout is not Layout.CLIENT_FIRST or paths or any(it.host for it in logged)
    return Rules(
        site=wanted.name if wanted.site is None else wanted.site,
        host_is_site=wanted.site is None and has_host,
        layout=best.layout,
        paths=paths,
        with_port=best.format.with_port or 2 * with_port > len(logged),
    )


def _require_events(best: _Candidate, rules: Rules, times: Times) -> None:
    """InputError if no line of the sample counts or is no request, though they fit."""
    events = Events(rules, Pseudonyms(""), times, Notes())
    made = [events.event("", it) for it in best.logged]
    rejected = [it for it in made if isinstance(it, Rejected) and it.reason != "not_a_request"]
    if len(rejected) < len(made):
        return
    why, _ = Counter(rejected).most_common(1)[0]
    advice = f"; {best.format.no_client}" if why is NO_CLIENT else ""
    raise InputError(f"its lines are of format {best.format.name}, but none counts: {why.detail}{advice}")


def _notes(best: _Candidate, rules: Rules, hundredths: bool) -> tuple[str, ...]:
    notes = {
        "the virtual host stands first": rules.layout is Layout.HOST_FIRST,
        "each host is a site of its own, unless SITE= says otherwise": rules.host_is_site,
        "absolute targets are counted as paths": rules.paths,
        "offsets are read as hundredths of an hour": hundredths,
        "it has no sizes, so bytes_sent is 0": all(it.size is None for it in best.logged),
    }
    return tuple(note for note, holds in notes.items() if holds)
