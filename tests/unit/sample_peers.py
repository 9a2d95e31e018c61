"""Peers and channels for tests, without a connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from peernet.channel.state import ChannelState
from peernet.peers.peer import GenericPeer

ALICE, BOB, CAROL = (letter * 52 for letter in "abc")


def peer_at(
    address: str = "192.0.2.1", identifier: str = ALICE, *, proven: bool = True, port: int = 4000
) -> GenericPeer:
    """A peer at an address."""
    return GenericPeer(identifier, address, port, proven)


@dataclass(eq=False)
class FakeChannel:
    """As much of a channel as policies, callbacks and tables look at."""

    trusted: bool = False
    peer: GenericPeer = field(default_factory=peer_at)
    dialled: bool = False
    state: ChannelState = ChannelState.OPEN
