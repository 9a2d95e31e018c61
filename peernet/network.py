"""PeerNetwork: one node, as programs see it. What it does is done by its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import gevent
from google.protobuf.message import Message

from peernet._version import __version__
from peernet.assembly import Assembly
from peernet.channel.broadcast import Outcome, broadcast
from peernet.channel.channel import PeerChannel
from peernet.channel.handlers import PacketHandleProtocol, PacketKind, Returned, check_handlers
from peernet.channel.receipts import Receipt
from peernet.config import NetworkConfig, check_network_name
from peernet.errors import ConfigurationError, ConnectError
from peernet.network_view import NetworkView
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.reasons import Reason
from peernet.runtime.callables import check_callable
from peernet.runtime.threads import at_home
from peernet.state.home import Home
from peernet.switch.home_keeper import open_home
from peernet.transport.backend import Backend
from peernet.trust.identifier_policy import IdentifierOrigin, PeerNetworkTrustPolicy
from peernet.trust.policy import IncomingPeerTrustPolicy
from peernet.v1.packet_pb2 import Packet
from peernet.wire.packets import encode_body

if TYPE_CHECKING:
    from peernet.durable.receipt import DurableReceipt


class PeerNetwork(NetworkView):
    """One node in a network of peers. Many may live in one process.

    Any native thread may configure a network. Once it is started, it belongs to the thread that called :meth:`start`,
    with its channels, events and whatever else it consists of, until it is stopped: in another thread all that acts
    raises ``WrongThreadError``. Free are :meth:`call_soon`, :meth:`channel_to` and the properties that only show
    something. In a child process that is forked meanwhile every method raises ``ForkedError``, :meth:`stop` too;
    leaving ``with network:`` does nothing there.

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
        durable_outbox: the file of the durable outbox, for :meth:`send` with ``durable=True``. If not given: the
            one in the home, or none if there is no home either.
        home: a folder that keeps the identity, the lists of the policy, the known peers, the bans and the durable
            outbox from one run to the next, as that of ``peernet-node`` does; it may be the same one. It is made if
            need be. The ``policy`` must have no lists then, and ``identity`` is not given. If there is no home,
            nothing is kept.

    Raises:
        AddressError: a listen address that does not parse.
        ConfigurationError: a network name that is too long; an identity, or a policy with lists, beside a home.
        HomeError: the home cannot be used; :class:`~peernet.errors.HomeInUseError` if another process uses it.
        IdentityError: the key in the home cannot be used.
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
        handlers: PacketHandleProtocol[PeerChannel] | None = None,
        insecure: bool = False,
        agent: str = f"peernet/{__version__}",
        backend: Backend | None = None,
        durable_outbox: str | Path | None = None,
        home: str | Path | None = None,
    ) -> None:
        if isinstance(listen, str):
            raise ConfigurationError(f"listen takes a list of addresses; write [{listen!r}]")
        check_network_name(network_name)
        where = [PeerAddress.parse(text) for text in listen]
        handlers = PacketHandleProtocol() if handlers is None else handlers
        check_handlers(handlers)
        policy = policy or IncomingPeerTrustPolicy()
        folder = None if home is None else Home(home)
        if folder is not None:
            identity, policy = open_home(folder, identity, policy)
            durable_outbox = folder.outbox_file if durable_outbox is None else durable_outbox
        identity = identity or Identity.generate()
        parts = Assembly(
            identity,
            where,
            network_name,
            policy,
            config or NetworkConfig(),
            handlers,
            insecure=insecure,
            agent=agent,
            backend=backend,
            durable_outbox=durable_outbox,
            home=folder,
        )
        super().__init__(parts, identity, network_name, insecure=insecure)
        self.network_policy = network_policy or PeerNetworkTrustPolicy()

    def __enter__(self) -> PeerNetwork:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._home.forked:  # else it is the parent's, which stops it
            self.stop()

    # Callbacks.

    @property
    def handlers(self) -> PacketHandleProtocol[PeerChannel]:
        """Callbacks by kind of packet, for all channels."""
        return self._parts.switch.handlers

    @handlers.setter
    @at_home
    def handlers(self, handlers: PacketHandleProtocol[PeerChannel]) -> None:
        check_handlers(handlers)
        handlers.belong_to(self._home)
        self._parts.switch.handlers = handlers

    @at_home
    def on(
        self, kind: PacketKind, *, threadpool: bool = False
    ) -> Callable[[Callable[[PeerChannel, Packet], Returned]], Callable[[PeerChannel, Packet], Returned]]:
        """Decorator: ``@network.on("pure_message")`` sets a callback, as ``@network.handlers.on(...)`` does.

        Args:
            kind: what to handle.
            threadpool: run the callback in a native thread, because it blocks.

        Raises:
            ConfigurationError: there is no such kind, or the callback cannot be called as one.
        """
        return self.handlers.on(kind, threadpool=threadpool)

    # Life.

    @at_home
    def start(self) -> None:
        """Listen, and start the routines and what :attr:`services` has besides. Idempotent.

        All or nothing: when it is interrupted, by an error, by a ``gevent.Timeout`` or because its greenlet is killed,
        nothing is started. If the network is just stopping, it waits for that; of :meth:`start` and :meth:`stop` at the
        same time, the later call wins.

        Raises:
            ListenError: an address cannot be listened on.
            StorageError: the file of the durable outbox cannot be used.
            ConfigurationError: protobuf has only its runtime in pure Python, or somebody has called :meth:`stop`
                meanwhile.
            WrongThreadError: it runs in another native thread.
        """
        self.services.start()

    @at_home
    def stop(self, timeout: float = 5.0) -> None:
        """Say goodbye to everybody, write what is queued, and end. Idempotent.

        May be called anywhere in the network's native thread, a signal handler included; from
        there, from a callback and from what a channel has spawned it goes on in the
        background: :meth:`wait` waits for it.

        Args:
            timeout: seconds; what has not ended by then is cut off. A part that cannot be cut off, such as a disk that
                hangs, is left to itself half a second later.
        """
        current: Any = gevent.getcurrent()
        in_hub = isinstance(current, gevent.hub.Hub)
        must_not_wait = in_hub or self._parts.shutdown.waits_for(current) or self.services.is_starting_in(current)
        self.services.stop(timeout, wait=not must_not_wait)

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(*args)`` in a greenlet of the native thread that the network was started in.

        The only method that other native threads may call; ``call_soon(channel.send, message)``
        sends from one. It waits for nothing; what the function raises is logged.

        Raises:
            ConfigurationError: the network is not started, or it is a coroutine or generator function.
            ForkedError: this is a child of the network's process.
        """
        check_callable(function, None, "what call_soon runs")
        self._home.call_soon(function, *args)

    @at_home
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the network is stopped. Returns whether it is."""
        return self.services.wait(timeout)

    @at_home
    def set_identity(self, identity: Identity, origin: IdentifierOrigin = IdentifierOrigin.LOCAL) -> None:
        """Give this node another identity, before it is started.

        Raises:
            IdentityLockedError: the network policy forbids it.
            ConfigurationError: the network is running, or has a home, which keeps its identity.
        """
        self.network_policy.check_identifier_set(origin, already_set=True)
        self.services.check_stopped()
        if self._parts.home_keeper is not None:
            raise ConfigurationError("the home keeps the identity; make a network with another home, or without one")
        self.identity = identity
        self._parts.switch.rename(identity.identifier)
        self._parts.handshaker.security = None if self.insecure else self._parts.backend.secure(identity)

    # Peers.

    @at_home
    def connect(self, address: str, *, timeout: float | None = None, attempts: int | None = None) -> PeerChannel:
        """Connect to a peer. If there is a channel to it already, that one is returned.

        The first dial is made at once. An address at which no connection has held since is dialled again when its turn
        comes, which this waits for: at most once in a second (or ``redial_interval``, if that is shorter), and ten
        times in thirty. A connection has held if a packet was acknowledged or handled on it, if it has worked for
        ``healthy_after``, or if this side has closed it.

        Args:
            address: ``peer://identifier@host:port``, or ``host:port`` to take whoever answers.
            timeout: seconds for everything; ``None`` means ``config.connect_timeout``.
            attempts: how often to try, with random pauses in between, as long as the failures are of a kind that may
                pass: a connection that is refused or lost, a peer that is busy. ``None`` means
                ``config.connect_attempts`` (3), but not where nobody listens: such an address is tried once, unless
                ``attempts`` asks for more.

        Raises:
            AddressError: the address does not parse.
            ConfigurationError: the network is not started.
            ConnectError: or a subclass that says why there is no channel.
        """
        self.services.check_running()
        return self._parts.connector.connect(PeerAddress.parse(address), timeout, attempts)

    @at_home
    def connect_unasked(self, address: str, *, timeout: float | None = None) -> PeerChannel:
        """One attempt to connect, made only while fewer than ``config.max_outbound`` channels were dialled."""
        self.services.check_running()
        return self._parts.connector.connect_unasked(PeerAddress.parse(address), timeout)

    @at_home
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

    @at_home
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
                raise ConfigurationError(
                    "this network has no durable outbox; give PeerNetwork(home=folder), or durable_outbox=path"
                )
            return self.durable_outbox.send(to, encode_body(message))
        channel = self.channel_to(to)
        if channel is None:
            raise ConnectError(f"{to[:8]} is not connected; connect first, or send with durable=True")
        return channel.send(message, timeout=timeout)

    @at_home
    def broadcast(self, message: Message, channels: Iterable[PeerChannel] | None = None) -> dict[str, Outcome]:
        """Queue a message on many channels at once, never waiting for any of them.

        Args:
            message: the body of a packet.
            channels: to whom; ``None`` means every open channel.

        Returns:
            What became of it, by identifier. A peer whose outbox is full does not get it.
        """
        channels = self.active_peer_channels if channels is None else channels
        return broadcast(message, channels, self._parts.switch.channels.control_of)

    # Trust.

    @property
    def policy(self) -> IncomingPeerTrustPolicy:
        """Whom to let in and what to take from them. Setting it takes effect on open channels at once.

        With a home its lists are kept there, before the setter returns.

        Raises:
            HomeError: they are not kept, because the home cannot be written, or is used by another process while this
                network does not run. They hold until the network stops.
        """
        return self._parts.switch.policy

    @policy.setter
    @at_home
    def policy(self, policy: IncomingPeerTrustPolicy) -> None:
        self._parts.switch.policy = policy
        if self._parts.home_keeper is not None:
            self._parts.home_keeper.keep_lists()

    @property
    def default_trust_protocol(self) -> Callable[[PeerChannel], object] | None:
        """``callback(channel)``, run in a greenlet of its own when a channel opens.

        It may wait, talk to the peer, and call ``channel.trust()``. ``None`` means that
        only the policy's ``trusted_identifiers`` are trusted.

        Raises:
            ConfigurationError: what is set cannot be called with one argument, or is a coroutine or generator
                function.
        """
        return self._parts.switch.trust_protocol

    @default_trust_protocol.setter
    @at_home
    def default_trust_protocol(self, protocol: Callable[[PeerChannel], object] | None) -> None:
        if protocol is not None:
            check_callable(protocol, ("channel",), "the default trust protocol")
        self._parts.switch.trust_protocol = protocol

    @at_home
    def trust(self, identifier: str) -> None:
        """Trust a peer, now and whenever it connects while this network lives, or the home keeps it.

        Raises:
            HomeError: as of :attr:`policy`.
        """
        self.policy = self.policy.adding(trusted_identifiers=identifier)

    @at_home
    def untrust(self, identifier: str) -> None:
        """Trust a peer no longer.

        Raises:
            HomeError: as of :attr:`policy`.
        """
        channel = self.channel_to(identifier)
        if channel is not None:
            channel.untrust()
        self.policy = self.policy.removing(trusted_identifiers=identifier)
