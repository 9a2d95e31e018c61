"""Handshaker: the hellos of one network, and the handshakes in which they are exchanged."""

from __future__ import annotations

from collections.abc import Callable

from peernet.config import NetworkConfig
from peernet.connections.gate import Gate
from peernet.connections.handshake import PROTOCOL_VERSION, HandshakeResult, shake_hands
from peernet.connections.tiebreak import Claim
from peernet.peers.address import MAX_LISTEN_ADDRESSES, PeerAddress, endpoint
from peernet.runtime.text import printable
from peernet.transport.base import Security, Transport
from peernet.v1 import packet_pb2 as pb
from peernet.wire.session import ACKNOWLEDGE_NOW


class Handshaker:
    """Does the handshakes of one network.

    Args:
        config: the limits.
        gate: decides who is wanted.
        network_name: only peers that give the same name are talked to.
        agent: what this program calls itself.
        insecure: whether nobody proves who they are.
        listening: the addresses that peers are told.

    Attributes:
        security: makes TLS of a connection; ``None`` for plain TCP.
    """

    def __init__(
        self,
        config: NetworkConfig,
        gate: Gate,
        network_name: str,
        agent: str,
        *,
        insecure: bool,
        listening: Callable[[], list[str]],
    ) -> None:
        self._config = config
        self._gate = gate
        self._network_name = network_name
        self._agent = printable(agent)
        self._insecure = insecure
        self._listening = listening
        self.security: Security | None = None

    def inbound(self, transport: Transport) -> HandshakeResult:
        """The handshake on a connection that the other side has made; see :func:`shake_hands`."""
        return self._shake_hands(transport, self._gate.complete_answer, dialled=False)

    def dialled(self, transport: Transport, address: PeerAddress) -> HandshakeResult:
        """The same on one that we have made to an address."""

        def complete(identifier: str, theirs: object, ours: pb.HelloPacket) -> Claim | None:
            return self._gate.complete_dial(identifier, ours)

        return self._shake_hands(transport, complete, dialled=True, pinned=address.identifier)

    def _shake_hands(
        self, transport: Transport, complete: Callable[..., Claim | None], *, dialled: bool, pinned: str | None = None
    ) -> HandshakeResult:
        claim: Claim | None = None

        def claiming(identifier: str, theirs: pb.HelloPacket | None, ours: pb.HelloPacket) -> None:
            nonlocal claim
            claim = complete(identifier, theirs, ours)

        admit = self._gate.admit if dialled else self._gate.admit_inbound
        try:
            result = shake_hands(
                transport,
                self.security,
                self._config,
                self._hello(transport),
                admit,
                dialled=dialled,
                pinned=pinned,
                complete=claiming,
                approach=admit,
            )
            result.claim, claim = claim, None
            return result
        finally:
            if claim is not None:  # the handshake has failed after all
                claim.release()

    def _hello(self, transport: Transport) -> pb.HelloPacket:
        return pb.HelloPacket(
            protocol_min=PROTOCOL_VERSION,
            protocol_max=PROTOCOL_VERSION,
            network_name=self._network_name,
            agent=self._agent,
            listen_addresses=self._listening()[:MAX_LISTEN_ADDRESSES],
            observed_address=endpoint(*transport.remote),
            heartbeat_interval_ms=round(self._config.heartbeat_interval * 1000),
            identifier=self._gate.identifier if self._insecure else "",
            max_frame=self._config.max_frame,
            capabilities=[ACKNOWLEDGE_NOW],
        )
