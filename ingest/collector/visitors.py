"""Whose event it is that does not say: a pseudonym of the client's address, or nobody's who asks not to be followed.

The address is judged from behind. Each proxy of one's own writes at the end of X-Forwarded-For whom it heard, so the last
entries are true, and what stands before them anybody may have written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.formats.clients import Pseudonyms, client_address

NOT_FOLLOWED = "not-followed"
"""The one visitor that all are together who ask not to be followed, or of whom no address is known."""
_WISHES = (b"dnt", b"sec-gpc")


def wants_not_to_be_followed(headers: Mapping[bytes, bytes]) -> bool:
    """Whether Do Not Track or Global Privacy Control is on."""
    return any(headers.get(name, b"").strip() == b"1" for name in _WISHES)


def client_of(forwarded: Sequence[str], peer: str | None, proxies: int) -> str | None:
    """The address of who asked first of all, spelled one way; None if it is not known.

    `forwarded` are the lines of X-Forwarded-For, `peer` opened the connection, `proxies` of one's own are on the way.
    """
    way = [entry.strip() for line in forwarded for entry in line.split(",")] + [peer or ""]
    # guard: an address is taken from behind
    text = way[max(0, len(way) - 1 - proxies)]
    return client_address(text) if text else None


class Visitors:
    """Gives clients their pseudonyms, the same as in logs that are counted under the same key."""

    def __init__(self, pseudonyms: Pseudonyms, proxies: int) -> None:
        self._pseudonyms, self._proxies = pseudonyms, proxies

    def of(self, forwarded: Sequence[str], peer: str | None) -> str:
        """The visitor_id of a client's events that have none."""
        address = client_of(forwarded, peer, self._proxies)
        return NOT_FOLLOWED if address is None else self._pseudonyms.of(address)
