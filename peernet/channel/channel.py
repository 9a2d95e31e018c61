"""PeerChannel: a channel to one peer, as programs see it. It outlives its connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any

import gevent
from google.protobuf.message import Message

from peernet.channel.attachment import Attachment
from peernet.channel.callbacks import Callbacks
from peernet.channel.closing import Closing
from peernet.channel.handlers import PacketHandleProtocol, check_handlers
from peernet.channel.lifecycle import Lifecycle
from peernet.channel.liveness import Liveness
from peernet.channel.ownership import Ownership
from peernet.channel.permissions import Permissions
from peernet.channel.pings import Pings
from peernet.channel.receipts import Receipt
from peernet.channel.reporter import Reporter
from peernet.channel.sender import Sender
from peernet.channel.state import ChannelState
from peernet.errors import PingTimeout, UnprovenPeerError
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.callables import check_callable
from peernet.runtime.threads import at_home
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import encode_body, encode_reply
from peernet.wire.session import Session


class PeerChannel:
    """A channel to one peer.

    Made by :class:`~peernet.network.PeerNetwork`, once the peer is known. Packets are
    handled one after the other in the channel's own greenlet, so a callback that
    takes its time slows this peer down and no other. When the connection is lost, the
    channel waits for another one, and neither side loses a packet.

    Attributes:
        peer: who is at the other end.
        dialled: whether this side made the first connection.
        session: the numbering that outlives connections; ``None`` if one of the sides keeps none. Only to look at.
    """

    # Slots, because a table of attributes for each instance costs more than all of them (1.3 KiB, measured).
    __slots__ = (
        "__dict__",  # for the data, which most channels have not
        "__weakref__",
        "_attachment",
        "_callbacks",
        "_closing",
        "_home",
        "_lifecycle",
        "_liveness",
        "_ownership",
        "_permissions",
        "_pings",
        "_reporter",
        "_sender",
        "dialled",
        "peer",
        "session",
    )

    def __init__(
        self,
        *,
        dialled: bool,
        lifecycle: Lifecycle,
        ownership: Ownership,
        attachment: Attachment,
        session: Session | None,
        sender: Sender,
        pings: Pings,
        liveness: Liveness,
        permissions: Permissions,
        callbacks: Callbacks,
        reporter: Reporter,
        closing: Closing,
    ) -> None:
        self.peer: GenericPeer = lifecycle.peer
        self.dialled = dialled
        self.session = session
        self._home = ownership.home
        self._lifecycle = lifecycle
        self._ownership = ownership
        self._attachment = attachment
        self._sender = sender
        self._pings = pings
        self._liveness = liveness
        self._permissions = permissions
        self._callbacks = callbacks
        self._reporter = reporter
        self._closing = closing

    def __repr__(self) -> str:
        return self._lifecycle.label

    # What there is to see.

    @property
    def identifier(self) -> str:
        """Who is at the other end; ``peer`` says more."""
        return self.peer.identifier

    @property
    def state(self) -> ChannelState:
        """Where the channel stands; see :class:`ChannelState`."""
        return self._lifecycle.state

    @property
    def reason(self) -> Reason | None:
        """Why the channel ended; ``None`` while it lives. :attr:`reason_text` says more."""
        return self._lifecycle.reason

    @property
    def reason_text(self) -> str:
        """One sentence more about :attr:`reason`, if there is one; the peer's, if it has ended the channel."""
        return self._lifecycle.reason_text

    @property
    def ended_by_peer(self) -> bool:
        """Whether the peer said goodbye."""
        return self._lifecycle.ended_by_peer

    @property
    def retry_after(self) -> float:
        """Seconds that a peer who said goodbye asks to wait before it is dialled again."""
        return self._lifecycle.retry_after

    @property
    def do_not_redial(self) -> bool:
        """Whether a peer who said goodbye asks not to be dialled again."""
        return self._lifecycle.do_not_redial

    @property
    def opened_at(self) -> float | None:
        """Monotonic seconds when the channel opened; ``None`` if it never did."""
        return self._lifecycle.opened_at

    @property
    def connected_at(self) -> float:
        """Monotonic seconds when the present connection was made."""
        return self._attachment.connected_at

    @property
    def last_received(self) -> float:
        """Monotonic seconds when bytes last arrived."""
        return self._attachment.link.last_received

    @property
    def progressed(self) -> bool:
        """Whether a packet was acknowledged by the peer, or handled, since the present connection was made."""
        return self.received > 0 if self.session is None else self.session.progressed

    @property
    def patience(self) -> float:
        """Seconds of silence after which the peer counts as dead, at least twice what it promised to keep."""
        return self._liveness.patience

    @property
    def trusted(self) -> bool:
        """Whether every kind of packet is permitted."""
        return self._permissions.trusted

    @property
    def received(self) -> int:
        """How many packets have reached their callback."""
        return self._callbacks.received

    @property
    def queued_packets(self) -> int:
        """Packets that wait to be written."""
        return self._attachment.link.outbox.packets

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self._attachment.link.outbox.bytes

    @property
    def counters(self) -> Counter[str]:
        """How many of what has happened, for example ``refused``."""
        return self._reporter.counters

    # What is the program's.

    @cached_property
    def data(self) -> dict[Any, Any]:
        """Yours; peernet never touches it."""
        return {}

    @property
    def handlers(self) -> PacketHandleProtocol[PeerChannel]:
        """Callbacks of this channel only; they go before the network's."""
        if self._callbacks.handlers is None:
            self._callbacks.handlers = PacketHandleProtocol(defaults=False)
            self._callbacks.handlers.belong_to(self._home)
        return self._callbacks.handlers

    @handlers.setter
    @at_home
    def handlers(self, handlers: PacketHandleProtocol[PeerChannel]) -> None:
        check_handlers(handlers)
        handlers.belong_to(self._home)
        self._callbacks.handlers = handlers

    # What a program can do.

    def send(self, message: Message, *, timeout: float | None = None) -> Receipt:
        """Queue a message such as ``PureMessagePacket(message="hello")``.

        Waits while the outbox is full, or too much is not acknowledged. In one of this
        channel's own callbacks it never waits, because reading must not depend on
        writing: a reserve takes the packet. While the channel is reconnecting, packets
        are accepted and kept.

        Args:
            message: the body of a packet.
            timeout: longest wait in seconds; ``None`` means ``config.send_timeout``.

        Returns:
            What becomes of the packet.

        Raises:
            ChannelClosedError: the channel is not open.
            SendTimeout: there was no room in time.
            OutboxFullError: in a callback, when the reserve is used up too.
            PacketTooBigError: the peer does not accept frames of this size.
            LocalProtocolError: the message is not a body, or one that channels send themselves.
            WrongThreadError: called in another native thread than the network's.
        """
        return self._sender.send(encode_body(message), timeout)

    def try_send(self, message: Message) -> Receipt:
        """As :meth:`send`, but never waits.

        Raises:
            OutboxFullError: there is no room now.
        """
        return self._sender.send(encode_body(message), 0)

    def send_text(self, text: str, *, timeout: float | None = None) -> Receipt:
        """Send a text, as :meth:`send` sends ``PureMessagePacket(message=text)``."""
        return self.send(pb.PureMessagePacket(message=text), timeout=timeout)

    def send_data(self, data: bytes, name: str = "", *, timeout: float | None = None) -> Receipt:
        """Send bytes, as :meth:`send` sends a ``DataTransmissionPacket`` whose format is ``MISC_DATA``.

        They have to fit into one frame (1 MiB by default), and an untrusted peer is usually not permitted to send any.

        Args:
            data: what to send.
            name: text that is shown for it; never a path.
            timeout: as of :meth:`send`.
        """
        body = pb.DataTransmissionPacket(format=pb.DATA_PAYLOAD_FORMAT_MISC_DATA, data=data, name=name)
        return self.send(body, timeout=timeout)

    def reply(self, packet: pb.Packet, answer: Message | str, *, timeout: float | None = None) -> Receipt:
        """Answer a packet that this channel has received.

        If the packet has a ``request_id``, the answer carries that number in ``reply_to``, by which whoever has asked
        finds out what is answered. An answer to any other packet is a message like those of :meth:`send`.

        In this version :meth:`send` gives no packet a ``request_id``; a client in another language may. A program
        that asks puts a number of its own into the message, and its peer repeats it in the answer.

        Args:
            packet: what the callback was given.
            answer: the body of a packet; a text is sent as by :meth:`send_text`.
            timeout: as of :meth:`send`.
        """
        body = pb.PureMessagePacket(message=answer) if isinstance(answer, str) else answer
        return self._sender.send(encode_reply(body, packet.request_id), timeout)

    @at_home
    def trust(self) -> None:
        """Permit every kind of packet from this peer, until :meth:`untrust` or the end of the channel.

        Raises:
            UnprovenPeerError: the connection is insecure, so nobody knows who this is.
        """
        if not self.peer.proven:
            raise UnprovenPeerError(
                f"{self.peer.identifier[:8]} only claims its identifier; connect with TLS to be able to trust it"
            )
        self._permissions.trust(True)

    @at_home
    def untrust(self) -> None:
        """Treat this peer as an untrusted one again."""
        self._permissions.trust(False)

    @at_home
    def spawn(self, function: Callable[..., Any], *args: Any) -> gevent.Greenlet[..., Any]:
        """Run ``function(*args)`` in a greenlet of its own, where it may wait on this channel.

        It is killed if it still runs some time after the channel has closed.

        Raises:
            ChannelClosedError: the channel has ended.
            ConfigurationError: it is a coroutine or generator function.
            WrongThreadError: called in another native thread than the network's.
        """
        check_callable(function, None, "what spawn runs")
        if self._lifecycle.state is ChannelState.CLOSED:
            raise self._lifecycle.closed_error()
        return self._ownership.spawn(function, *args)

    @at_home
    def ping(self, timeout: float = 5.0) -> float:
        """The seconds that a heartbeat and its answer take.

        The answer waits behind a callback that the peer is busy with.

        Raises:
            PingTimeout: no answer in time.
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
            ChannelClosedError: the channel is not open, or ended before the answer came.
        """
        lifecycle = self._lifecycle
        self._ownership.check_not_own_greenlet("ping")
        if lifecycle.state is ChannelState.RECONNECTING:
            raise PingTimeout(f"{self!r} has no connection now")
        if lifecycle.state is not ChannelState.OPEN:
            raise lifecycle.closed_error()
        began = clock.monotonic()
        answered = self._pings.ask(self._attachment.link, timeout)
        if answered is None and lifecycle.closed.is_set():
            raise lifecycle.closed_error()
        if not answered:
            raise PingTimeout(f"{self!r} did not answer within {timeout} s")
        return clock.monotonic() - began

    @at_home
    def close(
        self,
        reason: Reason = Reason.CLOSED,
        message: str = "",
        *,
        retry_after: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        """Say goodbye, write what is queued, and end the channel. Idempotent.

        Waits until it has ended, which it has when the peer has acknowledged what it
        has handled; receipts that are open by then fail with ``reason``. In one of the
        channel's own callbacks it returns at once and the rest happens afterwards.

        Args:
            reason: what the peer is told.
            message: one sentence more for its log.
            retry_after: seconds the peer is asked to wait before it dials again.
            timeout: seconds after which it is cut off; ``None`` means ``config.close_timeout``. A callback
                that still runs ``config.close_timeout`` after that is killed.
        """
        self._closing.begin(reason, message, retry_after, timeout)
        if not self._ownership.in_own_greenlet() and not _in_hub():
            self._closing.wait_until_ended(reason, timeout)

    @at_home
    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the channel has ended. Returns whether it has.

        Raises:
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
        """
        if self._lifecycle.state is not ChannelState.CLOSED:
            self._ownership.check_not_own_greenlet("wait_closed")
        return bool(self._lifecycle.closed.wait(timeout))


def _in_hub() -> bool:
    """Whether this runs in the hub, where nothing may wait: a signal handler, for example."""
    return isinstance(gevent.getcurrent(), gevent.hub.Hub)
