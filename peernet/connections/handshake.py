"""The handshake: TLS, then one hello each way, all before anything else may happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
from gevent.event import Event
from google.protobuf.message import Message

from peernet.config import NetworkConfig
from peernet.connections.refusal import Refusal
from peernet.connections.tiebreak import Claim
from peernet.errors import (
    IdentityMismatchError,
    PeerNetError,
    RefusedByPeerError,
    RemoteProtocolError,
    TransportError,
)
from peernet.peers.address import is_identifier, listen_hints
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime.text import printable
from peernet.transport.base import Security, Transport
from peernet.transport.foreign import BEGINNING, not_peernet, protocol_of
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, max_frame_of
from peernet.wire.disconnect import refusal_packet
from peernet.wire.framing import MAX_VARINT
from peernet.wire.packets import decode, encode_body, encode_header, peek

PROTOCOL_VERSION = 1


# complete(identifier, theirs, ours): see Handshake.
Complete = Callable[[str, "pb.HelloPacket | None", pb.HelloPacket], None]


@dataclass
class HandshakeResult:
    """What a handshake has established.

    ``hello`` is the peer's and ``ours`` what we have said; ``claim`` is to be released
    when the connection is taken over or given up.
    """

    peer: GenericPeer
    transport: Transport
    connection: Connection
    hello: pb.HelloPacket
    ours: pb.HelloPacket = field(default_factory=pb.HelloPacket)
    claim: Claim | None = None


class Handshake:
    """One handshake over a connected transport.

    It waits for the other side for as long as it takes, so bound it from outside.

    Args:
        transport: connected, and through its TLS handshake if it has one.
        config: the limits.
        hello: what this side says.
        complete: adds to the hello, just before it is sent, what depends on the peer. It
            is given the peer's identifier, empty if it is not known yet, and the peer's
            hello if that has come; it raises :class:`Refusal` if this connection is not
            wanted beside another one.
    """

    def __init__(
        self, transport: Transport, config: NetworkConfig, hello: pb.HelloPacket, complete: Complete | None = None
    ) -> None:
        self._transport = transport
        self._hello = hello
        self._complete = complete
        self._beginning = b""  # of what the other side has sent
        self._longest = MAX_VARINT + config.max_handshake_frame
        self._connection = Connection(
            max_handshake_frame=config.max_handshake_frame,
            max_frame=config.max_frame,
            max_control_packet=config.max_control_packet,
        )

    def as_dialler(
        self,
        pinned: str | None,
        admit: Callable[[GenericPeer], None],
        approach: Callable[[GenericPeer], None] | None = None,
    ) -> HandshakeResult:
        """Speak first, then hear who answers.

        Args:
            pinned: the only identifier accepted, or ``None``.
            admit: raises :class:`Refusal` if the peer is not wanted.
            approach: the same, asked before a word is said, if TLS has told by then who it is.

        Raises:
            IdentityMismatchError: somebody else answered.
            RefusedByPeerError: the peer said no.
            Refusal: this side said no.
            RemoteProtocolError, TransportError: the other side broke the protocol, or the connection.
        """
        self._check_pin(pinned, self._transport.identifier)
        if approach is not None and self._transport.identifier is not None:
            known = GenericPeer(self._transport.identifier, *self._transport.remote)
            self._ask(known.identifier, approach, known)
        identifier = self._transport.identifier or pinned or ""
        self._ask(identifier, self._fill, identifier, None)
        self._send(self._hello)
        theirs = self._receive_hello()
        peer = self._judge(theirs)
        self._check_pin(pinned, peer.identifier)
        self._ask(peer.identifier, admit, peer)
        return HandshakeResult(peer, self._transport, self._connection, theirs, self._hello)

    def as_listener(self, admit: Callable[[GenericPeer], None]) -> HandshakeResult:
        """Hear who calls, then answer or refuse.

        Raises:
            Refusal: this side said no; the caller has been told.
            RefusedByPeerError: the caller left again.
            RemoteProtocolError, TransportError: the other side broke the protocol, or the connection.
        """
        theirs = self._receive_hello()
        peer = self._judge(theirs)
        self._ask(peer.identifier, admit, peer)
        self._ask(peer.identifier, self._fill, peer.identifier, theirs)
        self._send(self._hello)
        return HandshakeResult(peer, self._transport, self._connection, theirs, self._hello)

    def _receive_hello(self) -> pb.HelloPacket:
        try:
            packet = self._receive()
            self._check_origin(packet)
            max_frame_of(packet.hello)
        except RemoteProtocolError as error:
            self._dismiss(refusal_packet(error.reason, str(error)))
            raise RemoteProtocolError(self._explain(error), error.reason) from error
        except TransportError as error:
            raise TransportError(self._explain(error)) from error
        except gevent.Timeout:
            self._dismiss(refusal_packet(Reason.HANDSHAKE_TIMEOUT))
            raise
        if packet.HasField("disconnect"):
            refused = _refused_by_peer(packet.disconnect)
            refused.identifier = self._transport.identifier or ""
            raise refused
        return packet.hello

    def _check_beginning(self) -> None:
        """No hello begins as other protocols do; what is taken for its length could be waited for in vain."""
        if protocol_of(self._beginning):
            raise RemoteProtocolError("no hello came", Reason.BAD_PACKET)

    def _explain(self, error: PeerNetError) -> str:
        return not_peernet(self._beginning, str(error), encrypted=self._transport.identifier is not None)

    def _receive(self) -> pb.Packet:
        """The one packet that may come now: the state table lets no other through."""
        connection = self._connection
        # Ends: each turn reads a byte at least, and the decoder refuses what is longer than the longest hello.
        while True:
            for frame in connection.decoder.frames():
                kind = peek(frame)
                connection.received(kind, len(frame))
                return decode(frame)
            # No more than the longest hello: what follows it can wait in the socket until it is known from whom.
            buffer = bytearray(self._longest - connection.decoder.buffered)
            count = self._transport.recv_into(memoryview(buffer))
            if not count:
                raise TransportError("the other side hung up during the handshake")
            if not self._beginning:
                self._beginning = bytes(buffer[: min(count, BEGINNING)])
                self._check_beginning()
            connection.decoder.receive_data(bytes(buffer[:count]))

    def _check_origin(self, packet: pb.Packet) -> None:
        origin = packet.source_origin_identifier
        if origin and origin != (self._transport.identifier or packet.hello.identifier):
            raise RemoteProtocolError(f"a hello claims to be from {printable(origin)}", Reason.ORIGIN_MISMATCH)

    def _judge(self, theirs: pb.HelloPacket) -> GenericPeer:
        """The peer that a hello describes, if the two sides fit together."""
        try:
            if not theirs.protocol_min <= PROTOCOL_VERSION <= theirs.protocol_max:
                raise Refusal(
                    Reason.WRONG_VERSION,
                    f"this node speaks protocol version {PROTOCOL_VERSION}, "
                    f"the other {theirs.protocol_min} to {theirs.protocol_max}",
                )
            if theirs.network_name != self._hello.network_name:
                raise Refusal(Reason.WRONG_NETWORK)
            return self._peer(theirs)
        except Refusal as refusal:
            self._dismiss(refusal.goodbye)
            raise

    def _peer(self, theirs: pb.HelloPacket) -> GenericPeer:
        proven = self._transport.identifier
        if proven is None and not is_identifier(theirs.identifier):
            raise Refusal(Reason.BAD_PACKET, "without TLS a hello must carry an identifier")
        if proven is not None and theirs.identifier not in ("", proven):
            raise Refusal(Reason.ORIGIN_MISMATCH, "the hello names another identifier than the certificate")
        host, port = self._transport.remote
        return GenericPeer(
            identifier=proven or theirs.identifier,
            address=host,
            port=port,
            proven=proven is not None,
            agent=printable(theirs.agent),
            listen_addresses=listen_hints(theirs.listen_addresses),
        )

    def _fill(self, identifier: str, theirs: pb.HelloPacket | None) -> None:
        if self._complete is not None:
            self._complete(identifier, theirs, self._hello)

    def _ask(self, identifier: str, decide: Callable[..., None], *arguments: object) -> None:
        """Let the network decide about a peer; tell the peer if it is refused."""
        try:
            decide(*arguments)
        except Refusal as refusal:
            refusal.identifier = identifier
            self._dismiss(refusal.goodbye)
            raise

    def _check_pin(self, pinned: str | None, identifier: str | None) -> None:
        if pinned is not None and identifier is not None and identifier != pinned:
            raise IdentityMismatchError(
                f"the address names {pinned}, but {identifier} answered; "
                "the peer has a new key, or somebody is in between"
            )

    def _dismiss(self, goodbye: pb.DisconnectPacket) -> None:
        try:
            self._send(goodbye)
            self._transport.finish_writing()
        except (TransportError, PeerNetError):
            return  # it is gone already

    def _send(self, body: Message) -> None:
        encoded = encode_body(body)
        self._connection.sent(encoded[0])
        data = memoryview(encode_header(encoded) + encoded[2])
        while data:  # ends: each turn sends something, or waits until it can; the deadline is around the handshake
            data = data[self._transport.send(data) :]
            if data:
                writable = Event()
                self._transport.when_writable(writable.set)
                writable.wait()


def shake_hands(
    raw: Transport,
    security: Security | None,
    config: NetworkConfig,
    hello: pb.HelloPacket,
    admit: Callable[[GenericPeer], None],
    *,
    dialled: bool,
    pinned: str | None = None,
    complete: Complete | None = None,
    approach: Callable[[GenericPeer], None] | None = None,
) -> HandshakeResult:
    """The whole handshake over a connected transport: TLS unless ``security`` is ``None``, then the hellos.

    Raises:
        IdentityError: the other side's key is of a type that peers do not use.
        As :meth:`Handshake.as_dialler` and :meth:`Handshake.as_listener`.
    """
    transport = security.wrap(raw, dialled=dialled) if security else raw
    handshake = Handshake(transport, config, hello, complete)
    try:
        return handshake.as_dialler(pinned, admit, approach) if dialled else handshake.as_listener(admit)
    except (RemoteProtocolError, Refusal) as error:
        error.culprit = transport.identifier or ""
        raise


def _refused_by_peer(goodbye: pb.DisconnectPacket) -> RefusedByPeerError:
    reason = Reason.from_number(goodbye.reason)
    said = f" ({printable(goodbye.message)})" if goodbye.message not in ("", reason.sentence) else ""
    return RefusedByPeerError(
        f"the peer refused the connection: {reason.sentence}{said}",
        reason,
        goodbye.retry_after_ms / 1000,
        goodbye.do_not_redial,
    )
