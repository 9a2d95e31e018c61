"""Arbiter: of several connections with one peer, which one wins, and which session it goes on with.

Two peers that know each other never have two channels. A connection either continues the session of the channel that
is there, or takes the place of a channel that has died, or is refused. Before the hellos :class:`TieBreak` keeps two
connections from being made at once; what remains is decided here.

Of two connections between the same two peers both sides keep the one that the peer with the smaller identifier has
dialled; of two that the same side has dialled, the older one.
"""

from __future__ import annotations

from peernet.channel.channel import PeerChannel
from peernet.channel.control import ChannelControl
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.connections.refusal import Refusal
from peernet.connections.tiebreak import Claim, TieBreak
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import rng
from peernet.switch.table import ChannelTable
from peernet.v1 import packet_pb2 as pb


class Arbiter:
    """Decides between connections with the same peer. It moves channels out of the way, and opens none.

    Args:
        identifier: this node's own.
        config: ``duplicate_patience`` and ``session_ttl``.
        channels: those that are there.
    """

    def __init__(self, identifier: str, config: NetworkConfig, channels: ChannelTable) -> None:
        self._identifier = identifier
        self._config = config
        self._channels = channels
        self._claims = TieBreak(identifier)

    @property
    def undecided(self) -> int:
        """How many connections that others have dialled are past their hello, and neither open nor given up."""
        return self._claims.answered

    # Before our hello.

    def claim_dial(self, identifier: str, ours: pb.HelloPacket) -> Claim | None:
        """Before our hello to somebody whom we have dialled: say in it which session this may continue.

        There is nothing to claim if nobody knows yet who it is.

        Raises:
            Refusal: there is a better connection with this peer.
        """
        existing = self._channels.channel_to(identifier)
        if existing is not None and existing.state is not ChannelState.RECONNECTING:
            raise Refusal(Reason.DUPLICATE)
        claim = self._claims.dial(identifier) if identifier else None
        if identifier and claim is None:
            raise Refusal(Reason.DUPLICATE)
        self.name_session(existing, ours)
        return claim

    def claim_answer(self, identifier: str) -> Claim:
        """Before our answer to a peer that has dialled us.

        Raises:
            Refusal: another connection with this peer is being made, or waits for a decision, and that one goes on.
        """
        claim = self._claims.answer(identifier)
        if claim is None:
            raise Refusal(Reason.DUPLICATE)
        return claim

    def make_way(self, identifier: str, theirs: pb.HelloPacket) -> PeerChannel | None:
        """The channel that a peer's hello continues. Another one ends, if its peer shows no life, which is waited for.

        Raises:
            Refusal: a channel that lives is in the way.
        """
        control = self._channels.get(identifier)
        if control is None:
            return None
        existing = control.channel
        if existing.session is not None and existing.session.remembers(theirs):
            control.detach("the peer has made another connection")
            return existing if existing.state is ChannelState.RECONNECTING else None
        if not existing.peer.proven and existing.dialled:
            if self._keeps(existing, dialled=False):
                raise Refusal(Reason.DUPLICATE)
            return None  # dialled by both sides at once, and by nobody known: it is replaced when the other one opens
        if control.shows_life(self._config.duplicate_patience):
            raise Refusal(Reason.DUPLICATE)
        control.end(Reason.SESSION_LOST)
        return None

    def name_session(self, existing: PeerChannel | None, ours: pb.HelloPacket) -> None:
        """Say in our hello which session goes on, or begins."""
        if not self._config.session_ttl:
            return
        if existing is not None and existing.session is not None:
            existing.session.introduce(ours)
        else:
            ours.session_id = rng.randbits(64) or 1

    # After the hellos.

    def find_resumed(self, result: HandshakeResult) -> ChannelControl:
        """The channel that a connection continues, as its two hellos say.

        Raises:
            Refusal: it is gone: the channel has ended meanwhile, or both sides have dialled at once, and this
                connection is of an older session.
        """
        control = self._channels.get(result.peer.identifier)
        session = None if control is None else control.channel.session
        if control is None or session is None or not session.remembers(result.hello):
            raise Refusal(Reason.SESSION_LOST)
        return control

    def find_better(self, peer: GenericPeer, *, dialled: bool) -> ChannelControl | None:
        """The channel that is kept, and not a connection with its peer that has passed the handshake since.

        Args:
            peer: the peer.
            dialled: whether this side has made the connection.
        """
        control = self._channels.get(peer.identifier)
        if control is None:
            return None
        existing = control.channel
        if dialled and existing.state is not ChannelState.OPEN:
            return None
        return control if peer.proven or self._keeps(existing, dialled=dialled) else None

    def _keeps(self, existing: PeerChannel, *, dialled: bool) -> bool:
        """Whether a new connection has to give way to a channel, by the rule for peers that have proven nothing."""
        if existing.state is ChannelState.CLOSING:
            return False
        return existing.dialled == dialled or self._dialled_by_smaller(existing)

    def _dialled_by_smaller(self, channel: PeerChannel) -> bool:
        return channel.dialled == (self._identifier < channel.peer.identifier)
