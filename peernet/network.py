"""PeerNetwork: one node. It owns everything else, and starts and stops it in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from google.protobuf.message import Message

from peernet._version import __version__
from peernet.channel.broadcast import Outcome, broadcast
from peernet.channel.channel import PeerChannel
from peernet.channel.handlers import PacketHandleProtocol
from peernet.channel.receipts import Receipt
from peernet.config import NetworkConfig, check_network_name
from peernet.connections.acceptor import Acceptor
from peernet.connections.dialler import Dialler
from peernet.connections.handshaker import Handshaker
from peernet.environment import require_fast_protobuf
from peernet.errors import ConfigurationError, ConnectError, PeerNetError
from peernet.peers.address import PeerAddress
from peernet.peers.address_book import KnownPeers
from peernet.peers.identity import Identity
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.runtime.routines import NetworkRoutines
from peernet.runtime.threads import HomeThread
from peernet.switch.connector import Connector
from peernet.switch.pending import InboundConnectingPeersQueue
from peernet.switch.redialler import Redialler
from peernet.switch.shutdown import AFTER_GOODBYE, take_leave
from peernet.switch.switch import Switch
from peernet.switch.ticker import Ticker
from peernet.transport.backend import Backend, Listening, TcpBackend
from peernet.trust.bans import Bans
from peernet.trust.identifier_policy import IdentifierOrigin, PeerNetworkTrustPolicy
from peernet.trust.policy import IncomingPeerTrustPolicy
from peernet.wire.packets import encode_body

if TYPE_CHECKING:
    from peernet.durable.outbox import DurableOutbox
    from peernet.durable.receipt import DurableReceipt


class PeerNetwork:
    """One node in a network of peers. Many may live in one process.

    Args:
        identity: who this node is; a new, unsaved identity if not given.
        listen: ``host:port`` addresses to accept connections on; port 0 lets the system choose.
        network_name: only peers that give the same name are talked to.
        policy: whom to let in and what to take from them.
        config: limits and timeouts.
        network_policy: who may change this node's identifier.
        handlers: callbacks by kind of packet; the defaults if not given.
        insecure: plain TCP instead of TLS. Identifiers are then mere claims, and nobody can be trusted.
        agent: what this program calls itself towards peers.
        backend: how others are reached: over TCP and TLS, if not given.
        durable_outbox: the file of the durable outbox, for :meth:`send` with ``durable=True``; none if not given.

    Attributes:
        handlers: callbacks by kind of packet, for all channels.
        routines: jobs that run while the network runs.
        durable_outbox: packets that wait in a file for peers that are away; ``None`` without a file.
        incoming_peer_connection_attempt: event, ``listener(attempt)``: a peer asks to be let in.
        peer_pending: event, ``listener(attempt)``: a peer is held until somebody decides.
        peer_added: event, ``listener(channel)``.
        peer_removed: event, ``listener(channel, reason)``.
        packet_received: event, ``listener(channel, packet)``, before the callback.
        packet_refused: event, ``listener(channel, kind, decision)``: the policy does not permit it.
        handler_failing: event, ``listener(channel, kind, error)``: a callback has failed 20 times in a row.
        trust_changed: event, ``listener(channel)``.
        channel_reconnecting: event, ``listener(channel)``: the connection is lost, the channel waits for another one.
        channel_resumed: event, ``listener(channel)``: it has got one; nothing is lost.
        peer_banned: event, ``listener(ban)``: somebody is kept out for a while.

    Every event has ``add`` and ``remove``; ``@network.peer_added.add`` works as a decorator.

    Raises:
        AddressError: a listen address that does not parse.
        ConfigurationError: a network name that is too long.
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
        backend: Backend | None = None,
        durable_outbox: str | Path | None = None,
    ) -> None:
        if isinstance(listen, str):
            raise ConfigurationError(f"listen takes a list of addresses; write [{listen!r}]")
        check_network_name(network_name)
        self.identity = identity or Identity.generate()
        self.network_name = network_name
        self.network_policy = network_policy or PeerNetworkTrustPolicy()
        self.config = config or NetworkConfig()
        self.handlers = PacketHandleProtocol() if handlers is None else handlers
        self.insecure = insecure
        self.routines = NetworkRoutines()
        self._listen = [PeerAddress.parse(text) for text in listen]
        self._backend = TcpBackend(self.config.descriptor_reserve) if backend is None else backend
        self._listeners: list[Listening] = []
        self._stopping = False
        self._stopped = Flag()
        self._stopped.set()
        switch = Switch(self.identifier, self.config, policy or IncomingPeerTrustPolicy(), self.handlers)
        self.incoming_peer_connection_attempt = switch.incoming_peer_connection_attempt
        self.peer_pending = switch.peer_pending
        self.peer_added = switch.peer_added
        self.peer_removed = switch.peer_removed
        self.packet_received = switch.packet_received
        self.packet_refused = switch.packet_refused
        self.handler_failing = switch.handler_failing
        self.trust_changed = switch.trust_changed
        self.channel_reconnecting = switch.channel_reconnecting
        self.channel_resumed = switch.channel_resumed
        self.peer_banned = switch.bans.banned
        self._switch = switch
        self._home: HomeThread | None = None
        self._handshaker = Handshaker(
            self.config, switch, network_name, agent, insecure=insecure, listening=self._listening
        )
        self._dialler = Dialler(self.config, self._backend.dial, self._handshaker.dialled)
        self._acceptor = Acceptor(
            self.config, switch, self._backend.take_over, self._handshaker.inbound, switch.counters
        )
        self._connector = Connector(self.config, self._dialler, switch)
        self._dial_turns = BoundedSemaphore(self.config.max_redials)
        self._redialler = Redialler(self.config, self._connector.redial, self._dial_turns)
        switch.channel_reconnecting.add(self._redialler.restore)
        switch.peer_removed.add(lambda channel, reason: self._redialler.forget(channel))
        self.durable_outbox = None if durable_outbox is None else self._make_durable_outbox(durable_outbox)
        self._ticker = Ticker(self.config, switch.tick)
        self.routines.add("liveness", self._ticker.interval, self._ticker.tick)

    def __enter__(self) -> PeerNetwork:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # What there is.

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
    def counters(self) -> Counter[str]:
        """How many of what has happened, for example one count per reason of refusal."""
        return self._switch.counters

    @property
    def known_peers(self) -> KnownPeers:
        """The address book."""
        return self._switch.known_peers

    @property
    def bans(self) -> Bans:
        """Who is kept out for a while."""
        return self._switch.bans

    @property
    def inbound_connecting_peers(self) -> InboundConnectingPeersQueue:
        """The peers that are held until somebody decides about them."""
        return self._switch.queue

    @property
    def active_peer_channels(self) -> list[PeerChannel]:
        """The open channels; a copy, safe to iterate while channels come and go."""
        return [control.channel for control in self._switch.channels]

    @property
    def trusted_peer_channels(self) -> list[PeerChannel]:
        """The open channels that are trusted."""
        return [channel for channel in self.active_peer_channels if channel.trusted]

    def channel_to(self, identifier: str) -> PeerChannel | None:
        """The open channel to a peer, if there is one."""
        return self._switch.channels.channel_to(identifier)

    # Life.

    def start(self) -> None:
        """Listen, and start the routines. Idempotent.

        Raises:
            ListenError: an address cannot be listened on; then nothing is started.
            StorageError: the file of the durable outbox cannot be used; then nothing is started.
            ConfigurationError: protobuf has only its runtime in pure Python.
        """
        if self.running:
            return
        require_fast_protobuf()
        self._stopped.clear()
        self._handshaker.security = None if self.insecure else self._backend.secure(self.identity)
        try:
            if self.durable_outbox is not None:
                self.durable_outbox.open()
            for address in self._listen:
                take = self._acceptor
                self._listeners.append(self._backend.listen(address, take.accepted, take.not_accepted))
        except PeerNetError:
            self._stop_listening()
            if self.durable_outbox is not None:
                self.durable_outbox.close(0)
            self._stopped.set()
            raise
        self._home = HomeThread(self._switch.greenlets)
        self._switch.closing = False
        self._ticker.start()
        self.routines.start()
        if self.durable_outbox is not None:
            self.durable_outbox.start_calling()

    def stop(self, timeout: float = 5.0) -> None:
        """Say goodbye to everybody, write what is queued, and end. Idempotent.

        May be called anywhere, a signal handler included; from there, from a callback
        and from what a channel has spawned it goes on in the background: :meth:`wait`
        waits for it.

        Args:
            timeout: seconds; what has not ended by then is cut off.
        """
        # In a greenlet of its own, so that whoever interrupts the caller does not leave half a node.
        stopping = spawn("network stop", self._stop, timeout)
        current: Any = gevent.getcurrent()
        if not isinstance(current, gevent.hub.Hub) and not self._runs_a_channel(current):
            stopping.join()

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(*args)`` in a greenlet of the native thread that the network was started in.

        The only method that other native threads may call; ``call_soon(channel.send, message)``
        sends from one. It waits for nothing; what the function raises is logged.

        Raises:
            ConfigurationError: the network is not started.
        """
        if self._home is None or not self.running:
            raise ConfigurationError("the network is not started; call start() first")
        self._home.call_soon(function, *args)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the network is stopped. Returns whether it is."""
        return bool(self._stopped.wait(timeout))

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
        self._switch.rename(identity.identifier)

    # Peers.

    def connect(self, address: str, *, timeout: float | None = None, attempts: int | None = None) -> PeerChannel:
        """Connect to a peer. If there is a channel to it already, that one is returned.

        Args:
            address: ``peer://identifier@host:port``, or ``host:port`` to take whoever answers.
            timeout: seconds for everything; ``None`` means ``config.connect_timeout``.
            attempts: how often to try; ``None`` means ``config.connect_attempts``.

        Raises:
            AddressError: the address does not parse.
            ConfigurationError: the network is not started.
            ConnectError: or a subclass that says why there is no channel.
        """
        channel = self._connect(address, timeout, attempts or self.config.connect_attempts, asked=True)
        self.known_peers.note(channel.peer, dialled=channel.dialled, kept=True)
        return channel

    def connect_unasked(self, address: str, *, timeout: float | None = None) -> PeerChannel:
        """:meth:`connect` as a node does it by itself: once, and to no more than ``config.max_outbound`` peers."""
        return self._connect(address, timeout, 1, asked=False)

    def disconnect(self, identifier: str, reason: Reason = Reason.CLOSED) -> bool:
        """End the channel to a peer. Returns whether there was one."""
        channel = self.channel_to(identifier)
        if channel is None:
            return False
        channel.close(reason)
        return True

    @overload
    def send(
        self, to: str, message: Message, *, durable: Literal[False] = False, timeout: float | None = None
    ) -> Receipt: ...

    @overload
    def send(
        self, to: str, message: Message, *, durable: Literal[True], timeout: float | None = None
    ) -> DurableReceipt: ...

    def send(
        self, to: str, message: Message, *, durable: bool = False, timeout: float | None = None
    ) -> Receipt | DurableReceipt:
        """Send a message to a peer, which may be away if it is ``durable``.

        Without ``durable`` this is :meth:`PeerChannel.send` on the open channel. With it the packet is on
        the disk when this returns, and is delivered in order, at least once, as soon as there is a
        channel to the peer, by this network or by a later one with the same file. A peer that is away
        is dialled, if an address of it is known.

        Args:
            to: identifier of the peer; for durable messages also ``peer://identifier@host:port``, where the
                peer is dialled in future.
            message: the body of a packet.
            durable: keep it in the durable outbox until the peer has acknowledged it.
            timeout: longest wait for room in seconds, as in :meth:`PeerChannel.send`. The disk is waited for in
                any case.

        Raises:
            ConnectError: not durable, and there is no channel to the peer.
            OutboxFullError: the durable outbox has no room for it.
            StorageError: its file cannot be written.
            ConfigurationError: it is not said who shall get it, or there is no durable outbox, or the
                network is not started.
            PeerNetError: what else :meth:`PeerChannel.send` raises.
        """
        if durable:
            if self.durable_outbox is None:
                raise ConfigurationError("this network has no durable outbox; give PeerNetwork(durable_outbox=path)")
            return self.durable_outbox.send(to, encode_body(message))
        channel = self.channel_to(to)
        if channel is None:
            raise ConnectError(f"{to[:8]} is not connected; connect first, or send with durable=True")
        return channel.send(message, timeout=timeout)

    def broadcast(self, message: Message, channels: Iterable[PeerChannel] | None = None) -> dict[str, Outcome]:
        """Queue a message on many channels at once, never waiting for any of them.

        Args:
            message: the body of a packet.
            channels: to whom; ``None`` means every open channel.

        Returns:
            What became of it, by identifier: a peer whose outbox is full does not get it.
        """
        channels = self.active_peer_channels if channels is None else channels
        return broadcast(message, channels, self._switch.channels.control_of)

    # Trust.

    @property
    def policy(self) -> IncomingPeerTrustPolicy:
        """Whom to let in and what to take from them. Setting it takes effect on open channels at once."""
        return self._switch.policy

    @policy.setter
    def policy(self, policy: IncomingPeerTrustPolicy) -> None:
        self._switch.policy = policy

    @property
    def default_trust_protocol(self) -> Callable[[PeerChannel], object] | None:
        """``callback(channel)``, run in a greenlet of its own when a channel opens.

        It may wait, talk to the peer, and call ``channel.trust()``. ``None`` means that
        only the policy's ``trusted_identifiers`` are trusted.
        """
        return self._switch.trust_protocol

    @default_trust_protocol.setter
    def default_trust_protocol(self, protocol: Callable[[PeerChannel], object] | None) -> None:
        self._switch.trust_protocol = protocol

    def trust(self, identifier: str) -> None:
        """Trust a peer, now and whenever it connects while this network lives."""
        self.policy = self.policy.adding(trusted_identifiers=identifier)

    def untrust(self, identifier: str) -> None:
        """Trust a peer no longer."""
        self.policy = self.policy.removing(trusted_identifiers=identifier)
        channel = self.channel_to(identifier)
        if channel is not None:
            channel.untrust()

    def _connect(self, address: str, timeout: float | None, attempts: int, *, asked: bool) -> PeerChannel:
        if not self.running:
            raise ConfigurationError("the network is not started; call start() first")
        timeout = self.config.connect_timeout if timeout is None else timeout
        return self._connector.connect(PeerAddress.parse(address), timeout, attempts, asked=asked)

    def _make_durable_outbox(self, path: str | Path) -> DurableOutbox:
        from peernet.durable.outbox import DurableOutbox  # only for those who use it: it loads SQLite

        return DurableOutbox(self, path, self._dial_turns, lambda identifier: self._switch.channels.get(identifier))

    def _runs_a_channel(self, greenlet: Any) -> bool:
        return (
            greenlet in self._switch.greenlets
            or greenlet in self._acceptor.greenlets
            or any(control.has_spawned(greenlet) for control in self._switch.channels)
        )

    def _listening(self) -> list[str]:
        """The addresses that peers are told."""
        return [at.address.endpoint for at in self._listeners]

    # Ending.

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.stop()
        self._listeners.clear()

    def _stop(self, timeout: float) -> None:
        if not self.running or self._stopping:
            self._stopped.wait(timeout)
            return
        self._stopping = True
        try:
            self._say_goodbye(Deadline(timeout))
        finally:
            self._stopping = False
            self._stopped.set()

    def _say_goodbye(self, deadline: Deadline) -> None:
        # In this order: nobody new, nothing periodic, then those who wait and those
        # who talk are told, and only what does not leave by itself is cut off.
        self._stop_listening()
        self._redialler.stop()
        if self.durable_outbox is not None:
            self.durable_outbox.stop_calling()
        self._switch.closing = True
        self._dialler.stop()
        self.routines.stop()
        take_leave(self._switch, self._acceptor.greenlets, deadline)
        if self.durable_outbox is not None:
            self.durable_outbox.close(deadline.cap(AFTER_GOODBYE))
        self._switch.threads.stop()
