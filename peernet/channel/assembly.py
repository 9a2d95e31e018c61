"""Assembly: makes the parts of one channel, and gives each the others that it needs."""

from __future__ import annotations

from peernet.channel.acknowledger import Acknowledger
from peernet.channel.attachment import Attachment
from peernet.channel.callbacks import Callbacks
from peernet.channel.channel import PeerChannel
from peernet.channel.closing import Closing
from peernet.channel.control import ChannelControl
from peernet.channel.control_packets import ControlPackets
from peernet.channel.dispatcher import Dispatcher
from peernet.channel.lifecycle import Lifecycle
from peernet.channel.link import Link
from peernet.channel.liveness import Liveness
from peernet.channel.ownership import Ownership
from peernet.channel.permissions import Permissions
from peernet.channel.pings import Pings
from peernet.channel.reader import Reader
from peernet.channel.reporter import ChannelOwner, Reporter
from peernet.channel.sender import Sender
from peernet.channel.throttle import throttle_of
from peernet.config import NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.v1 import packet_pb2 as pb
from peernet.wire.session import Session


class Assembly:
    """The parts of one channel, from the bottom up: each knows only those that are made before it.

    It is thrown away when the channel is made, because the parts hold each other.

    Args:
        owner: the network.
        result: the first connection. The claim stays with the caller.
        dialled: whether this side has made it.

    Attributes:
        channel: what programs see.
        control: what the network moves it with.
    """

    def __init__(self, owner: ChannelOwner, result: HandshakeResult, *, dialled: bool) -> None:
        config, link = owner.config, Link(result.transport, result.connection, owner.config)
        self.reporter = Reporter(owner)
        self.lifecycle = Lifecycle(result.peer)
        self.ownership = Ownership(self.lifecycle, owner.home)
        self.attachment = Attachment(link)
        self.session = make_session(result.ours, result.hello, config)
        self.sender = Sender(owner, self.lifecycle, self.ownership, self.session, link.outbox)
        self.acknowledger = None if self.session is None else Acknowledger(self.session, link, owner.acknowledge_timer)
        self.pings = Pings()
        self.liveness = Liveness(config)
        self.permissions = Permissions(self.reporter, self.attachment, throttle_of(config, self.reporter.count))
        self.callbacks = Callbacks(owner, self.reporter)
        self.closing = Closing(
            owner=owner,
            reporter=self.reporter,
            lifecycle=self.lifecycle,
            ownership=self.ownership,
            attachment=self.attachment,
            session=self.session,
            sender=self.sender,
            acknowledger=self.acknowledger,
            pings=self.pings,
            liveness=self.liveness,
        )
        self.dispatcher = self._make_dispatcher(link)
        self.reader = Reader(
            owner=owner,
            lifecycle=self.lifecycle,
            ownership=self.ownership,
            attachment=self.attachment,
            dispatcher=self.dispatcher,
            closing=self.closing,
        )
        self.channel = self._make_channel(dialled=dialled)
        self.reporter.channel = self.channel
        self.control = self._make_control(config)
        self.control.take_hello(result.hello)

    def _make_dispatcher(self, link: Link) -> Dispatcher:
        control_packets = ControlPackets(
            reporter=self.reporter,
            lifecycle=self.lifecycle,
            attachment=self.attachment,
            session=self.session,
            sender=self.sender,
            pings=self.pings,
            callbacks=self.callbacks,
            closing=self.closing,
        )
        return Dispatcher(
            reporter=self.reporter,
            lifecycle=self.lifecycle,
            permissions=self.permissions,
            session=self.session,
            acknowledger=self.acknowledger,
            sender=self.sender,
            callbacks=self.callbacks,
            control_packets=control_packets,
            connection=link.connection,
        )

    def _make_channel(self, *, dialled: bool) -> PeerChannel:
        return PeerChannel(
            dialled=dialled,
            lifecycle=self.lifecycle,
            ownership=self.ownership,
            attachment=self.attachment,
            session=self.session,
            sender=self.sender,
            pings=self.pings,
            liveness=self.liveness,
            permissions=self.permissions,
            callbacks=self.callbacks,
            reporter=self.reporter,
            closing=self.closing,
        )

    def _make_control(self, config: NetworkConfig) -> ChannelControl:
        return ChannelControl(
            self.channel,
            config=config,
            lifecycle=self.lifecycle,
            ownership=self.ownership,
            attachment=self.attachment,
            session=self.session,
            sender=self.sender,
            acknowledger=self.acknowledger,
            liveness=self.liveness,
            permissions=self.permissions,
            reader=self.reader,
            closing=self.closing,
        )


def make_channel(owner: ChannelOwner, result: HandshakeResult, *, dialled: bool) -> ChannelControl:
    """A pending channel on a connection that has been through its handshake; see :class:`Assembly`."""
    return Assembly(owner, result, dialled=dialled).control


def make_session(ours: pb.HelloPacket, theirs: pb.HelloPacket, config: NetworkConfig) -> Session | None:
    """The session that the hellos of a first connection begin, if both sides keep one."""
    if not ours.session_id or not theirs.session_id:
        return None
    session = Session(ours.session_id, max_packets=config.session_packets, max_bytes=config.session_bytes)
    session.begin(theirs.session_id)
    return session
