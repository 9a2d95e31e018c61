"""The running node: a network, its home, its control socket, and what it tells."""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.handlers import ignore
from peernet.errors import PacketRefusedError, PeerNetError
from peernet.network import PeerNetwork
from peernet.node import bodies
from peernet.node.control.server import ControlServer
from peernet.node.events import EventLog, EventObject, make_event
from peernet.node.requests import Requests
from peernet.node.settings import Settings
from peernet.node.status import NodeStatus
from peernet.reasons import Reason
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable
from peernet.state.home import Home
from peernet.state.savers import KeptFile
from peernet.switch.home_keeper import identity_of
from peernet.switch.persistent import PersistentPeers
from peernet.switch.stores import BANS, PEERS, TRUST, address_book_file, bans_file
from peernet.v1 import packet_pb2 as pb

logger = get_logger(__name__)

# How long goodbyes may take. Seconds.
STOP_TIMEOUT = 5.0


def make_network(
    home: Home, settings: Settings, *, changes_lists: bool = True, delivers_stored: bool = True
) -> PeerNetwork:
    """The network of a home folder with all that it remembers; not started.

    Args:
        home: the folder, which the caller has locked.
        settings: what to run it with.
        changes_lists: whether the lists may be written; if not, a damaged file of them stays where it is.
        delivers_stored: whether it has the home's durable outbox.

    Raises:
        PeerNetError: the home or a setting cannot be used.
    """
    network = PeerNetwork(
        identity=identity_of(home),
        listen=settings.listen,
        network_name=settings.network,
        policy=settings.applied_to(TRUST.load(home.trust_file, look_only=not changes_lists)),
        config=settings.limits,
        insecure=settings.insecure,
        durable_outbox=home.outbox_file if delivers_stored else None,
    )
    network.known_peers.restore(PEERS.load(home.peers_file))
    for ban in BANS.load(home.bans_file):
        network.bans.restore(ban)
    logger.debug(
        "%s remembers %d peers and %d bans, and trusts %d",
        home,
        len(network.known_peers),
        len(network.bans),
        len(network.policy.trusted_identifiers),
    )
    return network


class Node:
    """Runs a network until it is told to stop.

    Args:
        home: its home folder, which the caller has locked.
        settings: what to run it with.
        show: is given every event, in the greenlet that caused it; must not wait.
        wait_for_room: waits until more events can be shown; called after those that peers cause at will.

    Attributes:
        stop_asked: set when the node is to stop. From then on nobody should wait for room.
    """

    def __init__(
        self, home: Home, settings: Settings, show: Callable[[EventObject], None], wait_for_room: Callable[[], None]
    ) -> None:
        self.home = home
        self.network = make_network(home, settings)
        self._settings = settings
        self._book = address_book_file(home, self.network.known_peers)
        self._bans = bans_file(home, self.network.bans)
        self._lists = KeptFile(home.trust_file, TRUST.save, lambda: self.network.policy)
        self._install_handlers()
        self.events = EventLog(self.network, show, wait_for_room)
        self._kept = PersistentPeers(self.network.config, self._dial, self._dial_failed)
        self._status = NodeStatus(self.network, home)
        self.stop_asked = Flag()
        self._ended = Flag()
        requests = Requests(
            self.network,
            self.events,
            self._status.report,
            lists=self._lists,
            bans=self._bans,
            ask_to_stop=self.ask_to_stop,
            wait_until_ended=self._ended.wait,
        )
        self._control = ControlServer(home, requests.answer)

    def run(self) -> None:
        """Start, tell that it is ready, and stop when asked to.

        Raises:
            PeerNetError: it cannot start.
        """
        try:
            if self.network.insecure:
                logger.warning("TLS is off: everybody on the way can read along, and nobody can prove who they are")
            self._control.start()
            self.network.start()
            self.events.begin(self._ready())
            self._book.start(self.network.routines)
            self._bans.start(self.network.routines)
            for address in self._settings.connect:
                self._kept.keep(address)
            self.stop_asked.wait()
        finally:
            self._end()

    def ask_to_stop(self) -> None:
        """Have :meth:`run` end. From anywhere, a signal handler included."""
        self.stop_asked.set()

    def _end(self) -> None:
        # In this order: no dialling that would bring somebody new, the goodbyes, what was learnt, and at
        # last those who listen and whoever asked us to stop.
        self._kept.stop()
        self.network.stop(STOP_TIMEOUT)
        self._status.stop()
        self._book.save()
        self._bans.save()
        self.events.end()
        self._ended.set()
        self._control.stop()
        self._lists.settle()  # of a command that was ended just now: the home is ours until this returns

    def _install_handlers(self) -> None:
        """Handle the kinds that have no default: here, being shown is being handled."""
        self.network.handlers["pure_message"] = ignore
        self.network.handlers["data_transmission"] = self.network.handlers["collection_share"] = _refuse_if_cut

    def _ready(self) -> EventObject:
        return make_event("ready", identifier=self.network.identifier, addresses=self.network.addresses)

    def _dial(self, address: str) -> PeerChannel:
        logger.debug("dialling %s", address)
        return self.network.connect(address, attempts=1)

    def _dial_failed(self, address: str, error: PeerNetError, retry_in: float | None) -> None:
        logger.info("%s not connected: %s", address, printable(error))
        self.events.tell(make_event("dial_failed", address=address, error=str(error), retry_in=retry_in))


def _refuse_if_cut(channel: PeerChannel, packet: pb.Packet) -> None:
    """What the events show only a part of is nowhere else, so nobody may be told that it was delivered."""
    if not bodies.is_shown_whole(packet):
        raise PacketRefusedError("it is too large to be shown, and a node keeps nothing else of it", Reason.TOO_BIG)
