"""PeerChannel: one peer, one greenlet that reads and calls back; it outlives its connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import gevent
from gevent.event import Event as Flag
from gevent.pool import Group
from google.protobuf.message import Message
from greenlet import greenlet

from peernet.channel.dispatcher import Dispatcher, DispatchOwner
from peernet.channel.handlers import PacketHandleProtocol
from peernet.channel.link import Link
from peernet.channel.liveness import Liveness, shows_life
from peernet.channel.pings import Pings
from peernet.channel.receipts import Receipt
from peernet.channel.sender import DEFAULT_MAX_FRAME, Sender
from peernet.channel.state import TRANSITIONS, ChannelState
from peernet.channel.throttle import throttle_of
from peernet.config import NetworkConfig
from peernet.errors import (
    ChannelClosedError,
    LocalProtocolError,
    PeerNetError,
    PingTimeout,
    RemoteProtocolError,
    SelfWaitError,
    TransportError,
    UnprovenPeerError,
    WrongThreadError,
)
from peernet.peers.peer import GenericPeer
from peernet.reasons import CONNECTION_ONLY, Reason
from peernet.runtime import clock
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable
from peernet.runtime.threads import get_ident
from peernet.transport.base import Transport
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, ConnectionState
from peernet.wire.disconnect import disconnect_packet
from peernet.wire.packets import Encoded, encode_body
from peernet.wire.session import Session

logger = get_logger(__name__)

# Looking a member up in its class takes as long as a call (CPython 3.11).
_OPEN = ChannelState.OPEN


class ChannelOwner(DispatchOwner, Protocol):
    """What a channel needs of the network it belongs to."""

    config: NetworkConfig
    greenlets: Group

    def may_hold(self, size: int, contents: Sequence[bytes]) -> bool:
        """Whether a channel may hold so many bytes more in memory, among them what others may hold as well."""

    def on_trust_changed(self, channel: PeerChannel) -> None: ...

    def on_reconnecting(self, channel: PeerChannel) -> None: ...

    def on_closed(self, channel: PeerChannel) -> None: ...


class PeerChannel:
    """A channel to one peer.

    Made by :class:`~peernet.network.PeerNetwork`, once the peer is known. Packets are
    handled one after the other in the channel's own greenlet, so a callback that
    takes its time slows this peer down and no other. When the connection is lost, the
    channel waits for another one, and neither side loses a packet.

    Attributes:
        peer: who is at the other end.
        dialled: whether this side made the first connection.
        state: see :class:`ChannelState`.
        reason: why the channel ended; ``None`` while it lives. ``reason_text`` says more.
        ended_by_peer: whether the peer said goodbye.
        trusted: whether every kind of packet is permitted.
        opened_at: monotonic seconds when it opened; ``None`` if it never did.
        connected_at: monotonic seconds when its present connection was made.
        retry_after: seconds that a peer who said goodbye asks to wait before it is dialled again.
        do_not_redial: whether it asks not to be dialled again.
    """

    # Slots, because beyond thirty attributes CPython gives each instance a table of its own: 1.3 KiB (measured).
    __slots__ = (
        "__dict__",  # for the three that most channels have not
        "__weakref__",
        "_closed",
        "_config",
        "_dispatcher",
        "_expires_at",
        "_freed",
        "_greenlet",
        "_held",
        "_link",
        "_liveness",
        "_moved",
        "_owner",
        "_pings",
        "_released",
        "_runs",
        "_sender",
        "_session",
        "_tasks",
        "_thread",
        "_throttle",
        "connected_at",
        "dialled",
        "do_not_redial",
        "ended_by_peer",
        "opened_at",
        "peer",
        "reason",
        "reason_text",
        "retry_after",
        "state",
        "trusted",
    )

    def __init__(
        self,
        owner: ChannelOwner,
        peer: GenericPeer,
        transport: Transport,
        connection: Connection,
        hello: pb.HelloPacket,
        *,
        dialled: bool,
        ours: pb.HelloPacket | None = None,
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.state = ChannelState.PENDING
        self.reason: Reason | None = None
        self.reason_text = ""
        self.ended_by_peer = False
        self.trusted = False
        self.opened_at: float | None = None
        self.retry_after = 0.0
        self.do_not_redial = False
        self._owner = owner
        self._config = owner.config
        self._thread = get_ident()
        self._link = self._held = Link(transport, connection, owner.config)
        self._session = _make_session(ours, hello, owner.config)
        self._sender = Sender(self, owner.config, self._session, self._link.outbox)
        self._dispatcher = Dispatcher(self, owner, self._session, self._link, self._sender.book)
        self._liveness = Liveness(owner.config)
        self._throttle = throttle_of(owner.config, self.count)
        self._greenlet: greenlet = gevent.getcurrent()  # who holds it until it runs
        self._closed = Flag()
        self._moved: Flag | None = None  # set when a channel that was reconnecting is that no more
        self._expires_at = 0.0
        self._runs = False
        self._released = False
        self._freed: Flag | None = None
        self._tasks: Group | None = None
        self._pings = Pings()
        self._take_hello(hello)

    def __repr__(self) -> str:
        return f"<PeerChannel {self.peer.identifier[:8]} {self.peer.endpoint} {self.state.value}>"

    # Most channels have none of these three, so they are made at first use.

    @cached_property
    def data(self) -> dict[Any, Any]:
        """Yours; peernet never touches it."""
        return {}

    @cached_property
    def counters(self) -> Counter[str]:
        """How many of what has happened, for example ``refused``."""
        return Counter()

    @property
    def handlers(self) -> PacketHandleProtocol:
        """Callbacks of this channel only; they go before the network's."""
        if self._dispatcher.handlers is None:
            self._dispatcher.handlers = PacketHandleProtocol(defaults=False)
        return self._dispatcher.handlers

    @property
    def received(self) -> int:
        """How many packets have reached their callback."""
        return self._dispatcher.received

    @property
    def session(self) -> Session | None:
        """The numbering that outlives connections; ``None`` if one of the sides keeps none. Only to look at."""
        return self._session

    @property
    def last_received(self) -> float:
        """Monotonic seconds when bytes last arrived."""
        return self._link.last_received

    @property
    def queued_packets(self) -> int:
        """Packets that wait to be written."""
        return self._link.outbox.packets

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self._link.outbox.bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that packets take up which are on their way: not acknowledged, or not complete."""
        return self._sender.held_bytes + self._link.connection.decoder.held

    @property
    def has_tasks(self) -> bool:
        """Whether greenlets that :meth:`spawn` started still run."""
        return bool(self._tasks)

    @property
    def patience(self) -> float:
        """Seconds of silence after which the peer counts as dead, at least twice what it promised to keep."""
        return self._liveness.patience

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

    def send_encoded(self, encoded: Encoded, timeout: float | None) -> Receipt:
        """:meth:`send` for a body that :func:`~peernet.wire.packets.encode_body` has serialised."""
        return self._sender.send(encoded, timeout)

    def trust(self) -> None:
        """Permit every kind of packet from this peer, until :meth:`untrust` or the end of the channel.

        Raises:
            UnprovenPeerError: the connection is insecure, so nobody knows who this is.
        """
        if not self.peer.proven:
            raise UnprovenPeerError(
                f"{self.peer.identifier[:8]} only claims its identifier; connect with TLS to be able to trust it"
            )
        self._set_trusted(True)

    def untrust(self) -> None:
        """Treat this peer as an untrusted one again."""
        self._set_trusted(False)

    def refresh_permissions(self) -> None:
        """Take note that the policy or the trust has changed."""
        self._dispatcher.refresh_permissions()
        self._link.throttle = None if self.trusted else self._throttle

    def open(self) -> None:
        """Let packets through. The network calls it when the decision about the peer is made."""
        self._move(ChannelState.OPEN)
        self.opened_at = self._link.last_received = clock.monotonic()
        self.refresh_permissions()

    def spawn(self, function: Callable[..., Any], *args: Any) -> gevent.Greenlet[..., Any]:
        """Run ``function(*args)`` in a greenlet of its own, where it may wait on this channel.

        It is killed if it still runs some time after the channel has closed.
        """
        self.check_thread()
        if self.state is ChannelState.CLOSED:
            raise self.closed_error()
        task = spawn(f"channel {self.peer.identifier[:8]} task", function, *args)
        if self._tasks is None:
            self._tasks = Group()
        self._tasks.add(task)
        return task

    def ping(self, timeout: float = 5.0) -> float:
        """The seconds that a heartbeat and its answer take.

        The answer waits behind a callback that the peer is busy with.

        Raises:
            PingTimeout: no answer in time.
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
            ChannelClosedError: the channel is not open, or ended before the answer came.
        """
        self.check_not_own_greenlet("ping")
        if self.state is ChannelState.RECONNECTING:
            raise PingTimeout(f"{self!r} has no connection now")
        if self.state is not _OPEN:
            raise self.closed_error()
        began = clock.monotonic()
        answered = self._pings.ask(self._link, timeout)
        if answered is None and self._closed.is_set():
            raise self.closed_error()
        if not answered:
            raise PingTimeout(f"{self!r} did not answer within {timeout} s")
        return clock.monotonic() - began

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
        self.check_thread()
        self._begin_closing(reason, message, retry_after, timeout)
        if not self.in_own_greenlet() and not _in_hub():
            self._wait_until_ended(reason, timeout)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the channel has ended. Returns whether it has.

        Raises:
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
        """
        if not self._closed.is_set():
            self.check_not_own_greenlet("wait_closed")
        return bool(self._closed.wait(timeout))

    # What the network calls.

    def start(self) -> gevent.Greenlet[..., Any]:
        """:meth:`run` in a new greenlet."""
        self._greenlet = spawned = spawn(f"channel {self.peer.identifier[:8]}", self.run)
        return spawned

    def run(self) -> None:
        """Read and call back until the channel ends. The calling greenlet becomes the channel's own."""
        self._greenlet = gevent.getcurrent()
        self._runs = True
        try:
            while self._wait_for_link():
                self._read(self._link)
        finally:
            self.release()

    def attach(
        self, transport: Transport, connection: Connection, ours: pb.HelloPacket, theirs: pb.HelloPacket
    ) -> bool:
        """Go on over another connection, whose two hellos say that it resumes the session.

        Returns:
            Whether the channel has taken the connection; it has not if it has ended meanwhile, or if
            yet another connection came in between.

        Raises:
            RemoteProtocolError: the peer's hello says what cannot be; the channel has ended.
        """
        if self._session is not None and self._session.went_on_since(ours):
            return False
        self.detach("another connection has taken its place")
        if self.state is not ChannelState.RECONNECTING or self._session is None:
            return False
        try:
            again = self._session.resume(ours, theirs)
        except RemoteProtocolError as error:
            self.end(error.reason, str(error))
            raise
        self._replace_link(Link(transport, connection, self._config))
        self._take_hello(theirs)
        self._move(ChannelState.OPEN)
        self._acknowledge()  # before what is sent again: see Session.resume
        self._sender.send_again(self._link.outbox, again)
        self._tell_of_change()
        return True

    def detach(self, why: str) -> None:
        """Give the present connection up; the session waits for another one."""
        if self.state is _OPEN:
            self._lose(self._link, Reason.CONNECTION_LOST, why)

    def end(self, reason: Reason, text: str = "") -> None:
        """End at once, without a goodbye: there is nobody to hear it, or it is said already."""
        self._note_end(reason, text or reason.sentence)
        self._link.abort()  # first: listeners may take their time, or be interrupted
        if not self._released:
            self._spawn_ending(self._reap)
        self._conclude()

    def shows_life(self, timeout: float) -> bool:
        """Whether anything comes from the peer within ``timeout`` seconds, if it is asked for an answer."""
        link = self._link
        if self.state is not _OPEN:
            return False
        return shows_life(link, timeout) or (self.state is _OPEN and self._link is not link)

    def tick(self, now: float, lag: float = 0.0) -> None:
        """Heartbeat, and notice a peer that is dead, does not read, or stays away too long.

        Args:
            now: monotonic seconds.
            lag: seconds since the last call in which this process could not run.
        """
        if self.state is ChannelState.RECONNECTING:
            self._expires_at += lag
            if now >= self._expires_at:
                self._spawn_ending(self._expire)
        elif self.state in (ChannelState.PENDING, ChannelState.OPEN):
            self._link.forgive(lag)
            self._look_after(self._link, now)

    def _expire(self) -> None:
        if self.state is ChannelState.RECONNECTING:
            self._owner.counters[Reason.EXPIRED] += 1
            self.end(Reason.EXPIRED)

    # Memory: see peernet.switch.memory.

    @property
    def held_contents(self) -> Sequence[bytes]:
        """What of :attr:`held_bytes` other channels may hold as well."""
        return self._sender.held_contents

    def ration(self, *, more: bool) -> None:
        """Have senders ask for leave before much more is held; with ``more`` there is plenty."""
        self._sender.ration(more=more)
        self._link.crowding = False

    def slow_down(self) -> None:
        """Read slowly for now, and hold nothing for the case that it is needed again."""
        self._link.crowding = True
        self._link.connection.decoder.trim()

    def may_hold(self, size: int, contents: Sequence[bytes]) -> bool:
        """Whether so many bytes more may be held, among them ``contents``, which others may hold as well."""
        return self._owner.may_hold(size, contents)

    def cut_for_memory(self) -> None:
        """End at once, because the channels together hold too much and this one most of all."""
        if self.state is ChannelState.RECONNECTING:
            self._spawn_ending(self.end, Reason.EXPIRED)
        else:
            sent, received = self._sender.held_bytes, self._link.connection.decoder.held
            self._spawn_ending(self._cut, self._link, Reason.SLOW_PEER if sent >= received else Reason.BUSY)

    def dismiss(self, reason: Reason, message: str = "") -> None:
        """Refuse a pending peer: say why, and end. In the greenlet that holds the channel."""
        try:
            self._begin_closing(reason, message)
            self._link.discard_until_end()
        finally:
            self.release()

    def supersede(self) -> None:
        """Give way to another connection with the same peer: gone at once, and flushed in the background."""
        self._begin_closing(Reason.DUPLICATE, "")
        self._conclude()

    def lost_while_pending(self) -> bool:
        """Whether the channel or its peer has gone while nobody reads from it."""
        return self.state is not ChannelState.PENDING or self._link.ended()

    def release(self) -> None:
        """Free everything. Only the channel's own greenlet calls this, or nobody runs it."""
        self._held.release()
        self._released = True
        self._link.release()
        if self._freed is not None:
            self._freed.set()
        self._conclude()

    def has_spawned(self, task: Any) -> bool:
        """Whether ``task`` is one of those that :meth:`spawn` started."""
        return self._tasks is not None and task in self._tasks

    def kill_tasks(self, after: float = 0.0) -> None:
        """End the greenlets that :meth:`spawn` started; those that need less than ``after`` seconds end themselves."""
        if self._tasks is not None:
            try:
                self._tasks.join(timeout=after)
            finally:
                self._tasks.kill()

    # What the dispatcher calls.

    def on_control(self, size: int) -> None:
        """A packet of the protocol's own has come, of so many bytes."""
        if self._link.throttle is not None:
            self._link.throttle.charge(size)

    def on_heartbeat(self, packet: pb.Packet) -> None:
        """A heartbeat has come."""
        self._pings.take(packet, self._link)

    def on_goodbye(self, packet: pb.Packet) -> None:
        """A disconnect has come."""
        goodbye = packet.disconnect
        reason = Reason.from_number(goodbye.reason)
        if reason in CONNECTION_ONLY and self._session is not None:
            self._lose(self._link, reason, reason.sentence)
            return
        self._note_end(reason, printable(goodbye.message), by_peer=True)
        self.retry_after, self.do_not_redial = goodbye.retry_after_ms / 1000, goodbye.do_not_redial
        self._move(ChannelState.CLOSING)  # while the callback runs nothing can be sent any more
        self._dispatcher.reading = False
        self._dispatcher.call("disconnect", packet)

    def on_settled(self) -> None:
        """Some packets were acknowledged."""
        self._sender.settled()

    def count(self, what: str) -> None:
        """Count something that has happened, here and in the network."""
        self.counters[what] += 1
        self._owner.counters[what] += 1

    # What its halves and receipts ask.

    def in_own_greenlet(self) -> bool:
        """Whether this runs in one of the channel's own callbacks."""
        return gevent.getcurrent() is self._greenlet

    def closed_error(self) -> PeerNetError:
        """Says that nothing can be sent, and why."""
        if self.state is ChannelState.PENDING:
            return LocalProtocolError("the connection is still pending; accept it first")
        reason = self.reason or Reason.CLOSED
        return ChannelClosedError(f"the channel to {self.peer.identifier[:8]} is closed: {reason.sentence}", reason)

    def check_thread(self) -> None:
        """
        Raises:
            WrongThreadError: this is not the native thread of the network.
        """
        if get_ident() != self._thread:
            raise WrongThreadError(
                f"{self!r} belongs to the native thread of its network; use network.call_soon(channel.send, message)"
            )

    def check_not_own_greenlet(self, method: str) -> None:
        """
        Raises:
            SelfWaitError: this is one of the channel's own callbacks.
            WrongThreadError: this is not the native thread of the network.
        """
        self.check_thread()
        if self.in_own_greenlet():
            raise SelfWaitError(
                f"{method}() in a callback of the same channel would wait for itself; use channel.spawn(...)"
            )

    # Reading.

    def _wait_for_link(self) -> bool:
        """Wait while reconnecting. Returns whether there is a link to read from."""
        while not (self.state is _OPEN and self._link.alive):
            if self.state is ChannelState.RECONNECTING:
                self._wait_for_change()
            elif self.state is _OPEN:  # it broke before anybody has read from it
                self._lose(self._link, Reason.CONNECTION_LOST, str(self._link.broken or "the connection was cut"))
            else:
                return self.state is ChannelState.CLOSING and self._link.alive
        return True

    def _read(self, link: Link) -> None:
        """Read from a link until it, or the channel, ends."""
        self._held, dispatcher = link, self._dispatcher
        dispatcher.begin(link.connection, reading=self.state is _OPEN)
        try:
            if link.read(dispatcher, dispatcher.handle):
                self._lose(link, Reason.CONNECTION_LOST, "the stream ended without a goodbye")
            elif self.state is ChannelState.CLOSING:
                self._read_last(link)
        except RemoteProtocolError as error:
            self._blame(link, error)
        except TransportError as error:
            self._lose(link, Reason.CONNECTION_LOST, str(error))
        finally:
            link.release()
        if self.state is ChannelState.CLOSING:
            self._conclude()

    def _read_last(self, link: Link) -> None:
        """Read on after a goodbye, for the sake of acknowledgements, or to end without a reset."""
        if self.ended_by_peer:
            self._acknowledge()
            link.say_no_more()
            self._conclude()
            link.discard_until_end()
        else:
            link.read(self._dispatcher, self._dispatcher.handle_last)

    def _blame(self, link: Link, error: RemoteProtocolError) -> None:
        """The peer has broken the protocol."""
        if self.state is _OPEN and link is self._link:
            self._owner.counters[error.reason] += 1
            logger.info("= %s broke the protocol: %s", self.peer.identifier[:8], printable(error))
            self._begin_closing(error.reason, str(error))
        link.discard_until_end()

    # Liveness.

    def _look_after(self, link: Link, now: float) -> None:
        reason = self._liveness.examine(link, self._session, now)
        if reason is Reason.CONNECTION_LOST:
            self._spawn_ending(self._lose, link, reason, str(link.broken))
        elif reason is not None:
            self._spawn_ending(self._cut, link, reason)

    def _cut(self, link: Link, reason: Reason) -> None:
        """Give up a connection whose peer does not answer: whatever its callback does, it is gone now."""
        if link is not self._link or self.state not in (ChannelState.PENDING, ChannelState.OPEN):
            return
        self._owner.counters[reason] += 1
        link.put_control(disconnect_packet(reason))
        link.outbox.flush()
        if reason in CONNECTION_ONLY and self.state is _OPEN:
            self._lose(link, reason, reason.sentence)
        else:
            self.end(reason)

    # Ending.

    def _lose(self, link: Link, reason: Reason, text: str) -> None:
        """A connection is gone. With a session the channel waits for another one; without it ends."""
        link.abort()
        if link is not self._link or self.state is not _OPEN:
            return
        self._dispatcher.reading = False
        if self._session is None:
            self.end(reason, text)
            return
        logger.info("= %s: %s; reconnecting", self.peer.identifier[:8], text)
        self._session.detach()
        self._liveness.start_again()
        self._expires_at = clock.monotonic() + self._config.session_ttl
        self._move(ChannelState.RECONNECTING)
        self._pings.give_up()
        self._tell_of_change()
        self._owner.on_reconnecting(self)

    def _begin_closing(
        self, reason: Reason, message: str, retry_after: float = 0.0, timeout: float | None = None
    ) -> None:
        if self.state in (ChannelState.CLOSING, ChannelState.CLOSED):
            return
        goodbye = disconnect_packet(reason, message, retry_after)
        if self.state is ChannelState.RECONNECTING:
            self.end(reason, message)
            return
        self._note_end(reason, message)
        self._acknowledge()
        self._dispatcher.reading = False
        self._move(ChannelState.CLOSING)
        if self._link.connection.state is ConnectionState.OPEN:
            self._link.put_control(goodbye)
        deadline = Deadline(self._config.close_timeout if timeout is None else timeout)
        self._spawn_ending(self._finish, self._link, deadline)

    def _wait_until_ended(self, reason: Reason, timeout: float | None) -> None:
        timeout = self._config.close_timeout if timeout is None else timeout
        if self.ended_by_peer and not self._closed.wait(timeout):
            self.end(reason)  # the callback for its goodbye does not return
        self._closed.wait(None)  # else somebody sees to it: _finish

    def _finish(self, link: Link, deadline: Deadline) -> None:
        link.finish(deadline, self._closed)
        self._conclude()  # a callback that hangs keeps nobody else waiting
        self._reap()

    def _reap(self) -> None:
        """Have the link freed, even if a callback never returns."""
        if self._released or self._freed is not None:  # or somebody sees to it already
            return
        self._freed = Flag()
        if not self._freed.wait(self._config.close_timeout) and self._runs:
            logger.warning("a callback of %r still runs, long after the channel has ended; it is killed", self)
            gevent.kill(self._greenlet)

    def _spawn_ending(self, function: Callable[..., None], *args: Any) -> None:
        self._owner.greenlets.add(spawn(f"channel {self.peer.identifier[:8]} ending", function, *args))

    def _note_end(self, reason: Reason, text: str, *, by_peer: bool = False) -> None:
        """Remember why the channel ends; the first reason is the cause, later ones follow from it."""
        if self.reason is None:
            self.reason, self.reason_text, self.ended_by_peer = reason, text, by_peer

    def _conclude(self) -> None:
        if self.state is ChannelState.CLOSED:
            return
        self._note_end(Reason.CONNECTION_LOST, "")
        self._dispatcher.reading = False
        self._move(ChannelState.CLOSED)
        self._closed.set()
        self._pings.give_up()
        self._tell_of_change()
        if self._session is not None:
            self._session.end()
        self._sender.book.close(self.reason or Reason.CONNECTION_LOST)
        self._owner.on_closed(self)

    # Small things.

    def _set_trusted(self, trusted: bool) -> None:
        if trusted != self.trusted:
            self.trusted = trusted
            self.refresh_permissions()
            self._owner.on_trust_changed(self)

    def _move(self, state: ChannelState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise LocalProtocolError(f"a {self.state.value} channel cannot become {state.value}")
        self.state = state
        self._sender.attached = state is _OPEN

    def _acknowledge(self) -> None:
        if self._dispatcher.acknowledger is not None:
            self._dispatcher.acknowledger.acknowledge()

    def _take_hello(self, hello: pb.HelloPacket) -> None:
        self._liveness.promised = hello.heartbeat_interval_ms / 1000
        self._sender.max_frame = hello.max_frame or DEFAULT_MAX_FRAME
        self.connected_at = clock.monotonic()

    def _replace_link(self, link: Link) -> None:
        if self._link is not self._held:
            self._link.release()  # nobody has begun to read from it
        self._link = link
        link.throttle = None if self.trusted else self._throttle
        if self._dispatcher.acknowledger is not None:
            self._dispatcher.acknowledger.take_over(link)

    def _tell_of_change(self) -> None:
        self._sender.changed()
        if self._moved is not None:
            self._moved.set()

    def _wait_for_change(self) -> None:
        self._moved = Flag()
        self._moved.wait()
        self._moved = None


def _make_session(ours: pb.HelloPacket | None, theirs: pb.HelloPacket, config: NetworkConfig) -> Session | None:
    """The session that the hellos of a first connection begin, if both sides keep one."""
    if ours is None or not ours.session_id or not theirs.session_id:
        return None
    session: Session = Session(ours.session_id, max_packets=config.session_packets, max_bytes=config.session_bytes)
    session.begin(theirs.session_id)
    return session


def _in_hub() -> bool:
    """Whether this runs in the hub, where nothing may wait: a signal handler, for example."""
    return isinstance(gevent.getcurrent(), gevent.hub.Hub)
