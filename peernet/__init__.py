"""peernet: peer-to-peer networking for ordinary, blocking Python.

Importing this package patches nothing and imports no gevent; names are loaded when
they are first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from peernet._version import __version__

if TYPE_CHECKING:  # the same names again, for type checkers and editors
    from peernet.channel.broadcast import Outcome as Outcome
    from peernet.channel.channel import PeerChannel as PeerChannel
    from peernet.channel.handlers import InThreadpool as InThreadpool
    from peernet.channel.handlers import PacketHandleProtocol as PacketHandleProtocol
    from peernet.channel.receipts import Receipt as Receipt
    from peernet.channel.state import ChannelState as ChannelState
    from peernet.config import NetworkConfig as NetworkConfig
    from peernet.config import limits as limits
    from peernet.durable.outbox import DurableOutbox as DurableOutbox
    from peernet.durable.receipt import DurableReceipt as DurableReceipt
    from peernet.environment import check_environment as check_environment
    from peernet.errors import PeerNetError as PeerNetError
    from peernet.network import PeerNetwork as PeerNetwork
    from peernet.peers.address import PeerAddress as PeerAddress
    from peernet.peers.address_book import KnownPeer as KnownPeer
    from peernet.peers.address_book import KnownPeers as KnownPeers
    from peernet.peers.identity import Identity as Identity
    from peernet.peers.peer import GenericPeer as GenericPeer
    from peernet.peers.peer import IPeer as IPeer
    from peernet.reasons import Reason as Reason
    from peernet.runtime.events import Event as Event
    from peernet.runtime.routines import NetworkRoutines as NetworkRoutines
    from peernet.switch.pending import InboundConnectingPeersQueue as InboundConnectingPeersQueue
    from peernet.switch.pending import IncomingPeerConnectionAttempt as IncomingPeerConnectionAttempt
    from peernet.trust.bans import Ban as Ban
    from peernet.trust.bans import Bans as Bans
    from peernet.trust.bootstrap_policy import BootstrapTrustPolicy as BootstrapTrustPolicy
    from peernet.trust.identifier_policy import IdentifierOrigin as IdentifierOrigin
    from peernet.trust.identifier_policy import LocalIdentifierSetPolicy as LocalIdentifierSetPolicy
    from peernet.trust.identifier_policy import PeerNetworkTrustPolicy as PeerNetworkTrustPolicy
    from peernet.trust.policy import Decision as Decision
    from peernet.trust.policy import IncomingPeerMode as IncomingPeerMode
    from peernet.trust.policy import IncomingPeerTrustPolicy as IncomingPeerTrustPolicy

# In full: type checkers read this list, and run nothing.
__all__ = [
    "Ban",
    "Bans",
    "BootstrapTrustPolicy",
    "ChannelState",
    "Decision",
    "DurableOutbox",
    "DurableReceipt",
    "Event",
    "GenericPeer",
    "IPeer",
    "IdentifierOrigin",
    "Identity",
    "InThreadpool",
    "InboundConnectingPeersQueue",
    "IncomingPeerConnectionAttempt",
    "IncomingPeerMode",
    "IncomingPeerTrustPolicy",
    "KnownPeer",
    "KnownPeers",
    "LocalIdentifierSetPolicy",
    "NetworkConfig",
    "NetworkRoutines",
    "Outcome",
    "PacketHandleProtocol",
    "PeerAddress",
    "PeerChannel",
    "PeerNetError",
    "PeerNetwork",
    "PeerNetworkTrustPolicy",
    "Reason",
    "Receipt",
    "__version__",
    "check_environment",
    "limits",
]

# Public name -> the module it lives in.
_HOME = {
    "Ban": "trust.bans",
    "Bans": "trust.bans",
    "BootstrapTrustPolicy": "trust.bootstrap_policy",
    "ChannelState": "channel.state",
    "Decision": "trust.policy",
    "DurableOutbox": "durable.outbox",
    "DurableReceipt": "durable.receipt",
    "Event": "runtime.events",
    "GenericPeer": "peers.peer",
    "IPeer": "peers.peer",
    "IdentifierOrigin": "trust.identifier_policy",
    "Identity": "peers.identity",
    "InThreadpool": "channel.handlers",
    "InboundConnectingPeersQueue": "switch.pending",
    "IncomingPeerConnectionAttempt": "switch.pending",
    "IncomingPeerMode": "trust.policy",
    "IncomingPeerTrustPolicy": "trust.policy",
    "KnownPeer": "peers.address_book",
    "KnownPeers": "peers.address_book",
    "LocalIdentifierSetPolicy": "trust.identifier_policy",
    "NetworkConfig": "config",
    "NetworkRoutines": "runtime.routines",
    "Outcome": "channel.broadcast",
    "PacketHandleProtocol": "channel.handlers",
    "PeerAddress": "peers.address",
    "PeerChannel": "channel.channel",
    "PeerNetError": "errors",
    "PeerNetwork": "network",
    "PeerNetworkTrustPolicy": "trust.identifier_policy",
    "Reason": "reasons",
    "Receipt": "channel.receipts",
    "check_environment": "environment",
    "limits": "config",
}


def __getattr__(name: str) -> object:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'peernet' has no attribute {name!r}") from None
    return getattr(import_module(f"peernet.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
