"""ControlPackets: what the protocol itself has to say: acknowledgements, heartbeats and goodbyes."""

from __future__ import annotations

from peernet.channel.attachment import Attachment
from peernet.channel.callbacks import Callbacks
from peernet.channel.closing import Closing
from peernet.channel.lifecycle import Lifecycle
from peernet.channel.pings import Pings
from peernet.channel.reporter import Reporter
from peernet.channel.sender import Sender
from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.runtime.text import printable
from peernet.v1 import packet_pb2 as pb
from peernet.wire.session import REFUSALS_PER_PACKET, Session


class ControlPackets:
    """Deals with the control packets of one channel.

    Args:
        reporter: counts.
        lifecycle: where the channel stands.
        attachment: the link by which heartbeats are answered.
        session: the channel's; without one acknowledgements mean nothing.
        sender: takes the acknowledgements.
        pings: take the answers.
        callbacks: call back for a goodbye.
        closing: hears it.
    """

    __slots__ = ("_attachment", "_callbacks", "_closing", "_lifecycle", "_pings", "_reporter", "_sender", "_session")

    def __init__(
        self,
        *,
        reporter: Reporter,
        lifecycle: Lifecycle,
        attachment: Attachment,
        session: Session | None,
        sender: Sender,
        pings: Pings,
        callbacks: Callbacks,
        closing: Closing,
    ) -> None:
        self._reporter = reporter
        self._lifecycle = lifecycle
        self._attachment = attachment
        self._session = session
        self._sender = sender
        self._pings = pings
        self._callbacks = callbacks
        self._closing = closing

    def take(self, kind: str, packet: pb.Packet, size: int) -> None:
        """Deal with one, of so many bytes.

        Raises:
            RemoteProtocolError: it says what cannot be.
        """
        link = self._attachment.link
        if link.throttle is not None:
            link.throttle.charge(size)
        self.take_acknowledgement(packet)
        if not self._lifecycle.reading:
            return  # those who were told have ended the channel
        if kind == "heartbeat":
            self._pings.take(packet, self._attachment.link)
        elif kind == "disconnect":
            check_origin(kind, packet.source_origin_identifier, self._lifecycle.peer.identifier)
            self._take_goodbye(packet)

    def take_acknowledgement(self, packet: pb.Packet) -> None:
        """Take what a packet says about those that were sent.

        Raises:
            RemoteProtocolError: it says what cannot be.
        """
        if self._session is None:
            return
        if packet.HasField("acknowledge"):
            refusals = packet.acknowledge.refusals
            if len(refusals) > REFUSALS_PER_PACKET:
                raise RemoteProtocolError(f"a packet has {len(refusals)} refusals", Reason.BAD_PACKET)
            for one in refusals:
                self._sender.refuse(one.sequence, Reason.from_refusal_number(one.reason))
        self._sender.settle(packet.acknowledged)

    def _take_goodbye(self, packet: pb.Packet) -> None:
        # While the callback runs nothing can be sent any more.
        if self._closing.hear_goodbye(packet.disconnect):
            self._callbacks.call("disconnect", packet)


def check_origin(kind: str, origin: str, identifier: str) -> None:
    """Check that a packet names nobody but its sender as its origin.

    Raises:
        RemoteProtocolError: ``origin_mismatch``.
    """
    if origin not in ("", identifier):
        raise RemoteProtocolError(
            f"a packet of kind {kind} claims to be from {printable(origin)}", Reason.ORIGIN_MISMATCH
        )
