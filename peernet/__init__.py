"""peernet: peer-to-peer networking for ordinary, blocking Python.

Importing this package patches nothing and imports no gevent; names are loaded when
they are first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from peernet._version import __version__

if TYPE_CHECKING:  # the same names again, for type checkers and editors
    from peernet.address import PeerAddress
    from peernet.bans import Ban, Bans
    from peernet.broadcasting import Outcome
    from peernet.channel import PeerChannel
    from peernet.channel_state import ChannelState
    from peernet.config import NetworkConfig, limits
    from peernet.durable.outbox import DurableOutbox
    from peernet.durable.receipt import DurableReceipt
    from peernet.environment import check_environment
    from peernet.errors import PeerNetError
    from peernet.events import Event
    from peernet.handlers import InThreadpool, PacketHandleProtocol
    from peernet.identity import Identity
    from peernet.inbound import InboundConnectingPeersQueue, IncomingPeerConnectionAttempt
    from peernet.known_peers import KnownPeer, KnownPeers
    from peernet.network import PeerNetwork
    from peernet.peer import GenericPeer, IPeer
    from peernet.reasons import Reason
    from peernet.receipts import Receipt
    from peernet.routines import NetworkRoutines
    from peernet.trust import (
        BootstrapTrustPolicy,
        Decision,
        IdentifierOrigin,
        IncomingPeerMode,
        IncomingPeerTrustPolicy,
        LocalIdentifierSetPolicy,
        PeerNetworkTrustPolicy,
    )

# Public name -> the module it lives in.
_HOME = {
    "PeerAddress": "address",
    "Ban": "bans",
    "Bans": "bans",
    "ChannelState": "channel_state",
    "PeerChannel": "channel",
    "NetworkConfig": "config",
    "limits": "config",
    "DurableOutbox": "durable.outbox",
    "DurableReceipt": "durable.receipt",
    "check_environment": "environment",
    "PeerNetError": "errors",
    "Event": "events",
    "InThreadpool": "handlers",
    "PacketHandleProtocol": "handlers",
    "Identity": "identity",
    "InboundConnectingPeersQueue": "inbound",
    "IncomingPeerConnectionAttempt": "inbound",
    "KnownPeer": "known_peers",
    "KnownPeers": "known_peers",
    "Outcome": "broadcasting",
    "PeerNetwork": "network",
    "GenericPeer": "peer",
    "IPeer": "peer",
    "Reason": "reasons",
    "Receipt": "receipts",
    "NetworkRoutines": "routines",
    "BootstrapTrustPolicy": "trust",
    "Decision": "trust",
    "IdentifierOrigin": "trust",
    "IncomingPeerMode": "trust",
    "IncomingPeerTrustPolicy": "trust",
    "LocalIdentifierSetPolicy": "trust",
    "PeerNetworkTrustPolicy": "trust",
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
