"""Trust: who is admitted, and which packets are permitted. Values in, decisions out.

Two gates, two verbs: :meth:`IncomingPeerTrustPolicy.admits` once per connection,
:meth:`IncomingPeerTrustPolicy.permits` for every packet. Policies are immutable;
changing one means making another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from peernet.errors import ConfigurationError, TrustPolicyConflictError
from peernet.peers.address import is_identifier
from peernet.peers.ip_networks import IpNetworks
from peernet.peers.peer import IPeer
from peernet.wire.packets import KINDS

DEFAULT_COMMUNICATION = frozenset({"pure_message"})
"""Kinds that ``allow_default_communication`` permits to untrusted peers."""

CONTROL = frozenset(kind.name for kind in KINDS.values() if kind.control)
"""Kinds that are never gated: without them no connection can live or end."""


@dataclass(frozen=True)
class Decision:
    """Yes or no, and which rule said so. Its truth value is the answer.

    Attributes:
        allowed: the answer.
        rule: the rule's name, stable, for programs.
        why: one sentence for people.
    """

    allowed: bool
    rule: str
    why: str

    def __bool__(self) -> bool:
        return self.allowed


class HasTrust(Protocol):
    """What :meth:`IncomingPeerTrustPolicy.permits` looks at: a channel, usually."""

    @property
    def trusted(self) -> bool: ...


class IncomingPeerMode(Enum):
    """What happens to an inbound peer before its channel opens.

    ``EVENT_BASED`` asks the listeners of ``incoming_peer_connection_attempt``;
    ``QUEUE_BASED`` holds it in the queue until somebody decides;
    ``QUEUE_AND_EVENT_BASED`` does both.
    """

    EVENT_BASED = "event"
    QUEUE_BASED = "queue"
    QUEUE_AND_EVENT_BASED = "both"


@dataclass(frozen=True)
class IncomingPeerTrustPolicy:
    """Whom to let in and what to take from them.

    Attributes:
        allow_default_communication: untrusted peers may send text messages.
        allow_enhanced_packet_exchange: untrusted peers may send every other kind too.
        incoming_peer_placement: see :class:`IncomingPeerMode`.
        run_default_trust_protocol: run the network's trust protocol when a channel opens.
        trusted_identifiers: peers whose channels open trusted.
        allowed_identifiers: if not empty, only these peers are admitted.
        blocked_identifiers: never admitted; blocking beats allowing.
        allowed_networks: if not empty, only peers from these networks (CIDR) are admitted.
        blocked_networks: never admitted.

    Raises:
        ConfigurationError: something that is no identifier or no network.
        TrustPolicyConflictError: an identifier is both trusted and blocked.
    """

    allow_default_communication: bool = True
    allow_enhanced_packet_exchange: bool = False
    incoming_peer_placement: IncomingPeerMode = IncomingPeerMode.EVENT_BASED
    run_default_trust_protocol: bool = True
    trusted_identifiers: frozenset[str] = frozenset()
    allowed_identifiers: frozenset[str] = frozenset()
    blocked_identifiers: frozenset[str] = frozenset()
    allowed_networks: frozenset[str] = frozenset()
    blocked_networks: frozenset[str] = frozenset()

    if TYPE_CHECKING:  # in truth the dataclass makes it, and the sets of any collections are made below

        def __init__(
            self,
            allow_default_communication: bool = True,
            allow_enhanced_packet_exchange: bool = False,
            incoming_peer_placement: IncomingPeerMode = IncomingPeerMode.EVENT_BASED,
            run_default_trust_protocol: bool = True,
            trusted_identifiers: Collection[str] = frozenset(),
            allowed_identifiers: Collection[str] = frozenset(),
            blocked_identifiers: Collection[str] = frozenset(),
            allowed_networks: Collection[str] = frozenset(),
            blocked_networks: Collection[str] = frozenset(),
        ) -> None: ...

    def __post_init__(self) -> None:
        for item in fields(self):
            _check_kind(item.name, getattr(self, item.name), type(item.default))
            if isinstance(item.default, frozenset):
                object.__setattr__(self, item.name, _checked_set(item.name, getattr(self, item.name)))
        both = self.trusted_identifiers & self.blocked_identifiers
        if both:
            raise TrustPolicyConflictError(f"{min(both)} is both trusted and blocked; remove it from one of the lists")
        # Parsed now, so that a wrong network is an error here and not at the first connection.
        self._blocked, self._allowed  # noqa: B018

    @cached_property
    def _blocked(self) -> IpNetworks:
        return IpNetworks(self.blocked_networks)

    @cached_property
    def _allowed(self) -> IpNetworks:
        return IpNetworks(self.allowed_networks)

    def admits(self, peer: IPeer) -> Decision:
        """Whether a peer may have a connection.

        Ask with an empty identifier before the handshake: then the address alone
        decides. Ask again with the proven identifier after it.
        """
        address = self._admits_address(peer.address)
        return self._admits_identifier(peer) if address and peer.identifier else address

    def permits(self, kind: str, channel: HasTrust) -> Decision:
        """Whether a packet of this kind may be taken from this channel."""
        if kind in CONTROL:
            return Decision(True, "control_packet", "Control packets are never gated.")
        if channel.trusted:
            return Decision(True, "trusted_channel", "The channel is trusted.")
        if kind in DEFAULT_COMMUNICATION:
            return _switch("allow_default_communication", self.allow_default_communication, "text messages")
        return _switch("allow_enhanced_packet_exchange", self.allow_enhanced_packet_exchange, f"{kind} packets")

    def permitted_kinds(self, channel: HasTrust) -> frozenset[str]:
        """The kinds that :meth:`permits` allows on this channel as things stand."""
        return frozenset(kind for kind in KINDS if self.permits(kind, channel))

    def trusts(self, peer: IPeer) -> Decision:
        """Whether a peer's channel opens trusted: only a proven identifier on the list does."""
        if peer.identifier not in self.trusted_identifiers:
            return Decision(False, "not_in_trusted_identifiers", "The identifier is not on the list of trusted peers.")
        if not peer.proven:
            return Decision(False, "unproven_identifier", "The identifier is only a claim, because TLS is off.")
        return Decision(True, "trusted_identifiers", "The identifier is on the list of trusted peers.")

    def lists(self, peer: IPeer) -> bool:
        """Whether a peer is on a list that lets it in: by its proven identifier or, if it has none yet, by address."""
        if peer.identifier and peer.proven:
            return peer.identifier in self.trusted_identifiers or peer.identifier in self.allowed_identifiers
        return peer.address in self._allowed

    def to_lists(self) -> dict[str, list[str]]:
        """The entries of every list, as plain values."""
        return {name: sorted(getattr(self, name)) for name in LISTS}

    @classmethod
    def from_lists(cls, lists: Mapping[str, Any]) -> IncomingPeerTrustPolicy:
        """The default policy with the lists that :meth:`to_lists` has described; a list that is missing is empty.

        Raises:
            ConfigurationError, TrustPolicyConflictError, TypeError: it is damaged.
        """
        entries: dict[str, Any] = {name: frozenset(lists.get(name, ())) for name in LISTS}
        return cls(**entries)

    def adding(self, **lists: str) -> IncomingPeerTrustPolicy:
        """A policy with one more entry in each named list: ``policy.adding(blocked_identifiers=x)``."""
        return self._changed({name: getattr(self, name) | {entry} for name, entry in lists.items()})

    def removing(self, **lists: str) -> IncomingPeerTrustPolicy:
        """A policy with one entry less in each named list; an entry that is not there is no error."""
        return self._changed({name: getattr(self, name) - {entry} for name, entry in lists.items()})

    def blocking(self, entry: str) -> IncomingPeerTrustPolicy:
        """A policy that blocks one more identifier or network; a blocked identifier is not trusted either."""
        if is_identifier(entry):
            return self.removing(trusted_identifiers=entry).adding(blocked_identifiers=entry)
        return self.adding(blocked_networks=entry)

    def unblocking(self, entry: str) -> IncomingPeerTrustPolicy:
        """A policy that no longer blocks an identifier or network."""
        return self.removing(blocked_identifiers=entry, blocked_networks=entry)

    def allowing(self, entry: str) -> IncomingPeerTrustPolicy:
        """A policy with one more identifier or network on its allowlist."""
        if is_identifier(entry):
            return self.adding(allowed_identifiers=entry)
        return self.adding(allowed_networks=entry)

    def disallowing(self, entry: str) -> IncomingPeerTrustPolicy:
        """A policy with one identifier or network less on its allowlist."""
        return self.removing(allowed_identifiers=entry, allowed_networks=entry)

    def explain(self, peer: IPeer, channel: HasTrust) -> dict[str, Decision]:
        """Every decision about a peer, with the rule that makes it: ``admitted``, ``trusted``, and each kind."""
        decisions = {"admitted": self.admits(peer), "trusted": self.trusts(peer)}
        return decisions | {kind: self.permits(kind, channel) for kind in KINDS}

    def _changed(self, lists: dict[str, frozenset[str]]) -> IncomingPeerTrustPolicy:
        return replace(self, **lists)  # type: ignore[arg-type]

    def _admits_address(self, host: str) -> Decision:
        if host in self._blocked:
            return Decision(False, "blocked_networks", f"The address {host} is in a blocked network.")
        if self._allowed and host not in self._allowed:
            return Decision(False, "allowed_networks", f"The address {host} is in none of the allowed networks.")
        return Decision(True, "address_admitted", "No rule on addresses forbids it.")

    def _admits_identifier(self, peer: IPeer) -> Decision:
        if peer.identifier in self.blocked_identifiers:
            return Decision(False, "blocked_identifiers", "The identifier is blocked.")
        if not self.allowed_identifiers:
            return Decision(True, "no_allowlist", "It is not blocked, and no allowlist is in force.")
        if not peer.proven:
            return Decision(
                False, "unproven_identifier", "An allowlist is in force and the identifier is a mere claim."
            )
        if peer.identifier not in self.allowed_identifiers:
            return Decision(False, "allowed_identifiers", "An allowlist is in force and the identifier is not on it.")
        return Decision(True, "allowed_identifiers", "The identifier is on the allowlist.")


LISTS = tuple(item.name for item in fields(IncomingPeerTrustPolicy) if isinstance(item.default, frozenset))
"""The names of the lists of a policy."""


def _switch(rule: str, allowed: bool, what: str) -> Decision:
    verb = "lets" if allowed else "does not let"
    return Decision(allowed, rule, f"{rule} is {allowed}: it {verb} untrusted peers send {what}.")


def _check_kind(name: str, value: object, kind: type) -> None:
    """Refuse ``"no"`` where ``False`` is meant: a text that is not empty counts as true."""
    if kind is not frozenset and not isinstance(value, kind):
        raise ConfigurationError(f"{name} takes a {kind.__name__}, not {value!r}")


def _checked_set(name: str, value: Any) -> frozenset[str]:
    if isinstance(value, str):
        raise ConfigurationError(f"{name} takes a set of texts, not one text")
    entries = frozenset(value)
    if name.endswith("identifiers"):
        wrong = [entry for entry in entries if not (isinstance(entry, str) and is_identifier(entry))]
        if wrong:
            raise ConfigurationError(f"{wrong[0]!r} in {name} is not an identifier (52 characters of lowercase base32)")
    return entries
