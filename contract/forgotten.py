"""What was taken back: statements, in order, of what is forgotten, and the rule that follows from them.

A statement says what it is about only as keyed digests, so that the fact stays and what it was does not. Whether a record is
forgotten follows from the record and the statements alone, so archiver and speed layer judge alike, whenever it comes.

Of a site or a visitor all is forgotten that happened before `until_us`; what happens later is new. Of a source it is what
has its ids. A record that is no event is forgotten if it names what was forgotten, and no later time.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.columns import integers
from contract.errors import ForgottenKeyLost
from contract.event import Decoded
from contract.event_time import BadTime, time_us
from contract.offset_set import Offsets
from contract.source_ids import SourceIds

FOLDER = "forgotten"
"""Where the statements are, below the archive's root: see ingest/forgotten_log.py."""
KEY = "forgotten_key"
"""The secret that digests are keyed with."""
KNOWING = ["offset", "event_id", "event_time", "site", "visitor_id"]
"""The columns of events that say whether they are forgotten."""
REJECTS_KNOWING = ["offset", "kafka_time", "value"]
"""Those of rejects."""
FOR_EVER_US = (1 << 63) - 1
Kind = Literal["site", "visitor", "source", "lift"]
_DIGEST_CHARACTERS = 32
_ID = r"^(?s:(.*)):([0-9]{1,18})$"
_CLIENT_WITHIN = 2_048
"""So many characters of a line are looked through: each address costs some microseconds, and a line may be full of them."""
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{3,45}")
_NAMED = re.compile(r'"(event_id|site|visitor_id)"\s*:\s*"((?:[^"\\]|\\.)*)"')
_text = msgspec.json.Decoder(str).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Digest(msgspec.Struct, frozen=True, array_like=True):
    """One thing that is forgotten: of a source only ids whose byte offset is in [first, after), if `after` is given."""

    of: str
    first: int = 0
    after: int | None = None


class Statement(msgspec.Struct, frozen=True):
    """The `number`-th, said at `said_at` (RFC 3339). A lift takes back statement `lifts`; the others forget `digests`.

    `key_check` says which key the digests are of. `until_us` is the time, in microseconds since 1970, before which events of
    a site or visitor are forgotten.
    """

    number: int
    kind: Kind
    said_at: str
    key_check: str
    until_us: int = 0
    digests: tuple[Digest, ...] = ()
    lifts: int | None = None
    events: int = 0
    rejects: int = 0
    """So many the archive had of it when it was said, repeats among them."""


class Done(msgspec.Struct, frozen=True):
    """No file of the archive holds what a statement forgets, since this time (RFC 3339)."""

    done_at: str


class Said(msgspec.Struct, frozen=True):
    """All statements, by number, and which of them the archive's files keep to."""

    statements: tuple[Statement, ...] = ()
    done: tuple[tuple[int, Done], ...] = ()

    @property
    def version(self) -> int:
        """The last statement's number."""
        return self.statements[-1].number if self.statements else 0

    @property
    def unfinished(self) -> list[Statement]:
        """Those of which files may still hold what they forget, or one of a pair may: whether they are lifted or not."""
        finished = {number for number, _ in self.done}
        # guard: what was lifted half way is ended too
        return [one for one in self.statements if one.kind != "lift" and one.number not in finished]


class Keyed:
    """Digests under one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self.check = self.digest("key", "")

    def digest(self, kind: str, text: str) -> str:
        """Of a text as what it is: a site, a visitor, a client's address or a source."""
        message = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()[:_DIGEST_CHARACTERS]

    def of_source(self, ids: SourceIds) -> tuple[Digest, ...]:
        """What a statement says of a source."""
        return tuple(Digest(self.digest("source", part.source), part.first_byte, part.next_byte) for part in ids.parts)


