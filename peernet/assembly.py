"""Assembly: which parts a network has, what each of them is given, and in which order they start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gevent.lock import BoundedSemaphore

from peernet.channel.handlers import PacketHandleProtocol
from peernet.config import NetworkConfig
from peernet.connections.acceptor import Acceptor
from peernet.connections.dial_history import DialHistory
from peernet.connections.dialler import Dialler
from peernet.connections.handshaker import Handshaker
from peernet.environment import require_fast_protobuf
from peernet.peers.address import PeerAddress
from peernet.peers.identity import Identity
from peernet.runtime.routines import NetworkRoutines
from peernet.runtime.services import Part, Service, Services
from peernet.runtime.threads import HomeThread
from peernet.state.home import Home
from peernet.switch.connector import Connector
from peernet.switch.events import NetworkEvents
from peernet.switch.home_keeper import HomeKeeper
from peernet.switch.redialler import Redialler
from peernet.switch.shutdown import Shutdown
from peernet.switch.switch import Switch
from peernet.switch.ticker import Ticker
from peernet.transport.backend import Backend, Listeners, TcpBackend
from peernet.transport.base import Transport
from peernet.trust.policy import IncomingPeerTrustPolicy

if TYPE_CHECKING:
    from peernet.durable.outbox import DurableOutbox


class Assembly:
    """The parts of one network. They are made from the bottom up: each is given those made before it that it needs.

    The arguments are those of :class:`~peernet.network.PeerNetwork`, with the defaults filled in.
    """

    def __init__(
        self,
        identity: Identity,
        listen: Sequence[PeerAddress],
        network_name: str,
        policy: IncomingPeerTrustPolicy,
        config: NetworkConfig,
        handlers: PacketHandleProtocol,
        *,
        insecure: bool,
        agent: str,
        backend: Backend | None,
        durable_outbox: str | Path | None,
        home: Home | None,
    ) -> None:
        self.backend: Backend = TcpBackend(config.descriptor_reserve) if backend is None else backend
        self.home = HomeThread()
        handlers.belong_to(self.home)
        self.events = NetworkEvents(self.home)
        self.switch = Switch(identity.identifier, config, policy, handlers, self.events, self.home)
        self.handshaker = Handshaker(
            config, self.switch, network_name, agent, insecure=insecure, listening=self._listening
        )
        self.handshaker.security = None if insecure else self.backend.secure(identity)
        self.acceptor = Acceptor(config, self.switch, self.handshaker.inbound, self.switch.counters)
        self.listeners = Listeners(self.backend, listen, self.acceptor.accepted, self.acceptor.not_accepted)
        self.dial_history = DialHistory(config)
        self.dialler = Dialler(config, self._dial, self.handshaker.dialled, self.dial_history)
        self.connector = Connector(config, self.dialler, self.switch, self.dial_history, insecure=insecure)
        self.redial_turns = BoundedSemaphore(config.max_redials)
        self.redialler = Redialler(config, self.connector.redial, self.redial_turns, self.dial_history)
        self.shutdown = Shutdown(self.switch, self.acceptor.greenlets)
        self.ticker = Ticker(config, self.switch.memory, self.switch.controls)
        self.routines = NetworkRoutines(self.home)
        self.routines.add("liveness", self.ticker.interval, self.ticker.tick)
        self.home_keeper = None if home is None else HomeKeeper(home, self.switch, self.routines)
        self.durable_outbox = None if durable_outbox is None else self._make_durable_outbox(durable_outbox, config)
        self._listen_to_events()
        self.services = Services(self._in_order(), self.home)

    def _in_order(self) -> list[Service]:
        """The parts that start and stop, in the order in which they start.

        Nobody may connect before all that a channel needs is there. On the way back nobody is dialled any more, nobody
        new comes, nothing periodic happens, those who wait and those who talk are told, and at last what that has
        brought about is stored.
        """
        outbox = self.durable_outbox
        return [
            Part("the check of protobuf", require_fast_protobuf),
            *([] if self.home_keeper is None else [self.home_keeper]),
            *([] if outbox is None else [outbox]),
            Part("the acknowledgements", self.switch.acknowledge_timer.start),
            Part("the callback threads", stop=self.switch.threads.stop),
            self.shutdown,
            Part("liveness", self.ticker.start),
            Part("the routines", self.routines.start, self.routines.stop),
            Part("the dialler", stop=self.dialler.stop),
            Part("the listeners", self.listeners.start, self.listeners.stop),
            *([] if outbox is None else [Part("delivery", outbox.start_calling, outbox.stop_calling)]),
            Part("the redialler", self.redialler.start, self.redialler.stop),
        ]

    def _listen_to_events(self) -> None:
        events, redialler, outbox = self.events, self.redialler, self.durable_outbox
        # First: whoever dials again asks what has become of the connection.
        events.channel_reconnecting.add(self.dial_history.note_end)
        events.peer_removed.add(lambda channel, reason: self.dial_history.note_end(channel))
        events.channel_reconnecting.add(redialler.restore)
        events.peer_removed.add(lambda channel, reason: redialler.forget(channel))
        if outbox is not None:
            events.peer_added.add(outbox.on_peer_added)
            events.peer_removed.add(outbox.on_peer_removed)

    def _make_durable_outbox(self, path: str | Path, config: NetworkConfig) -> DurableOutbox:
        from peernet.durable.outbox import DurableOutbox  # only for those who use it: it loads SQLite

        dial, turns = self.connector.connect_to, self.redial_turns
        return DurableOutbox(path, config, self.switch, dial, turns, self.dial_history)

    def _dial(self, address: PeerAddress) -> Transport:
        self.home.check()  # whoever dials may have been copied into a forked child
        return self.backend.dial(address)

    def _listening(self) -> list[str]:
        """The addresses that peers are told."""
        return [address.endpoint for address in self.listeners.addresses]
