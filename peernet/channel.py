"""PeerChannel: one peer, one greenlet that reads and calls back, one outbox."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum
from functools import cached_property
from typing import Any, Protocol

import gevent
from gevent.event import Event as Flag
from gevent.pool import Group
from google.protobuf.message import Message
from greenlet import greenlet

from peernet.config import NetworkConfig
from peernet.deadline import Deadline
from peernet.errors import (
    ChannelClosedError,
    LocalProtocolError,
    OutboxFullError,
    PacketTooBigError,
    PeerNetError,
    PingTimeout,
    RemoteProtocolError,
    SelfWaitError,
    SendTimeout,
    TransportError,
    UnprovenPeerError,
)
from peernet.events import Event
from peernet.goodbye import goodbye_packet
from peernet.greenlets import spawn
from peernet.handlers import PacketHandleProtocol, find_callback
from peernet.link import Frame, Link
from peernet.peer import GenericPeer
from peernet.reasons import Reason
from peernet.text import printable
from peernet.transport.base import Transport
from peernet.trust import CONTROL, Decision, IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, ConnectionState
from peernet.wire.packets import UNKNOWN, Encoded, Kind, decode, encode_body, encode_envelope, encode_header, peek

logger = logging.getLogger(__name__)

DEFAULT_MAX_FRAME = 1024 * 1024  # of a peer that does not say
# A peer may promise heartbeats so rare that it counts as dead only after this many
# times our own limit; more would let it hide its death.
MAX_PATIENCE = 10
# A failing callback is logged at most this often per channel. Seconds.
LOG_EVERY = 60.0


class ChannelState(Enum):
    """Where a channel stands."""

    PENDING = "pending"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


# state -> the states that may follow. PENDING: identity proven, decision awaited.
# CLOSING: a goodbye is said or heard, and what the peer still sends is not looked at.
TRANSITIONS: dict[ChannelState, frozenset[ChannelState]] = {
    ChannelState.PENDING: frozenset({ChannelState.OPEN, ChannelState.CLOSING, ChannelState.CLOSED}),
    ChannelState.OPEN: frozenset({ChannelState.CLOSING, ChannelState.CLOSED}),
    ChannelState.CLOSING: frozenset({ChannelState.CLOSED}),
    ChannelState.CLOSED: frozenset(),
}


# Looking a member up in its class takes as long as a call (CPython 3.11), and these
# are asked for every packet.
_OPEN = ChannelState.OPEN


class ChannelOwner(Protocol):
    """What a channel needs of the network it belongs to."""

    config: NetworkConfig
    handlers: PacketHandleProtocol
    counters: Counter[str]
    packet_received: Event
    greenlets: Group

    @property
    def policy(self) -> IncomingPeerTrustPolicy: ...

    def on_refused(self, channel: PeerChannel, kind: str, decision: Decision) -> None: ...

    def on_trust_changed(self, channel: PeerChannel) -> None: ...

    def on_closed(self, channel: PeerChannel) -> None: ...


class PeerChannel:
    """A channel to one peer.

    Made by :class:`~peernet.network.PeerNetwork`, once the peer is known. Packets are
    handled one after the other in the channel's own greenlet, so a callback that
    takes its time slows this peer down and no other.

    Attributes:
        peer: who is at the other end.
        dialled: whether this side made the connection.
        received: how many packets have reached their callback.
        state: see :class:`ChannelState`.
        reason: why the channel ended; ``None`` while it lives. ``reason_text`` says more.
        ended_by_peer: whether the peer said goodbye.
        trusted: whether every kind of packet is permitted.
        opened_at: monotonic seconds when it opened; ``None`` if it never did.
    """

    def __init__(
        self,
        owner: ChannelOwner,
        peer: GenericPeer,
        transport: Transport,
        connection: Connection,
        hello: pb.HelloPacket,
        *,
        dialled: bool,
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.received = 0
        self.state = ChannelState.PENDING
        self.reason: Reason | None = None
        self.reason_text = ""
        self.ended_by_peer = False
        self.trusted = False
        self.opened_at: float | None = None
        self._handlers: PacketHandleProtocol | None = None
        self._owner = owner
        self._config = owner.config
        self._packet_received = owner.packet_received
        self._link = Link(transport, connection, owner.config, self._broken)
        self._greenlet: greenlet = gevent.getcurrent()  # who holds it until it runs
        self._closed = Flag()
        self._permitted: frozenset[str] = frozenset()
        self._heartbeat_promised = hello.heartbeat_interval_ms / 1000
        self._released = False
        self._freed: Flag | None = None
        self._tasks: Group | None = None
        self._pings = 0
        self._awaited: dict[int, Flag] | None = None
        self._failures_logged_at = float("-inf")
        self._max_frame = hello.max_frame or DEFAULT_MAX_FRAME

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
        if self._handlers is None:
            self._handlers = PacketHandleProtocol(defaults=False)
        return self._handlers

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
    def has_tasks(self) -> bool:
        """Whether greenlets that :meth:`spawn` started still run."""
        return bool(self._tasks)

    @property
    def patience(self) -> float:
        """Seconds of silence after which the peer counts as dead, at least twice what it promised to keep."""
        promised = min(self._heartbeat_promised, MAX_PATIENCE * self._config.dead_after)
        return max(self._config.dead_after, 2 * promised)

    def send(self, message: Message, *, timeout: float | None = None) -> None:
        """Queue a message such as ``PureMessagePacket(message="hello")``.

        Waits while the outbox is full. In one of this channel's own callbacks it never
        waits, because reading must not depend on writing: a reserve takes the packet.

        Args:
            message: the body of a packet.
            timeout: longest wait in seconds; ``None`` means ``config.send_timeout``.

        Raises:
            ChannelClosedError: the channel is not open.
            SendTimeout: there was no room in time.
            OutboxFullError: in a callback, when the reserve is used up too.
            PacketTooBigError: the peer does not accept frames of this size.
            LocalProtocolError: the message is not a body, or one that channels send themselves.
        """
        self.send_encoded(encode_body(message), timeout)

    def try_send(self, message: Message) -> None:
        """As :meth:`send`, but never waits.

        Raises:
            OutboxFullError: there is no room now.
        """
        self.send_encoded(encode_body(message), 0)

    def send_encoded(self, encoded: Encoded, timeout: float | None) -> None:
        """:meth:`send` for a body that :func:`~peernet.wire.packets.encode_body` has serialised."""
        kind, prefix, content = encoded
        if self.state is not _OPEN:
            raise self._closed_error()
        if kind.control:
            raise LocalProtocolError(f"channels send {kind.name} packets themselves; use close() to disconnect")
        size = len(prefix) + len(content)
        if size > (self._max_frame if kind.bulk else self._config.max_control_packet):
            raise self._too_big(kind, size)
        outbox = self._link.outbox
        if outbox.packets >= outbox.max_packets or outbox.bytes >= outbox.max_bytes:
            self._make_room(size, self._config.send_timeout if timeout is None else timeout)
        outbox.put(encode_header(encoded), content)

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
        self._permitted = self._owner.policy.permitted_kinds(self) - CONTROL

    def open(self) -> None:
        """Let packets through. The network calls it when the decision about the peer is made."""
        self._move(ChannelState.OPEN)
        self.opened_at = self._link.last_received = time.monotonic()
        self.refresh_permissions()

    def spawn(self, function: Callable[..., Any], *args: Any) -> gevent.Greenlet[..., Any]:
        """Run ``function(*args)`` in a greenlet of its own, where it may wait on this channel.

        It is killed if it still runs some time after the channel has closed.
        """
        if self.state is ChannelState.CLOSED:
            raise self._closed_error()
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
        self._check_not_own_greenlet("ping")
        if self.state is not _OPEN:
            raise self._closed_error()
        self._pings += 1
        request, answered = self._pings, Flag()
        self._awaited = self._awaited or {}
        self._awaited[request] = answered
        began = time.monotonic()
        try:
            self._link.put_control(pb.HeartbeatPacket(), encode_envelope(request_id=request))
            if not answered.wait(timeout):
                raise PingTimeout(f"{self!r} did not answer within {timeout} s")
            if request in self._awaited:  # woken by the end of the channel
                raise self._closed_error()
        finally:
            self._awaited.pop(request, None)
        return time.monotonic() - began

    def close(
        self,
        reason: Reason = Reason.CLOSED,
        message: str = "",
        *,
        retry_after: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        """Say goodbye, write what is queued, and end the channel. Idempotent.

        Waits until it has ended; in one of the channel's own callbacks it returns at
        once and the rest happens afterwards.

        Args:
            reason: what the peer is told.
            message: one sentence more for its log.
            retry_after: seconds the peer is asked to wait before it dials again.
            timeout: seconds after which it is cut off; ``None`` means ``config.close_timeout``. A callback
                that still runs ``config.close_timeout`` after that is killed.
        """
        self._begin_closing(reason, message, retry_after, timeout)
        if not self._in_own_greenlet() and not _in_hub():
            self._closed.wait(None)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the channel has ended. Returns whether it has.

        Raises:
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
        """
        if not self._closed.is_set():
            self._check_not_own_greenlet("wait_closed")
        return bool(self._closed.wait(timeout))

    # What the network calls.

    def start(self) -> gevent.Greenlet[..., Any]:
        """:meth:`run` in a new greenlet."""
        self._greenlet = spawned = spawn(f"channel {self.peer.identifier[:8]}", self.run)
        return spawned

    def run(self) -> None:
        """Read and call back until the channel ends. The calling greenlet becomes the channel's own."""
        self._greenlet = gevent.getcurrent()
        try:
            if self._link.read(self._handle):
                self._note_end(Reason.CONNECTION_LOST, "the stream ended without a goodbye")
            elif not self.ended_by_peer:
                self._link.discard_until_end()
        except RemoteProtocolError as error:
            if self.state is _OPEN:
                self._owner.counters[error.reason] += 1
                logger.info("= %s broke the protocol: %s", self.peer.identifier[:8], printable(error))
                self._begin_closing(error.reason, str(error))
            self._link.discard_until_end()
        except TransportError as error:
            self._note_end(Reason.CONNECTION_LOST, str(error))
        finally:
            self.release()

    def tick(self, now: float, lag: float = 0.0) -> None:
        """Heartbeat, and notice a peer that is dead or does not read.

        Args:
            now: monotonic seconds.
            lag: seconds for which this process itself stood still before.
        """
        if self.state not in (ChannelState.PENDING, ChannelState.OPEN):
            return
        if self._link.outbox.stalled_for - lag > self._config.write_timeout:
            self._spawn_ending(self._cut, Reason.SLOW_PEER)
        elif now - self._link.last_received - lag > self.patience and not self._link.has_news(now):
            self._spawn_ending(self._cut, Reason.TIMEOUT)
        elif now - self._link.outbox.last_progress >= self._config.heartbeat_interval and not self._link.outbox.bytes:
            self._link.put_control(pb.HeartbeatPacket())

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

    # Reading.

    def _handle(self, frame: Frame) -> bool:
        """Take one frame through the gates to its callback. Returns whether to go on."""
        if self.state is not _OPEN:
            return False  # closed by somebody else since the last frame
        kind = peek(frame)
        if not kind.bulk:  # an open connection may always carry the bulk kinds
            self._link.connection.received(kind, len(frame))
        if kind.name in self._permitted:
            self._deliver(kind.name, decode(frame))
        elif kind.control:
            self._handle_control(kind.name, decode(frame))
        elif kind is UNKNOWN:
            self._count("unknown_kind")
        else:
            self._refuse(kind.name)
        return self.state is _OPEN

    def _handle_control(self, kind: str, packet: pb.Packet) -> None:
        if kind == "heartbeat":
            self._answer_heartbeat(packet)
        elif kind == "disconnect":
            goodbye = packet.disconnect
            self._note_end(Reason.from_number(goodbye.reason), printable(goodbye.message), by_peer=True)
            self._move(ChannelState.CLOSING)  # while the callback runs nothing can be sent any more
            self._deliver(kind, packet)
            self._conclude()

    def _answer_heartbeat(self, packet: pb.Packet) -> None:
        if self._awaited and packet.reply_to in self._awaited:
            self._awaited.pop(packet.reply_to).set()
        if packet.request_id and not self._link.outbox.full:
            self._link.put_control(pb.HeartbeatPacket(), encode_envelope(reply_to=packet.request_id))

    def _refuse(self, kind: str) -> None:
        self._count("refused")
        self._owner.on_refused(self, kind, self._owner.policy.permits(kind, self))

    def _deliver(self, kind: str, packet: pb.Packet) -> None:
        origin = packet.source_origin_identifier
        if origin and origin != self.peer.identifier:
            raise RemoteProtocolError(
                f"a packet of kind {kind} claims to be from {printable(origin)}", Reason.ORIGIN_MISMATCH
            )
        self.received += 1
        if self._packet_received.listeners:
            self._packet_received.fire(self, packet)
        callback = find_callback(kind, self._handlers, self._owner.handlers)
        if callback is None:
            return self._count("unhandled")
        try:
            callback(self, packet)
        except (Exception, gevent.Timeout) as error:
            self._callback_failed(kind, error)

    def _callback_failed(self, kind: str, error: BaseException) -> None:
        """Count it, and log it now and then: a million failures must not fill a disk."""
        self._count("callback_failed")
        now = time.monotonic()
        if now - self._failures_logged_at >= LOG_EVERY:
            self._failures_logged_at = now
            failures = self.counters["callback_failed"]
            logger.error("the callback for %s failed (%d so far on %r)", kind, failures, self, exc_info=error)

    # Writing.

    def _make_room(self, size: int, timeout: float) -> None:
        """Return when the outbox may take a packet.

        Raises:
            SendTimeout, OutboxFullError, ChannelClosedError: it may not.
        """
        self._link.outbox.flush()
        if not self._link.outbox.full:
            return
        if self._in_own_greenlet():
            if self._link.outbox.holds_in_reserve(size):
                return
            raise OutboxFullError(
                "this callback has queued more than the outbox and its reserve hold; send large amounts "
                "from channel.spawn(...)"
            )
        if timeout <= 0 or _in_hub():
            raise OutboxFullError(f"the outbox of {self!r} is full")
        deadline = Deadline(timeout)
        while not self._link.outbox.wait_for_room(deadline.remaining):
            if self._link.outbox.broken:
                raise self._closed_error()
            if deadline.expired:
                raise SendTimeout(f"{self!r} made no room in {timeout} s: the peer reads too slowly")
        if self.state is not _OPEN:
            raise self._closed_error()

    # Ending.

    def _begin_closing(
        self, reason: Reason, message: str, retry_after: float = 0.0, timeout: float | None = None
    ) -> None:
        if self.state in (ChannelState.CLOSING, ChannelState.CLOSED):
            return
        goodbye = goodbye_packet(reason, message, retry_after)
        self._note_end(reason, message)
        self._move(ChannelState.CLOSING)
        if self._link.connection.state is not ConnectionState.CLOSED:
            self._link.put_control(goodbye)
        self._spawn_ending(self._finish, Deadline(self._config.close_timeout if timeout is None else timeout))

    def _finish(self, deadline: Deadline) -> None:
        self._link.finish(deadline, self._closed)
        self._conclude()  # a callback that hangs keeps nobody else waiting
        self._reap()

    def _cut(self, reason: Reason) -> None:
        """End a channel whose peer does not answer: whatever its callback does, it is gone now."""
        if self.state not in (ChannelState.PENDING, ChannelState.OPEN):
            return
        self._owner.counters[reason] += 1
        self._note_end(reason, reason.sentence)
        self._link.put_control(goodbye_packet(reason))
        self._link.outbox.flush()
        self._conclude()
        self._link.abort()
        self._reap()

    def _reap(self) -> None:
        """Have the link freed, even if a callback never returns."""
        if self._released:
            return
        self._freed = Flag()
        if not self._freed.wait(self._config.close_timeout) and self._greenlet is not None:
            logger.warning("a callback of %r still runs, long after the channel has ended; it is killed", self)
            gevent.kill(self._greenlet)

    def _spawn_ending(self, function: Callable[..., None], *args: Any) -> None:
        self._owner.greenlets.add(spawn(f"channel {self.peer.identifier[:8]} ending", function, *args))

    def _broken(self, error: TransportError) -> None:
        """The outbox could not write."""
        self._note_end(Reason.CONNECTION_LOST, str(error))
        self._link.abort()

    def _note_end(self, reason: Reason, text: str, *, by_peer: bool = False) -> None:
        """Remember why the channel ends; the first reason is the cause, later ones follow from it."""
        if self.reason is None:
            self.reason, self.reason_text, self.ended_by_peer = reason, text, by_peer

    def _conclude(self) -> None:
        if self.state is ChannelState.CLOSED:
            return
        self._note_end(Reason.CONNECTION_LOST, "")
        self._move(ChannelState.CLOSED)
        self._closed.set()
        for answered in (self._awaited or {}).values():
            answered.set()
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

    def _check_not_own_greenlet(self, method: str) -> None:
        if self._in_own_greenlet():
            raise SelfWaitError(
                f"{method}() in a callback of the same channel would wait for itself; use channel.spawn(...)"
            )

    def _in_own_greenlet(self) -> bool:
        return gevent.getcurrent() is self._greenlet

    def _count(self, what: str) -> None:
        self.counters[what] += 1
        self._owner.counters[what] += 1

    def _too_big(self, kind: Kind, size: int) -> PacketTooBigError:
        limit = self._max_frame if kind.bulk else self._config.max_control_packet
        return PacketTooBigError(
            f"a {kind.name} packet of {size} bytes; {self.peer.identifier[:8]} takes at most {limit}; send it in parts"
        )

    def _closed_error(self) -> PeerNetError:
        if self.state is ChannelState.PENDING:
            return LocalProtocolError("the connection is still pending; accept it first")
        reason = self.reason or Reason.CLOSED
        return ChannelClosedError(f"the channel to {self.peer.identifier[:8]} is closed: {reason.sentence}", reason)


def _in_hub() -> bool:
    """Whether this runs in the hub, where nothing may wait: a signal handler, for example."""
    return isinstance(gevent.getcurrent(), gevent.hub.Hub)
