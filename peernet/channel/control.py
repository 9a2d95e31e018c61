"""ChannelControl: what the network does with one of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent

from peernet.channel.acknowledger import Acknowledger
from peernet.channel.attachment import Attachment
from peernet.channel.channel import PeerChannel
from peernet.channel.closing import Closing
from peernet.channel.lifecycle import Lifecycle
from peernet.channel.link import Link
from peernet.channel.liveness import Liveness, shows_life
from peernet.channel.ownership import Ownership
from peernet.channel.permissions import Permissions
from peernet.channel.reader import Reader
from peernet.channel.receipts import Receipt
from peernet.channel.sender import Sender
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import Encoded
from peernet.wire.session import Session


class ChannelControl:
    """Moves a channel: lets its packets through, gives it connections and takes them away, and ends it.

    Made by :func:`~peernet.channel.assembly.make_channel`. The network keeps it to itself; programs get
    the channel.

    Attributes:
        channel: the channel, as programs see it.
    """

    __slots__ = (
        "_acknowledger",
        "_attachment",
        "_closing",
        "_config",
        "_lifecycle",
        "_liveness",
        "_ownership",
        "_permissions",
        "_reader",
        "_sender",
        "_session",
        "channel",
    )

    def __init__(
        self,
        channel: PeerChannel,
        *,
        config: NetworkConfig,
        lifecycle: Lifecycle,
        ownership: Ownership,
        attachment: Attachment,
        session: Session | None,
        sender: Sender,
        acknowledger: Acknowledger | None,
        liveness: Liveness,
        permissions: Permissions,
        reader: Reader,
        closing: Closing,
    ) -> None:
        self.channel = channel
        self._config = config
        self._lifecycle = lifecycle
        self._ownership = ownership
        self._attachment = attachment
        self._session = session
        self._sender = sender
        self._acknowledger = acknowledger
        self._liveness = liveness
        self._permissions = permissions
        self._reader = reader
        self._closing = closing

    # Life.

    def open(self, *, trusted: bool = False) -> None:
        """Let packets through: the decision about the peer is made."""
        now = clock.monotonic()
        self._lifecycle.open(now)
        self._attachment.link.last_received = now
        self._permissions.trusted = trusted
        self._permissions.refresh()

    def start(self) -> gevent.Greenlet[..., Any]:
        """Read and call back until the channel ends, in a new greenlet, which is the channel's own from now on."""
        return self._ownership.start(self._reader.run)

    def refresh_permissions(self) -> None:
        """Take note that the policy has changed."""
        self._permissions.refresh()

    # Connections.

    def attach(self, result: HandshakeResult) -> bool:
        """Go on over another connection, whose two hellos say that it resumes the session.

        Returns:
            Whether the channel has taken the connection; it has not if it has ended meanwhile, or if
            yet another connection came in between.

        Raises:
            RemoteProtocolError: the peer's hello says what cannot be; the channel has ended.
        """
        session = self._session
        if session is None or session.went_on_since(result.ours):
            return False
        self.detach("another connection has taken its place")
        if self._lifecycle.state is not ChannelState.RECONNECTING:
            return False
        try:
            again = session.resume(result.ours, result.hello)
        except RemoteProtocolError as error:
            self.end(error.reason, str(error))
            raise
        self._go_on_over(Link(result.transport, result.connection, self._config), result.hello, again)
        return True

    def _go_on_over(self, link: Link, hello: pb.HelloPacket, again: list[tuple[bytes, bytes]]) -> None:
        self._attachment.replace(link)
        self._permissions.apply(link)
        if self._acknowledger is not None:
            self._acknowledger.take_over(link)
        self.take_hello(hello)
        self._lifecycle.resume()
        self._closing.acknowledge()  # before what is sent again: see Session.resume
        self._sender.send_again(link.outbox, again)
        self._sender.changed()

    def take_hello(self, hello: pb.HelloPacket) -> None:
        """Take note of what the peer says of itself on the present connection."""
        self._liveness.take_hello(hello)
        self._sender.take_hello(hello)
        if self._session is not None:
            self._session.take_hello(hello)

    def detach(self, why: str) -> None:
        """Give the present connection up; the session waits for another one. Without a session the channel ends."""
        if self._lifecycle.state is ChannelState.OPEN:
            self._closing.lose(self._attachment.link, Reason.CONNECTION_LOST, why)

    # Liveness.

    def tick(self, now: float, lag: float = 0.0) -> None:
        """Heartbeat, and notice a peer that is dead, does not read, or stays away too long.

        Args:
            now: monotonic seconds.
            lag: seconds since the last call in which this process could not run.
        """
        lifecycle = self._lifecycle
        if lifecycle.state is ChannelState.RECONNECTING:
            lifecycle.expires_at += lag
            if now >= lifecycle.expires_at:
                self._closing.spawn(self._closing.expire)
        elif lifecycle.state in (ChannelState.PENDING, ChannelState.OPEN):
            self._attachment.link.forgive(lag)
            self._look_after(self._attachment.link, now)

    def _look_after(self, link: Link, now: float) -> None:
        reason = self._liveness.examine(link, self._session, now)
        if reason is Reason.CONNECTION_LOST:
            self._closing.spawn(self._closing.lose, link, reason, str(link.broken))
        elif reason is not None:
            self._closing.spawn(self._closing.cut, link, reason)

    @property
    def expires_at(self) -> float:
        """Monotonic seconds when the channel ends unless it gets another connection; while reconnecting."""
        return self._lifecycle.expires_at

    def expire(self) -> None:
        """End now instead of waiting for another connection; does nothing while there is one."""
        self._closing.expire()

    def shows_life(self, timeout: float) -> bool:
        """Whether anything comes from the peer within ``timeout`` seconds, if it is asked for an answer."""
        link = self._attachment.link
        return self._lifecycle.attached and (shows_life(link, timeout) or self._has_replaced(link))

    def _has_replaced(self, link: Link) -> bool:
        """Whether there is another connection than that one: who makes it is alive."""
        return self._lifecycle.attached and self._attachment.link is not link

    def lost_while_pending(self) -> bool:
        """Whether the channel or its peer has gone while nobody reads from it."""
        return self._lifecycle.state is not ChannelState.PENDING or self._attachment.link.ended()

    # Memory: see peernet.switch.memory.

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that packets take up which are on their way: not acknowledged, or not complete."""
        return self._sender.held_bytes + self._attachment.link.connection.decoder.held

    @property
    def held_contents(self) -> Sequence[bytes]:
        """What of :attr:`held_bytes` other channels may hold as well."""
        return self._sender.held_contents

    def ration(self, *, more: bool) -> None:
        """Have senders ask for leave before much more is held; with ``more`` there is plenty."""
        self._sender.ration(more=more)
        self._attachment.link.crowding = False

    def slow_down(self) -> None:
        """Read slowly for now, and hold nothing for the case that it is needed again."""
        self._attachment.link.crowding = True
        self._attachment.link.connection.decoder.trim()

    def cut_for_memory(self) -> None:
        """End at once, because the channels together hold too much and this one most of all."""
        closing, link = self._closing, self._attachment.link
        if self._lifecycle.state is ChannelState.RECONNECTING:
            closing.spawn(closing.end, Reason.EXPIRED)
        else:
            sent, received = self._sender.held_bytes, link.connection.decoder.held
            closing.spawn(closing.cut, link, Reason.SLOW_PEER if sent >= received else Reason.BUSY)

    # Ending.

    def end(self, reason: Reason, text: str = "") -> None:
        """End at once, without a goodbye: there is nobody to hear it, or it is said already."""
        self._closing.end(reason, text)

    def dismiss(self, reason: Reason, message: str = "", retry_after: float = 0.0) -> None:
        """Refuse a pending peer: say why, and end. In the greenlet that holds the channel."""
        try:
            self._closing.begin(reason, message, retry_after)
            self._attachment.link.discard_until_end()
        finally:
            self.release()

    def supersede(self) -> None:
        """Give way to another connection with the same peer: gone at once, and flushed in the background."""
        self._closing.begin(Reason.DUPLICATE)
        self._closing.conclude()

    def release(self) -> None:
        """Free everything. Only the channel's own greenlet calls this, or nobody runs it."""
        self._closing.release()

    # What the channel has spawned, and who may wait for it.

    def has_spawned(self, task: Any) -> bool:
        """Whether ``task`` is a greenlet that :meth:`PeerChannel.spawn` has started."""
        return self._ownership.has_spawned(task)

    def kill_tasks(self) -> None:
        """End the greenlets that :meth:`PeerChannel.spawn` has started."""
        self._ownership.kill_tasks()

    def check_not_own_greenlet(self, method: str) -> None:
        """
        Raises:
            SelfWaitError: this is one of the channel's own callbacks.
            WrongThreadError: this is not the native thread of the network.
        """
        self._ownership.check_not_own_greenlet(method)

    # Sending what is serialised already.

    def send_encoded(self, encoded: Encoded, timeout: float | None) -> Receipt:
        """:meth:`PeerChannel.send` for a body that :func:`~peernet.wire.packets.encode_body` has serialised."""
        return self._sender.send(encoded, timeout)
