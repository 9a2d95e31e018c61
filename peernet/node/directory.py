"""What users may write for a peer: identifier, unambiguous prefix, or address."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import TYPE_CHECKING

from peernet.errors import AddressError, ConfigurationError
from peernet.peers.address import PeerAddress, is_identifier
from peernet.runtime.text import short

if TYPE_CHECKING:
    from peernet.trust.policy import IncomingPeerTrustPolicy

# What the beginning of an identifier looks like.
_BEGINNING = re.compile(r"[a-z2-7]{1,52}\Z")
# What decides about somebody's access takes no less of an identifier: a slip of a letter must not name another.
LEAST_FOR_DECISIONS = 4
# Identifiers listed in the message about an ambiguous prefix.
MAX_LISTED = 5


class Directory:
    """The peers that can be meant.

    Args:
        peers: pairs of an identifier and the ``host:port`` texts that lead to it.
        own: the identifier of this node, which is no peer of its own; empty if it is not known.
    """

    def __init__(self, peers: Iterable[tuple[str, Iterable[str]]], own: str = "") -> None:
        self._own = own
        self._endpoints: dict[str, set[str]] = {}
        for identifier, endpoints in peers:
            self._endpoints.setdefault(identifier, set()).update(endpoints)

    def identifier(self, text: str, least: int = 1) -> str:
        """The identifier that is meant. One that is written out in full need not be known.

        Args:
            text: what a user wrote.
            least: how many letters of an identifier it takes.

        Raises:
            ConfigurationError: nobody is meant, it could be several, or it is this node itself.
        """
        if is_address(text):
            return self.check_other(self._at(PeerAddress.parse(text)))
        if is_identifier(text):
            return self.check_other(text)
        found = self._only(
            [known for known in self._endpoints if text and known.startswith(text)],
            f"no known peer has an identifier that starts with {text!r}; `peernet-node peers` lists them",
        )
        if len(text) < least:
            raise ConfigurationError(
                f"{text!r} is too short for a decision; write at least {least} letters of {short(found)}"
            )
        return self.check_other(found)

    def check_other(self, identifier: str) -> str:
        """The identifier, if it is not this node's own.

        Raises:
            ConfigurationError: it is.
        """
        if identifier == self._own:
            raise ConfigurationError(f"{short(identifier)} is this node itself; name another one")
        return identifier

    def extended(self, identifiers: Iterable[str]) -> Directory:
        """One with some more peers, whose addresses are not known."""
        return Directory([*self._endpoints.items(), *((identifier, ()) for identifier in identifiers)], self._own)

    def _at(self, address: PeerAddress) -> str:
        if address.identifier is not None:
            return address.identifier
        return self._only(
            [known for known, endpoints in self._endpoints.items() if address.endpoint in endpoints],
            f"no known peer is at {address.endpoint}; give its identifier, or meet it first: "
            f"`peernet-node ping {address.endpoint}`",
        )

    def _only(self, found: list[str], otherwise: str) -> str:
        if not found:
            raise ConfigurationError(otherwise)
        if len(found) > 1:
            listed = ", ".join(sorted(found)[:MAX_LISTED])
            raise ConfigurationError(f"{len(found)} peers can be meant ({listed}); write more of the identifier")
        return found[0]


def listed_identifiers(policy: IncomingPeerTrustPolicy) -> frozenset[str]:
    """The peers that are on a list of the policy."""
    return policy.trusted_identifiers | policy.allowed_identifiers | policy.blocked_identifiers


def is_address(text: str) -> bool:
    """Whether the text can only be meant as an address: identifiers have no such characters."""
    return ":" in text or "@" in text


def ip_network_of(text: str) -> str | None:
    """The network that is meant, in its usual form; ``None`` if the text is no IP address or network.

    Raises:
        ConfigurationError: it looks like one, but is wrong.
    """
    try:
        return str(ip_network(text))
    except ValueError as error:
        if "/" in text and not text.startswith("peer://"):
            raise ConfigurationError(_network_mistake(text)) from error
        return None


def _network_mistake(text: str) -> str:
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is not a network; write 10.0.0.0/8 or 2001:db8::/32"
    return f"{text!r} is an address within a network; write {meant} for the network, or the address alone"


def check_peer(text: str, otherwise: str = "") -> str:
    """The text, if it can be meant as a peer at all.

    Args:
        text: what a user wrote.
        otherwise: what else they may write there, for the error.

    Raises:
        AddressError: it cannot.
    """
    if is_address(text):
        PeerAddress.parse(text)
        return text
    return check_beginning(text, otherwise)


def check_beginning(text: str, otherwise: str = "") -> str:
    """The text, if an identifier could begin with it; the arguments are those of :func:`check_peer`.

    Raises:
        AddressError: none does.
    """
    if _BEGINNING.match(text):
        return text
    if _BEGINNING.match(text.lower()):
        raise AddressError(f"{text!r} has capital letters; identifiers are written in small ones")
    raise AddressError(f"{text!r} is no peer; write an identifier, the beginning of one, or host:port{otherwise}")


def check_listen(text: str) -> str:
    """The text, if it is an address that a node could listen on.

    Raises:
        AddressError: it is not.
    """
    try:
        PeerAddress.parse(text)
    except AddressError as error:
        raise AddressError(f"{text!r} is not an address to listen on; write host:port or [ipv6]:port") from error
    return text
