"""Gate: what the acceptor and the handshaker ask about a connection. The switch answers."""

from __future__ import annotations

from typing import Protocol

from peernet.connections.handshake import HandshakeResult
from peernet.connections.tiebreak import Claim
from peernet.peers.peer import GenericPeer
from peernet.trust.policy import Decision
from peernet.v1 import packet_pb2 as pb


class Gate(Protocol):
    """The decisions about one connection, in the order in which they are asked for."""

    @property
    def identifier(self) -> str:
        """This node's own."""

    def admits_address(self, peer: GenericPeer) -> Decision:
        """Whether somebody who has connected is heard at all. Only the address is known."""

    def admit(self, peer: GenericPeer) -> None:
        """Pass if a peer that we have dialled is wanted.

        Raises:
            Refusal: it is not.
        """

    def admit_inbound(self, peer: GenericPeer) -> None:
        """Pass if a peer that has dialled us is wanted.

        Raises:
            Refusal: it is not.
        """

    def complete_dial(self, identifier: str, ours: pb.HelloPacket) -> Claim | None:
        """Just before our hello to somebody whom we have dialled: say in it which session this may continue.

        Raises:
            Refusal: there is a better connection with this peer.
        """

    def complete_answer(self, identifier: str, theirs: pb.HelloPacket, ours: pb.HelloPacket) -> Claim:
        """Just before our answer to a peer: say in it whether its hello continues a session.

        Raises:
            Refusal: there is a better connection with this peer, or no room.
        """

    def knows(self, identifier: str) -> bool:
        """Whether a peer was here before."""

    def welcome(self, result: HandshakeResult) -> None:
        """Decide about a peer that has dialled us, and take it over; this may wait for an operator.

        Raises:
            Refusal: what the connection was to continue is gone.
        """

    def blame(self, peer: GenericPeer, reason: str) -> object:
        """Take note of who was sent away, and why. The peer has an identifier if it was proven."""
