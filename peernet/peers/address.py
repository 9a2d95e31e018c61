"""Peer addresses: ``host:port``, and ``peer://<identifier>@host:port`` with a pinned identity."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice

from peernet.errors import AddressError

# What a peer says of its addresses is kept up to here (libp2p keeps 64 addresses per peer).
MAX_LISTEN_ADDRESSES = 8
IDENTIFIER = re.compile(r"[a-z2-7]{52}\Z")
_ADDRESS = re.compile(
    r"(?:peer://)?(?:(?P<identifier>[^@/]*)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]/@\s]+)):(?P<port>[0-9]{1,5})/?\Z"
)


@dataclass(frozen=True)
class PeerAddress:
    """Where a peer is, and optionally who must be there.

    Attributes:
        host: an IP address or a name; IPv6 without brackets, with its scope id if it has one.
        port: 0 to 65535; 0 only for listening, where the system chooses.
        identifier: if not ``None``, the only identity accepted at this address.
    """

    host: str
    port: int
    identifier: str | None = None

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """Read ``host:port``, ``[v6]:port``, ``peer://host:port`` or ``peer://identifier@host:port``.

        Raises:
            AddressError: the text is none of these.
        """
        match = _ADDRESS.match(text)
        if match is None or int(match["port"]) > 65535 or not _may_exist(match["v6"], match["host"]):
            raise AddressError(
                f"{text!r} is not a peer address; write host:port, [ipv6]:port or peer://identifier@host:port"
            )
        return cls(match["v6"] or match["host"], int(match["port"]), _checked(match["identifier"], text))

    @property
    def endpoint(self) -> str:
        """``host:port``, with brackets around IPv6."""
        return endpoint(self.host, self.port)

    def __str__(self) -> str:
        return f"peer://{self.identifier}@{self.endpoint}" if self.identifier else f"peer://{self.endpoint}"


def endpoint(host: str, port: int) -> str:
    """``host:port``, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def prefix_of(host: str, ipv4: int, ipv6: int) -> str | None:
    """The network that an IP address is in, for counting all of it as one; ``None`` if the text is no IP address.

    Args:
        host: the address; see :func:`parse_ip`.
        ipv4: the length of the prefix if it is IPv4; with 32 the address itself is returned.
        ipv6: the length if it is IPv6.
    """
    address = parse_ip(host)
    if address is None:
        return None
    length = ipv6 if isinstance(address, IPv6Address) else ipv4
    return str(address) if length == address.max_prefixlen else str(ip_network((address, length), strict=False))


def parse_ip(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that ``host`` is; ``None`` if it is a name.

    IPv4 within IPv6 (``::ffff:192.0.2.1``, RFC 4291 2.5.5.2) becomes IPv4, which it is. A scope id
    (``fe80::1%eth0``, RFC 4007) is left out: it says through which of this machine's interfaces, not who.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def listen_hints(texts: Iterable[str]) -> tuple[str, ...]:
    """Of the addresses a peer says it listens on: those that are addresses in ASCII, a few of them.

    A name in other letters can be said in ASCII (RFC 5890), and to check one of the length
    of a hello takes 30 ms.
    """
    return tuple(text for text in islice(texts, MAX_LISTEN_ADDRESSES) if text.isascii() and _is_address(text))


def _is_address(text: str) -> bool:
    try:
        PeerAddress.parse(text)
    except AddressError:
        return False
    return True


def is_identifier(text: str) -> bool:
    """Whether ``text`` has the form of an identifier: 52 characters of lowercase base32 (RFC 4648)."""
    return IDENTIFIER.match(text) is not None


def _may_exist(v6: str | None, host: str) -> bool:
    """Whether this is an IPv6 address, or a name that could be looked up."""
    try:
        IPv6Address(v6) if v6 else host.encode("idna")
    except ValueError:
        return False
    return True


def _checked(identifier: str | None, text: str) -> str | None:
    if identifier is not None and not is_identifier(identifier):
        raise AddressError(
            f"{text!r} pins {identifier!r}, which is not an identifier; "
            "`peernet-node id` on the peer prints the right one"
        )
    return identifier
