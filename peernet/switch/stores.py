"""What a network remembers from one run to the next: whom it trusts, whom it knows, and who is banned."""

from __future__ import annotations

from peernet.peers.address_book import KnownPeer, KnownPeers
from peernet.state.home import Home
from peernet.state.savers import FollowingFile
from peernet.state.stores import Store
from peernet.trust.bans import Ban, Bans
from peernet.trust.policy import LISTS, IncomingPeerTrustPolicy

TRUST: Store[IncomingPeerTrustPolicy] = Store(
    LISTS,
    lambda policy: dict(policy.to_lists()),
    IncomingPeerTrustPolicy.from_lists,
    IncomingPeerTrustPolicy,
)
"""The lists of a policy; its other rules are settings."""

PEERS: Store[list[KnownPeer]] = Store(
    ("peers",),
    lambda peers: {"peers": [peer.to_dict() for peer in peers]},
    lambda plain: [KnownPeer.from_dict(entry) for entry in plain["peers"]],
    list,
)
"""The known peers, the one not seen for longest first."""

BANS: Store[list[Ban]] = Store(
    ("bans",),
    lambda bans: {"bans": [ban.to_dict() for ban in bans]},
    lambda plain: [Ban.from_dict(entry) for entry in plain["bans"]],
    list,
)


def address_book_file(home: Home, known_peers: KnownPeers) -> FollowingFile[list[KnownPeer]]:
    """Writes the known peers to a home folder when they have changed."""
    return FollowingFile(
        "known peers", home.peers_file, PEERS.save, lambda: list(known_peers), lambda: known_peers.revision
    )


def bans_file(home: Home, bans: Bans) -> FollowingFile[list[Ban]]:
    """Writes the bans to a home folder when they have changed."""
    return FollowingFile("bans", home.bans_file, BANS.save, lambda: list(bans), lambda: bans.revision)
