"""Who asked: a client as a server writes it, spelled one way, and the pseudonym that it gets before Kafka."""

from __future__ import annotations

import re
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET6, inet_ntop, inet_pton

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_NUMBERS_AND_DOTS = re.compile(r"[0-9.]+")
_LONGEST = 253
_BLOCK_BYTES = 64  # of SHA-256
_PSEUDONYM_LENGTH = 32
# What servers write where they know no client: most of them, Python's, nginx of a socket, Java's, node's, proxies, Go's.
_NOBODY = frozenset({"-", "None", "unix:", "null", "(null)", "undefined", "unknown", "@", ""})
# Our own list: which addresses Python calls private differs from version to version.
_OWN = tuple(
    map(
        ip_network,
        (
            *(
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "127.0.0.0/8",
                "169.254.0.0/16",
                "100.64.0.0/10",
                "0.0.0.0/8",
            ),
            *("::1/128", "::/128", "fe80::/10", "fc00::/7"),
        ),
    )
)


def address_of(text: str, with_port: bool = False) -> str | None:
    """The address, spelled one way on any Python; None if it is none. It may be in brackets, with a port, mapped or scoped.

    `with_port` says that each address has one, also `v6:port` without brackets.
    """
    address = _address(text, with_port)
    return None if address is None else str(address)


def first_public(texts: list[str]) -> str | None:
    """Of the addresses of an X-Forwarded-For, the first that is not of a network of one's own, or else the first."""
    addresses = [address for text in texts if (address := _address(text.strip(), False)) is not None]
    public = [address for address in addresses if not any(_is_in(address, network) for network in _OWN)]
    return str((public or addresses)[0]) if addresses else None


def client_address(text: str, with_port: bool = False) -> str | None:
    """The address of what stands in a client's place: it, in quotes or not, or of a list the one that first_public takes."""
    if _IPV4.fullmatch(text) or (":" in text and not with_port and _is_spelled_so(text)):
        return text  # nearly all are
    text = text.strip('"')
    return first_public(text.split(",")) if "," in text else address_of(text, with_port)


def client_name(text: str) -> str | None:
    """The name of a host in a client's place, as it is written; None if it is none."""
    text = text.strip('"')
    is_name = _HOST_NAME.fullmatch(text) and not _NUMBERS_AND_DOTS.fullmatch(text) and len(text) <= _LONGEST
    return text if is_name and text not in _NOBODY else None


def site_of(host: str) -> str | None:
    """The site that a host is: in lower case, without port; None if the text is no host."""
    if host in _NOBODY:
        return None
    name = host.strip('"').lower()
    if not name.startswith("[") and name.count(":") <= 1:
        name = name.partition(":")[0]
    name = name.removesuffix(".")
    if (address := address_of(name)) is not None:
        return address
    is_name = _HOST_NAME.fullmatch(name) and not _NUMBERS_AND_DOTS.fullmatch(name) and len(name) <= _LONGEST
    return name if is_name else None


class Pseudonyms:
    """Clients' pseudonyms under one key, so no address leaves this object."""

    def __init__(self, key: str) -> None:
        secret = key.encode()
        block = (secret if len(secret) <= _BLOCK_BYTES else sha256(secret).digest()).ljust(_BLOCK_BYTES, b"\0")
        # Both digests of an HMAC (RFC 2104) begin with the key: so far they are made once, which is half of the work.
        self._inner, self._outer = (sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))

    def of(self, client: str) -> str:
        """HMAC-SHA256 of an address or a name, cut to 32 hex digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(client.encode())
        outer.update(inner.digest())
        return outer.hexdigest()[:_PSEUDONYM_LENGTH]


def _address(text: str, with_port: bool) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        inside, closed, port = text[1:].partition("]")
        text = inside if closed and (not port or _is_port(port)) else ""
    elif with_port or (text.count(":") == 1 and "." in text):
        before, _, port = text.rpartition(":")
        if port.isdecimal() and (address := _parsed(before)) is not None:
            return address
    return _parsed(text.partition("%")[0])


def _is_spelled_so(text: str) -> bool:
    """Whether it is an IPv6 address as this module writes it. It may be one if not: of the mapped ones it knows none."""
    try:
        return "." not in text and inet_ntop(AF_INET6, inet_pton(AF_INET6, text)) == text
    except (OSError, ValueError):
        return False


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    if ":" not in text and not _NUMBERS_AND_DOTS.fullmatch(text):
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isdecimal()


def _is_in(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network
