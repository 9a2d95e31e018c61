"""What happens in a network, as JSON objects, for stdout and for whoever listens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.network import PeerNetwork
from peernet.node import bodies
from peernet.node.control.protocol import encode
from peernet.node.refusals import Refusals
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime.text import printable
from peernet.switch.pending import IncomingPeerConnectionAttempt
from peernet.trust.policy import CONTROL, Decision
from peernet.v1 import packet_pb2 as pb

EventObject = dict[str, Any]

# Events before `ready` that are kept: it comes as soon as all addresses are listened on, which takes
# a moment, or longer if a name has to be looked up.
MAX_EARLY = 256

# How often refused packets are looked at that no line has told of. Seconds.
LOOK_EVERY = 1.0
# Bytes that wait for one listener, as many as for stdout; when it is slower than that, it misses the oldest.
# Those of all listeners are the same objects, so many slow ones cost hardly more than one.
MAX_WAITING = 4 * 1024 * 1024
# What is shown of a packet's id: all of it, unless a peer makes fun. Bytes.
MAX_PACKET_ID = 64


class Subscription:
    """The events from now on, for one listener, as lines. A slow one misses some and is told how many."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._filled = Flag()
        self._ended = False

    def put(self, line: bytes) -> None:
        """Queue an event; drop the oldest if too much waits. A single one may be larger than that."""
        while self._lines and self._size + len(line) > MAX_WAITING:
            self._take()
            self._dropped += 1
        self._lines.append(line)
        self._size += len(line)
        self._filled.set()

    def end(self) -> None:
        """Let the listener have what waits, and no more."""
        self._ended = True
        self._filled.set()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._filled.wait()
            self._filled.clear()
            # A drop makes room for the line that is being queued, so the notice always has a line behind it.
            while self._lines:  # whenever one was dropped, later ones wait
                if self._dropped:
                    count, self._dropped = self._dropped, 0
                    yield encode(make_event("dropped", count=count))
                yield self._take()
            if self._ended:
                return

    def _take(self) -> bytes:
        line = self._lines.popleft()
        self._size -= len(line)
        return line


class EventLog:
    """Turns a network's events into JSON objects, in the order in which they happen.

    Nothing is told before :meth:`begin`, so that ``ready`` is always the first.

    Args:
        network: not started yet.
        show: called with every event, in the greenlet that caused it; must not wait.
        pace: waits until more can be shown; called after events that peers cause at will,
            in the greenlet of the peer's channel, so that it slows down nobody else.
    """

    def __init__(self, network: PeerNetwork, show: Callable[[EventObject], None], pace: Callable[[], None]) -> None:
        self._show = show
        self._pace = pace
        self._decision_timeout = network.config.decision_timeout
        self._subscriptions: list[Subscription] = []
        self._early: list[EventObject] | None = []
        self._dropped = 0
        self._refusals = Refusals(self._tell_refused)
        network.routines.add("tell refusals", LOOK_EVERY, lambda: self._refusals.tell_due(time.monotonic()))
        network.peer_added.add(self._peer_added)
        network.peer_removed.add(self._peer_removed)
        network.peer_pending.add(self._pending)
        network.packet_received.add(self._packet)
        network.packet_refused.add(self._refused)
        network.handler_failing.add(self._handler_failing)
        network.trust_changed.add(self._trust_changed)
        network.peer_banned.add(lambda ban: self.tell(make_event("banned", **ban.to_dict())))
        network.packet_set_aside.add(self._set_aside)
        network.channel_reconnecting.add(lambda channel: self._connection_changed("reconnecting", channel))
        network.channel_resumed.add(lambda channel: self._connection_changed("resumed", channel))

    def begin(self, ready: EventObject) -> None:
        """Tell the first event, and whatever has happened before it was known."""
        early, self._early = self._early or [], None
        for event in [ready, *early]:
            self.tell(event)
        if self._dropped:
            self.tell(make_event("dropped", count=self._dropped))

    def tell(self, event: EventObject) -> None:
        """Tell an event to everybody."""
        if self._early is not None:
            if len(self._early) < MAX_EARLY:
                self._early.append(event)
            else:
                self._dropped += 1
            return
        self._show(event)
        if self._subscriptions:
            line = encode(event)
            for subscription in self._subscriptions:
                subscription.put(line)

    def listen(self) -> Iterator[bytes]:
        """The events from the first ``next()`` on, as lines."""
        subscription = Subscription()
        self._subscriptions.append(subscription)
        try:
            yield from subscription
        finally:
            self._subscriptions.remove(subscription)

    def end(self) -> None:
        """Let the listeners have what waits for them, and go."""
        for subscription in self._subscriptions:
            subscription.end()

    def _peer_added(self, channel: PeerChannel) -> None:
        who = _introduction(channel.peer)
        self.tell(make_event("peer_added", **who, dialled=channel.dialled, trusted=channel.trusted))

    def _peer_removed(self, channel: PeerChannel, reason: Reason) -> None:
        self._refusals.close(channel)
        self.tell(
            make_event(
                "peer_removed",
                peer=channel.peer.identifier,
                address=channel.peer.endpoint,
                reason=str(reason),
                by_peer=channel.ended_by_peer,
                message=channel.reason_text,
            )
        )

    def _pending(self, attempt: IncomingPeerConnectionAttempt) -> None:
        who = _introduction(attempt.peer)
        self.tell(make_event("pending", **who, decision_timeout=self._decision_timeout))

    def _packet(self, channel: PeerChannel, packet: pb.Packet) -> None:
        kind = packet.WhichOneof("body")
        if kind is None or kind in CONTROL:
            return  # goodbyes are told as peer_removed
        about = {"from": channel.peer.identifier}
        if packet.packet_id:
            about["packet_id"] = packet.packet_id[:MAX_PACKET_ID].hex()
        self.tell(make_event("packet", kind=kind, **about, body=bodies.to_json(kind, packet)))
        self._pace()

    def _refused(self, channel: PeerChannel, kind: str, decision: Decision) -> None:
        if self._refusals.note(channel, kind, decision, time.monotonic()):
            self._pace()

    def _tell_refused(self, channel: PeerChannel, kind: str, decision: Decision, count: int) -> None:
        sender = {"from": channel.peer.identifier}
        self.tell(make_event("refused", kind=kind, **sender, rule=decision.rule, why=decision.why, count=count))

    def _handler_failing(self, channel: PeerChannel, kind: str, error: BaseException) -> None:
        sender = {"from": channel.peer.identifier}
        what = printable(f"{type(error).__name__}: {error}")
        self.tell(make_event("handler_failing", kind=kind, **sender, error=what))

    def _set_aside(self, peer: str, packet_id: bytes, attempts: int) -> None:
        self.tell(make_event("set_aside", peer=peer, packet_id=packet_id.hex(), attempts=attempts))

    def _connection_changed(self, name: str, channel: PeerChannel) -> None:
        self.tell(make_event(name, peer=channel.peer.identifier, address=channel.peer.endpoint))

    def _trust_changed(self, channel: PeerChannel) -> None:
        self.tell(make_event("trust_changed", peer=channel.peer.identifier, trusted=channel.trusted))


def make_event(name: str, /, **fields: Any) -> EventObject:
    """An event that happens now."""
    return {"event": name, **fields, "time": round(time.time(), 3)}


def _introduction(peer: GenericPeer) -> EventObject:
    return {"peer": peer.identifier, "address": peer.endpoint, "proven": peer.proven, "agent": peer.agent}
