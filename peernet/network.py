"""PeerNetwork: owns everything, starts and stops it in order."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import gevent
from gevent.event import Event as Flag
from gevent.pool import Group
from google.protobuf.message import Message

from peernet._version import __version__
from peernet.address import PeerAddress, endpoint
from peernet.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.deadline import Deadline
from peernet.dialler import Dialler
from peernet.errors import (
    ConfigurationError,
    PeerNetError,
    RefusedByPeerError,
    RefusedByPolicyError,
)
from peernet.events import Event
from peernet.greenlets import spawn
from peernet.handlers import PacketHandleProtocol
from peernet.handshake import PROTOCOL_VERSION, Introduced, Refusal, introduce
from peernet.identity import Identity
from peernet.inbound import InboundConnectingPeersQueue, IncomingPeerConnectionAttempt
from peernet.known_peers import ChannelTable, KnownPeers
from peernet.listener import Listener
from peernet.peer import GenericPeer
from peernet.reasons import Reason
from peernet.reception import Reception
from peernet.routines import NetworkRoutines
from peernet.transport.tcp import TcpTransport
from peernet.transport.tls import TlsContext
from peernet.trust import (
    Decision,
    IdentifierOrigin,
    IncomingPeerMode,
    IncomingPeerTrustPolicy,
    PeerNetworkTrustPolicy,
)
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import encode_body

logger = logging.getLogger(__name__)

# How long a peer that found no room is asked to stay away. Seconds.
BUSY_RETRY_AFTER = 5.0
# How long a dial that was refused as a duplicate waits for the other connection. Seconds.
DUPLICATE_PATIENCE = 2.0
# How long greenlets get to end by themselves when all goodbyes are said. Seconds.
AFTER_GOODBYE = 0.5


@dataclass(frozen=True)
class Outcome:
    """What became of a broadcast for one peer: queued, or the error that kept it from being queued."""

    queued: bool
    error: PeerNetError | None = None


class PeerNetwork:
    """One node in a network of peers. Many may live in one process.

    Args:
        identity: who this node is; a new, unsaved identity if not given.
        listen: ``host:port`` addresses to accept connections on; port 0 lets the system choose.
        network_name: only peers that give the same name are talked to.
        policy: whom to let in and what to take from them.
        network_policy: who may change this node's identifier.
        config: limits and timeouts.
        handlers: callbacks by kind of packet; the defaults if not given.
        insecure: plain TCP instead of TLS. Identifiers are then mere claims, and nobody can be trusted.
        agent: what this program calls itself towards peers.

    Attributes:
        handlers: callbacks by kind of packet, for all channels.
        counters: how many of what, for example one count per reason of refusal.
        routines: jobs that run while the network runs.
        known_peers: the address book.
        default_trust_protocol: ``callback(channel)`` run in a greenlet of its own when a channel
            opens; it may wait, talk to the peer, and call ``channel.trust()``. ``None``: only the
            policy's ``trusted_identifiers`` are trusted.

    Events, each with ``add``, ``remove`` and usable as a decorator (``@network.peer_added.add``):
        ``incoming_peer_connection_attempt(attempt)``, ``peer_pending(attempt)``, ``peer_added(channel)``,
        ``peer_removed(channel, reason)``, ``packet_received(channel, packet)``,
        ``packet_refused(channel, kind, decision)``, ``trust_changed(channel)``.

    Raises:
        AddressError: a listen address that does not parse.
    """

    def __init__(
        self,
        identity: Identity | None = None,
        listen: Iterable[str] = (),
        network_name: str = "peernet",
        policy: IncomingPeerTrustPolicy | None = None,
        config: NetworkConfig | None = None,
        *,
        network_policy: PeerNetworkTrustPolicy | None = None,
        handlers: PacketHandleProtocol | None = None,
        insecure: bool = False,
        agent: str = f"peernet/{__version__}",
    ) -> None:
        if isinstance(listen, str):
            raise ConfigurationError(f"listen takes a list of addresses; write [{listen!r}]")
        self.identity = identity or Identity.generate()
        self.network_name = network_name
        self.network_policy = network_policy or PeerNetworkTrustPolicy()
        self.config = config or NetworkConfig()
        self.handlers = PacketHandleProtocol() if handlers is None else handlers
        self.insecure = insecure
        self.counters: Counter[str] = Counter()
        self.known_peers = KnownPeers(self.config)
        self.inbound_connecting_peers = InboundConnectingPeersQueue()
        self.routines = NetworkRoutines()
        self.default_trust_protocol: Callable[[PeerChannel], object] | None = None
        self.incoming_peer_connection_attempt = Event("incoming_peer_connection_attempt")
        self.peer_pending = Event("peer_pending")
        self.peer_added = Event("peer_added")
        self.peer_removed = Event("peer_removed")
        self.packet_received = Event("packet_received")
        self.packet_refused = Event("packet_refused")
        self.trust_changed = Event("trust_changed")
        self._agent = agent
        self._policy = policy or IncomingPeerTrustPolicy()
        self._listen = [PeerAddress.parse(text) for text in listen]
        self._tls: TlsContext | None = None
        self._channels = ChannelTable(self.identity.identifier)
        self._listeners: list[Listener] = []
        self._reception = self._make_reception()
        self._dialler = Dialler(self.config, self._introduce_dialled)
        self._greenlets = Group()  # one for each channel that we dialled
        self._stopping = False
        self._stopped = Flag()
        self._stopped.set()
        self.routines.add("liveness", self._tick_interval(), self._tick)

    def __enter__(self) -> PeerNetwork:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def identifier(self) -> str:
        """This node's identifier."""
        return self.identity.identifier

    @property
    def running(self) -> bool:
        """Whether the network is started."""
        return not self._stopped.is_set()

    @property
    def addresses(self) -> list[str]:
        """Where this node accepts connections, pinned to its identity."""
        pinned = None if self.insecure else self.identifier
        return [str(PeerAddress(at.address.host, at.address.port, pinned)) for at in self._listeners]

    @property
    def active_peer_channels(self) -> list[PeerChannel]:
        """The open channels; a copy, safe to iterate while channels come and go."""
        return list(self._channels)

    @property
    def trusted_peer_channels(self) -> list[PeerChannel]:
        """The open channels that are trusted."""
        return [channel for channel in self._channels if channel.trusted]

    def channel_to(self, identifier: str) -> PeerChannel | None:
        """The open channel to a peer, if there is one."""
        return self._channels.get(identifier)

    @property
    def policy(self) -> IncomingPeerTrustPolicy:
        """Whom to let in and what to take from them. Setting it takes effect on open channels at once."""
        return self._policy

    @policy.setter
    def policy(self, policy: IncomingPeerTrustPolicy) -> None:
        self._policy = policy
        for channel in self._channels:
            decision = policy.admits(channel.peer)
            if decision:
                channel.refresh_permissions()
            else:
                spawn("policy change", channel.close, _reason_for(decision), decision.why)

    def set_identity(self, identity: Identity, origin: IdentifierOrigin = IdentifierOrigin.LOCAL) -> None:
        """Give this node another identity, before it is started.

        Raises:
            IdentityLockedError: the network policy forbids it.
            ConfigurationError: the network is running.
        """
        self.network_policy.check_identifier_set(origin, already_set=True)
        if self.running:
            raise ConfigurationError("stop the network before it gets another identity")
        self.identity = identity
        self._channels = ChannelTable(identity.identifier)

    # Life.

    def start(self) -> None:
        """Listen, and start the routines. Idempotent.

        Raises:
            ListenError: an address cannot be listened on; then nothing is started.
        """
        if self.running:
            return
        self._tls = None if self.insecure else TlsContext(self.identity)
        try:
            for address in self._listen:
                self._listeners.append(Listener(address, self._reception.accepted))
        except PeerNetError:
            self._stop_listening()
            raise
        self._stopped.clear()
        self.routines.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Say goodbye to everybody, write what is queued, and end. Idempotent.

        May be called anywhere, a signal handler included; from there, and from a
        callback, it goes on in the background: :meth:`wait` waits for it.

        Args:
            timeout: seconds; what has not ended by then is cut off.
        """
        if isinstance(gevent.getcurrent(), gevent.hub.Hub) or self._in_a_channel():
            spawn("network stop", self._stop, timeout)
        else:
            self._stop(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the network is stopped. Returns whether it is."""
        return self._stopped.wait(timeout)

    # Peers.

    def connect(self, address: str, *, timeout: float | None = None, attempts: int | None = None) -> PeerChannel:
        """Connect to a peer. If there is a channel to it already, that one is returned.

        Args:
            address: ``peer://identifier@host:port``, or ``host:port`` to take whoever answers.
            timeout: seconds for everything; ``None`` means ``config.connect_timeout``.
            attempts: how often to try; ``None`` means ``config.connect_attempts``.

        Raises:
            AddressError: the address does not parse.
            ConnectError: or a subclass that says why there is no channel.
        """
        if not self.running:
            raise ConfigurationError("the network is not started; call start() first")
        where = PeerAddress.parse(address)
        existing = self._channels.get(where.identifier or "")
        if existing is not None:
            return existing
        deadline = Deadline(self.config.connect_timeout if timeout is None else timeout)
        try:
            introduced = self._dialler.dial(where, deadline.cap(3600.0), attempts or self.config.connect_attempts)
        except (RefusedByPeerError, RefusedByPolicyError) as error:
            return self._existing_instead(deadline, error)
        return self._open_dialled(introduced)

    def disconnect(self, identifier: str, reason: Reason = Reason.CLOSED) -> bool:
        """End the channel to a peer. Returns whether there was one."""
        channel = self._channels.get(identifier)
        if channel is None:
            return False
        channel.close(reason)
        return True

    def broadcast(self, message: Message, channels: Iterable[PeerChannel] | None = None) -> dict[str, Outcome]:
        """Queue a message on many channels at once, never waiting for any of them.

        Args:
            message: the body of a packet.
            channels: to whom; ``None`` means every open channel.

        Returns:
            What became of it, by identifier: a peer whose outbox is full does not get it.
        """
        encoded = encode_body(message)
        outcomes = {}
        for channel in self._channels if channels is None else channels:
            try:
                channel.send_encoded(encoded, 0)
                outcomes[channel.peer.identifier] = Outcome(True)
            except PeerNetError as error:
                outcomes[channel.peer.identifier] = Outcome(False, error)
        return outcomes

    # Trust.

    def trust(self, identifier: str) -> None:
        """Trust a peer, now and whenever it connects while this network lives."""
        self.policy = self._policy.adding(trusted_identifiers=identifier)
        channel = self._channels.get(identifier)
        if channel is not None and self._policy.trusts(channel.peer):
            channel.trust()

    def untrust(self, identifier: str) -> None:
        """Trust a peer no longer."""
        self.policy = self._policy.removing(trusted_identifiers=identifier)
        channel = self._channels.get(identifier)
        if channel is not None:
            channel.untrust()

    # What channels tell their network (ChannelOwner).

    def on_refused(self, channel: PeerChannel, kind: str, decision: Decision) -> None:
        self.packet_refused.fire(channel, kind, decision)

    def on_trust_changed(self, channel: PeerChannel) -> None:
        self.trust_changed.fire(channel)

    def on_closed(self, channel: PeerChannel) -> None:
        self._channels.remove(channel)
        if channel.opened_at is not None:
            self.known_peers.note(channel.peer, dialled=channel.dialled)
            self.peer_removed.fire(channel, channel.reason)

    # Inbound.

    def _make_reception(self) -> Reception:
        return Reception(
            self.config, self.counters, lambda peer: self._policy.admits(peer), self._introduce_inbound, self._welcome
        )

    def _introduce_inbound(self, tcp: TcpTransport) -> Introduced:
        def admit(peer: GenericPeer) -> None:
            self._admit(peer, dialled=False)

        return introduce(tcp, self._tls, self.config, self._hello(tcp), admit, dialled=False)

    def _welcome(self, introduced: Introduced) -> PeerChannel | None:
        """Decide about an introduced peer. Returns its channel, open, if it is let in."""
        channel = self._make_channel(introduced, dialled=False)
        attempt = IncomingPeerConnectionAttempt(channel)
        if self._place(attempt) and self._channels.keeps_existing(channel.peer.identifier, dialled=False):
            attempt.overrule(Reason.DUPLICATE)
        if attempt.verdict:
            self._open(channel)
            return channel
        self.counters[attempt.reason] += 1
        channel.dismiss(attempt.reason, attempt.message)
        return None

    def _place(self, attempt: IncomingPeerConnectionAttempt) -> bool:
        """Whether to let an inbound peer in, after asking whom the policy says to ask."""
        mode = self._policy.incoming_peer_placement
        if mode is not IncomingPeerMode.QUEUE_BASED:
            self.incoming_peer_connection_attempt.fire(attempt)
        if attempt.verdict is None and mode is IncomingPeerMode.EVENT_BASED and not attempt.deferred:
            attempt.accept()
        if attempt.verdict is None:
            self._hold(attempt)
        return bool(attempt.verdict)

    def _hold(self, attempt: IncomingPeerConnectionAttempt) -> None:
        self.inbound_connecting_peers.put(attempt)
        try:
            self.peer_pending.fire(attempt)
            attempt.wait(self.config.decision_timeout)
        finally:
            self.inbound_connecting_peers.remove(attempt)

    # Both directions.

    def _introduce_dialled(self, tcp: TcpTransport, address: PeerAddress) -> Introduced:
        def admit(peer: GenericPeer) -> None:
            self._admit(peer, dialled=True)

        return introduce(tcp, self._tls, self.config, self._hello(tcp), admit, dialled=True, pinned=address.identifier)

    def _admit(self, peer: GenericPeer, *, dialled: bool) -> None:
        """The gate on the identity.

        Raises:
            Refusal: the peer is not let in.
        """
        if peer.identifier == self.identifier:
            raise Refusal(Reason.SELF_CONNECTION)
        decision = self._policy.admits(peer)
        if not decision:
            raise Refusal(_reason_for(decision), rule=decision.rule)
        if self._channels.keeps_existing(peer.identifier, dialled=dialled) or self._is_pending(peer):
            raise Refusal(Reason.DUPLICATE)
        if not dialled and self._is_full():
            raise Refusal(Reason.BUSY, retry_after=BUSY_RETRY_AFTER)

    def _is_pending(self, peer: GenericPeer) -> bool:
        return peer.identifier in self.inbound_connecting_peers

    def _is_full(self) -> bool:
        return (
            not self.running
            or self._channels.inbound >= self.config.max_inbound
            or len(self.inbound_connecting_peers) >= self.config.max_pending
        )

    def _make_channel(self, introduced: Introduced, *, dialled: bool) -> PeerChannel:
        return PeerChannel(
            self, introduced.peer, introduced.transport, introduced.connection, introduced.hello, dialled=dialled
        )

    def _open_dialled(self, introduced: Introduced) -> PeerChannel:
        channel = self._make_channel(introduced, dialled=True)
        identifier = channel.peer.identifier
        existing = self._channels.get(identifier)
        if existing is not None and self._channels.keeps_existing(identifier, dialled=True):
            self._greenlets.add(spawn("duplicate", channel.dismiss, Reason.DUPLICATE))
            return existing
        self._open(channel)
        self._greenlets.add(spawn(f"channel {identifier[:8]}", channel.run))
        return channel

    def _open(self, channel: PeerChannel) -> None:
        replaced = self._channels.add(channel)
        if replaced is not None:
            replaced.supersede()
        channel.trusted = bool(self._policy.trusts(channel.peer))
        channel.open()
        self.known_peers.note(channel.peer, dialled=channel.dialled)
        self.peer_added.fire(channel)
        if self.default_trust_protocol is not None and self._policy.run_default_trust_protocol:
            channel.spawn(self.default_trust_protocol, channel)

    def _existing_instead(self, deadline: Deadline, error: RefusedByPeerError | RefusedByPolicyError) -> PeerChannel:
        """The channel that exists, or is just being made, if that is why a dial was refused.

        Raises:
            ConnectError: ``error``, if it was refused for another reason.
        """
        duplicate = Reason.DUPLICATE in (getattr(error, "reason", None), getattr(error, "rule", None))
        if duplicate and self._wait_for_channel(error.identifier, deadline.cap(DUPLICATE_PATIENCE)):
            channel = self._channels.get(error.identifier)
            if channel is not None:
                return channel
        raise error

    def _wait_for_channel(self, identifier: str, timeout: float) -> bool:
        arrived = Flag()

        def look(channel: PeerChannel) -> None:
            if channel.peer.identifier == identifier:
                arrived.set()

        self.peer_added.add(look)
        try:
            return self._channels.get(identifier) is not None or arrived.wait(timeout)
        finally:
            self.peer_added.remove(look)

    def _hello(self, tcp: TcpTransport) -> pb.HelloPacket:
        return pb.HelloPacket(
            protocol_min=PROTOCOL_VERSION,
            protocol_max=PROTOCOL_VERSION,
            network_name=self.network_name,
            agent=self._agent,
            listen_addresses=[at.address.endpoint for at in self._listeners],
            observed_address=endpoint(*tcp.remote),
            heartbeat_interval_ms=round(self.config.heartbeat_interval * 1000),
            identifier=self.identifier if self.insecure else "",
            max_frame=self.config.max_frame,
        )

    # Liveness.

    def _tick_interval(self) -> float:
        config = self.config
        return min(1.0, config.heartbeat_interval / 4, config.dead_after / 4, config.write_timeout / 4)

    def _tick(self) -> None:
        now = time.monotonic()
        for channel in self._channels:
            channel.tick(now)
        for attempt in self.inbound_connecting_peers:
            attempt.channel.tick(now)

    # Ending.

    def _in_a_channel(self) -> bool:
        current: Any = gevent.getcurrent()
        return current in self._greenlets or current in self._reception.greenlets

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.stop()
        self._listeners.clear()

    def _stop(self, timeout: float) -> None:
        if not self.running:
            return
        deadline = Deadline(timeout)
        if self._stopping:
            self._stopped.wait(timeout)
            return
        self._stopping = True
        try:
            self._say_goodbye(deadline)
        finally:
            self._stopping = False
            self._stopped.set()

    def _say_goodbye(self, deadline: Deadline) -> None:
        # In this order: nobody new, nothing periodic, then those who wait and those
        # who talk are told, and only what does not leave by itself is cut off.
        self._stop_listening()
        self.routines.stop()
        for attempt in self.inbound_connecting_peers:
            attempt.reject(reason=Reason.SHUTDOWN)
        channels = self.active_peer_channels
        goodbyes = [
            spawn("goodbye", partial(channel.close, Reason.SHUTDOWN, timeout=deadline.remaining))
            for channel in channels
        ]
        gevent.joinall(goodbyes, timeout=deadline.remaining)
        for group in (self._reception.greenlets, self._greenlets):
            group.join(timeout=deadline.cap(AFTER_GOODBYE))
            group.kill()
        for channel in channels:
            channel.kill_tasks()


def _reason_for(decision: Decision) -> Reason:
    """What a peer is told that the policy does not admit."""
    return Reason.BLOCKED if decision.rule.startswith("blocked") else Reason.NOT_ALLOWED
