"""Changing the lists of a policy: what `trust`, `allow`, `block` and their opposites do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peernet.errors import ConfigurationError, PeerNetError, UnprovenPeerError
from peernet.node.directory import LEAST_FOR_DECISIONS, Directory, ip_network_of, is_address, listed_identifiers
from peernet.node.failures import RequestError
from peernet.node.settings import load_settings
from peernet.peers.address import PeerAddress
from peernet.peers.address_book import KnownPeer
from peernet.peers.identity import Identity
from peernet.peers.peer import GenericPeer
from peernet.runtime.text import short
from peernet.state.home import Home
from peernet.switch.stores import PEERS, TRUST
from peernet.trust.policy import Decision, HasTrust, IncomingPeerTrustPolicy

Change = Callable[[IncomingPeerTrustPolicy, str], IncomingPeerTrustPolicy]

CHANGES: dict[str, Change] = {
    "trust": lambda policy, entry: _check_not_blocked(policy, entry).adding(trusted_identifiers=entry),
    "untrust": lambda policy, entry: policy.removing(trusted_identifiers=entry),
    "allow": lambda policy, entry: policy.allowing(entry),
    "disallow": lambda policy, entry: policy.disallowing(entry),
    "block": lambda policy, entry: policy.blocking(entry),
    "unblock": lambda policy, entry: policy.unblocking(entry),
}
# These are about identities only.
ONLY_IDENTIFIERS = frozenset({"trust", "untrust"})
# Which list a command changes, and whether it adds an entry.
LISTS = {
    "trust": ("trusted", True),
    "untrust": ("trusted", False),
    "allow": ("allowed", True),
    "disallow": ("allowed", False),
    "block": ("blocked", True),
    "unblock": ("blocked", False),
}


class Assumed:
    """A channel that does not exist, with the trust that it would have."""

    def __init__(self, trusted: bool) -> None:
        self.trusted = trusted


def changed(policy: IncomingPeerTrustPolicy, command: str, entry: str) -> IncomingPeerTrustPolicy:
    """The policy after a command.

    Raises:
        ConfigurationError: the policy cannot be changed like this.
    """
    return CHANGES[command](policy, entry)


def unprovable() -> UnprovenPeerError:
    """The error to raise when somebody is to be trusted by a node on which nobody can prove who they are."""
    return UnprovenPeerError(
        "TLS is off on this node (insecure), so nobody can prove who they are or be trusted; run it without --insecure"
    )


def _check_not_blocked(policy: IncomingPeerTrustPolicy, identifier: str) -> IncomingPeerTrustPolicy:
    if identifier in policy.blocked_identifiers:
        name = short(identifier)
        raise ConfigurationError(f"{name} is blocked; `peernet-node unblock {name}` first, and then trust it")
    return policy


def entry_of(command: str, text: str, directory: Directory) -> str:
    """The entry of a list that is meant: an identifier, or where that makes sense a network.

    Raises:
        ConfigurationError: nothing is meant.
    """
    network = None if command in ONLY_IDENTIFIERS else ip_network_of(text)
    adds = LISTS[command][1]
    return network or directory.identifier(text, LEAST_FOR_DECISIONS if adds else 1)


def entries(policy: IncomingPeerTrustPolicy, which: str) -> list[dict[str, Any]]:
    """What is on a list, identifiers first, as plain values.

    Args:
        policy: whose.
        which: ``trusted``, ``allowed`` or ``blocked``.

    Raises:
        RequestError: there is no such list.
    """
    if which not in {name for name, _ in LISTS.values()}:
        raise RequestError(f"there is no list {which!r}")
    lists = policy.to_lists()
    found = [*lists[f"{which}_identifiers"], *lists.get(f"{which}_networks", ())]
    return [{"entry": entry} for entry in found]


def directory_of_home(home: Home, *, look_only: bool = True) -> Directory:
    """The peers that can be meant when no node runs on a home.

    Args:
        home: whose.
        look_only: leave damaged files where they are.
    """
    known = [(peer.identifier, peer.addresses) for peer in PEERS.load(home.peers_file, look_only=look_only)]
    listed = listed_identifiers(TRUST.load(home.trust_file, look_only=look_only))
    return Directory([*known, *((identifier, []) for identifier in listed)], _own_identifier(home))


def _own_identifier(home: Home) -> str:
    """Empty if there is no key yet, or none that can be read."""
    try:
        return Identity.load(home.folder).identifier
    except PeerNetError:
        return ""


def described_peer(
    text: str, directory: Directory, known: Callable[[str], KnownPeer | None], *, proven: bool
) -> GenericPeer:
    """The peer that is meant when it is not connected: what is known of it, and otherwise the best case.

    Args:
        text: what the user wrote.
        directory: who can be meant.
        known: looks a peer up.
        proven: whether a peer that connects has to prove who it is.
    """
    if is_address(text) and PeerAddress.parse(text).identifier is None:
        where = PeerAddress.parse(text)
        return GenericPeer("", where.host, where.port, proven)
    identifier = directory.identifier(text)
    entry = known(identifier)
    if is_address(text):
        where = PeerAddress.parse(text)
    elif entry is not None and entry.addresses:
        where = PeerAddress.parse(entry.addresses[0])
    else:
        where = PeerAddress("", 0)
    return GenericPeer(identifier, where.host, where.port, proven)


def explanation(policy: IncomingPeerTrustPolicy, peer: GenericPeer, channel: HasTrust | None = None) -> dict[str, Any]:
    """Every decision about a peer as plain values. Without a channel: as it would be when it connects."""
    seen = channel or Assumed(bool(policy.trusts(peer)))
    return {
        "peer": peer.identifier,
        "address": peer.endpoint if peer.address else "",
        "connected": channel is not None,
        "decisions": [_row(about, decision) for about, decision in policy.explain(peer, seen).items()],
    }


def _row(about: str, decision: Decision) -> dict[str, Any]:
    return {"about": about, "allowed": decision.allowed, "rule": decision.rule, "why": decision.why}


def change_home(home: Home, command: str, text: str) -> dict[str, Any]:
    """Change a list that no running node uses. The caller has locked the home.

    Raises:
        PeerNetError: nothing is meant, or the file cannot be written.
    """
    if command == "trust" and load_settings(home.config_file).insecure:
        raise unprovable()
    policy = TRUST.load(home.trust_file)
    entry = entry_of(command, text, directory_of_home(home, look_only=False))
    after = changed(policy, command, entry)
    TRUST.save(home.trust_file, after)
    return {"done": command, "entry": entry, "changed": after != policy}


def entries_of_home(home: Home, which: str) -> list[dict[str, Any]]:
    """What is on a list of a home on which no node runs."""
    return entries(TRUST.load(home.trust_file, look_only=True), which)


def explain_home(home: Home, text: str) -> dict[str, Any]:
    """What the lists of a home decide about a peer when no node runs.

    Raises:
        ConfigurationError: nobody is meant.
    """
    settings = load_settings(home.config_file)
    policy = settings.applied_to(TRUST.load(home.trust_file, look_only=True))
    known = {peer.identifier: peer for peer in PEERS.load(home.peers_file, look_only=True)}
    peer = described_peer(text, directory_of_home(home), known.get, proven=not settings.insecure)
    return explanation(policy, peer)