class Rules:
    """Which records are forgotten by these statements. ForgottenKeyLost if one that is not lifted is of another key."""

    def __init__(self, statements: Sequence[Statement] = (), key: str = "") -> None:
        self.version = statements[-1].number if statements else 0
        self._keyed = Keyed(key)
        lifted = {one.lifts for one in statements}
        # guard: a lifted statement forgets nothing
        standing = [one for one in statements if one.kind != "lift" and one.number not in lifted]
        for one in standing:
            # guard: digests are of this key
            if one.key_check != self._keyed.check:
                raise ForgottenKeyLost(KEY, one.number, one.said_at)
        self._until: dict[str, int] = {}
        for one in (one for one in standing if one.kind != "source"):
            for digest in one.digests:
                self._until[digest.of] = max(one.until_us, self._until.get(digest.of, 0))
        self._kinds = {one.kind for one in standing}
        self._latest_us = max((one.until_us for one in standing if one.kind != "source"), default=0)
        self._sources: dict[str, list[Digest]] = {}
        for digest in (digest for one in standing if one.kind == "source" for digest in one.digests):
            self._sources.setdefault(digest.of, []).append(digest)

    def __bool__(self) -> bool:
        """Whether anything is forgotten."""
        return bool(self._kinds)

    def events(self, events: pl.DataFrame) -> NDArray[np.bool_]:
        """Which of the events, with the columns KNOWING, are forgotten."""
        forgotten = np.zeros(len(events), np.bool_)
        if not self or not len(events):
            return forgotten
        times_us = integers(events["event_time"])
        # guard: what happens later is new
        early = np.flatnonzero(times_us < self._latest_us)
        for kind, name in (("site", "site"), ("visitor", "visitor_id")):
            if kind in self._kinds and len(early):
                until_us = self._until_of(kind, events[name][early])
                forgotten[early] |= times_us[early] < until_us
        if self._sources:
            forgotten |= self._of_sources(events["event_id"])
        return forgotten

    def rejects(self, rejects: pl.DataFrame) -> NDArray[np.bool_]:
        """Which of the rejects, with columns `value` and `kafka_time`, are forgotten."""
        if not self or not len(rejects):
            return np.zeros(len(rejects), np.bool_)
        came_us = rejects["kafka_time"].dt.epoch("us").to_list()
        return np.fromiter(map(self._is_forgotten, rejects["value"].to_list(), came_us), np.bool_, len(rejects))

    def keep(self, decoded: Decoded) -> tuple[Decoded, Offsets]:
        """What is not forgotten of some records, and the offsets of what is."""
        gone, gone_rejects = self.events(decoded.events), self.rejects(decoded.rejects)
        if not gone.any() and not gone_rejects.any():
            return decoded, np.zeros(0, np.int64)
        kept = Decoded(decoded.events.filter(~gone), decoded.rejects.filter(~gone_rejects), decoded.follows[~gone])
        offsets = [decoded.events["offset"].filter(gone), decoded.rejects["offset"].filter(gone_rejects)]
        return kept, np.concatenate([part.to_numpy() for part in offsets])

    def _until_of(self, kind: str, texts: pl.Series) -> NDArray[np.int64]:
        different = texts.unique()
        until_us = [self._until.get(self._keyed.digest(kind, text), 0) for text in different.to_list()]
        return texts.replace_strict(different, pl.Series(until_us, dtype=pl.Int64)).to_numpy()

    def _of_sources(self, ids: pl.Series) -> NDArray[np.bool_]:
        parts = pl.DataFrame(
            {"source": ids.str.extract(_ID, 1), "byte": ids.str.extract(_ID, 2).cast(pl.Int64)}
        ).with_row_index("at")
        found = np.zeros(len(ids), np.bool_)
        for (source,), some in parts.drop_nulls().group_by("source"):
            for digest in self._sources.get(self._keyed.digest("source", str(source)), ()):
                found[some["at"].to_numpy()] |= some["byte"].is_between(*_bounds(digest), closed="left").to_numpy()
        return found

    def _is_forgotten(self, value: bytes | None, came_us: int) -> bool:
        """What can be read in a value that is no event: its fields, or a client's address.

        One that is none because its time is too far ahead did not happen after it came.
        """
        if not value:
            return False
        text = value.decode("utf-8", "replace")
        fields = _fields_of(value, text)
        happened_us = _time_us(fields.get("event_time", ""))
        named = {("site", fields.get("site")), ("visitor", fields.get("visitor_id"))}
        if "visitor" in self._kinds and "visitor_id" not in fields:
            # guard: a client is looked for in a log's line as the log has it
            named |= {("client", client) for client in _clients_in(fields.get("line", text))}
        for kind, what in named:
            until_us = self._until.get(self._keyed.digest(kind, what), 0) if what else 0
            # guard: what has no time is forgotten whenever it comes
            if until_us and (happened_us is None or min(happened_us, came_us) < until_us):
                return True
        # guard: a log's line that is no event has the id that its event would have had
        event_id = fields.get("event_id") or fields.get("at", "")
        source = re.fullmatch(_ID, event_id) if self._sources else None
        return source is not None and self.forgets_id(source[1], int(source[2]))

    def forgets_id(self, source: str, byte: int) -> bool:
        """Whether the id `source:byte` is one of a source that is forgotten."""
        digests = self._sources.get(self._keyed.digest("source", source), ())
        return any(low <= byte < high for low, high in map(_bounds, digests))

    def forgets_site(self, site: str, time_us: int) -> bool:
        """Whether an event of a site is forgotten that happens at a time in microseconds since 1970."""
        return time_us < self._until.get(self._keyed.digest("site", site), 0)


def _time_us(text: str) -> int | None:
    try:
        return time_us(text)
    except BadTime:
        return None


def plain_client(text: str) -> str:
    """A client as digests know it: an address in its shortest spelling, a host name as it is."""
    try:
        address = ip_address(text)
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        return text


def _bounds(digest: Digest) -> tuple[int, int]:
    return digest.first, FOR_EVER_US if digest.after is None else digest.after


def _fields_of(value: bytes, text: str) -> dict[str, str]:
    """The texts of a JSON object; of what is none the fields that can be read in it."""
    found: dict[str, str] = {}
    try:
        named: Iterable[tuple[str, msgspec.Raw | bytes]] = _object(value).items()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        named = [(name, b'"%s"' % quoted.encode()) for name, quoted in _NAMED.findall(text)]
    for name, raw in named:
        try:
            found[name] = _text(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return found


def _clients_in(text: str) -> set[str]:
    """Addresses in the beginning of a line, with a port or without, and its first word, where a log has the client."""
    found = _ADDRESS.findall(text[:_CLIENT_WITHIN])
    spelled = {*found, *(one.strip(".:") for one in found), *(one.rpartition(":")[0] for one in found)}
    return {plain_client(word) for word in (*spelled, *text.split(None, 1)[:1]) if word}
