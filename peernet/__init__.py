"""peernet: peer-to-peer networking for ordinary, blocking Python.

Importing this package patches nothing and imports no gevent; names are loaded when
they are first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from peernet._version import __version__

if TYPE_CHECKING:  # the same names again, for type checkers and editors
    from peernet.channel.broadcast import Outcome
    from peernet.channel.channel import PeerChannel
    from peernet.channel.handlers import InThreadpool, PacketHandleProtocol
    from peernet.channel.receipts import Receipt
    from peernet.channel.state import ChannelState
    from peernet.config import NetworkConfig, limits
    from peernet.durable.outbox import DurableOutbox
    from peernet.durable.receipt import DurableReceipt
    from peernet.environment import check_environment
    from peernet.errors import PeerNetError
    from peernet.network import PeerNetwork
    from peernet.peers.address import PeerAddress
    from peernet.peers.address_book import KnownPeer, KnownPeers
    from peernet.peers.identity import Identity
    from peernet.peers.peer import GenericPeer, IPeer
    from peernet.reasons import Reason
    from peernet.runtime.events import Event
    from peernet.runtime.routines import NetworkRoutines
    from peernet.switch.pending import InboundConnectingPeersQueue, IncomingPeerConnectionAttempt
    from peernet.trust.bans import Ban, Bans
    from peernet.trust.bootstrap_policy import BootstrapTrustPolicy
    from peernet.trust.identifier_policy import IdentifierOrigin, LocalIdentifierSetPolicy, PeerNetworkTrustPolicy
    from peernet.trust.policy import Decision, IncomingPeerMode, IncomingPeerTrustPolicy

# Public name -> the module it lives in.
_HOME = {
    "PeerAddress": "peers.address",
    "Ban": "trust.bans",
    "Bans": "trust.bans",
    "ChannelState": "channel.state",
    "PeerChannel": "channel.channel",
    "NetworkConfig": "config",
    "limits": "config",
    "DurableOutbox": "durable.outbox",
    "DurableReceipt": "durable.receipt",
    "check_environment": "environment",
    "PeerNetError": "errors",
    "Event": "runtime.events",
    "InThreadpool": "channel.handlers",
    "PacketHandleProtocol": "channel.handlers",
    "Identity": "peers.identity",
    "InboundConnectingPeersQueue": "switch.pending",
    "IncomingPeerConnectionAttempt": "switch.pending",
    "KnownPeer": "peers.address_book",
    "KnownPeers": "peers.address_book",
    "Outcome": "channel.broadcast",
    "PeerNetwork": "network",
    "GenericPeer": "peers.peer",
    "IPeer": "peers.peer",
    "Reason": "reasons",
    "Receipt": "channel.receipts",
    "NetworkRoutines": "runtime.routines",
    "BootstrapTrustPolicy": "trust.bootstrap_policy",
    "Decision": "trust.policy",
    "IdentifierOrigin": "trust.identifier_policy",
    "IncomingPeerMode": "trust.policy",
    "IncomingPeerTrustPolicy": "trust.policy",
    "LocalIdentifierSetPolicy": "trust.identifier_policy",
    "PeerNetworkTrustPolicy": "trust.identifier_policy",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604  # all keys are texts


def __getattr__(name: str) -> object:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'peernet' has no attribute {name!r}") from None
    return getattr(import_module(f"peernet.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
