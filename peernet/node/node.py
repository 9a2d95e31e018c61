"""The running node: a network, its home, its control socket, and what it tells."""

from __future__ import annotations

import time
from functools import partial

from gevent.event import Event as Flag

from peernet.channel.handlers import ignore
from peernet.cli.lines import formatter
from peernet.cli.writer import LineWriter
from peernet.errors import PeerNetError
from peernet.network import PeerNetwork
from peernet.node.control.server import ControlServer
from peernet.node.events import EventLog, EventObject, make_event
from peernet.node.health import key_exposure
from peernet.node.requests import Requests
from peernet.node.settings import Settings
from peernet.node.status import GreenletCount, LagMeter
from peernet.peers.identity import Identity
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable
from peernet.state.files import remove_leftovers
from peernet.state.home import Home
from peernet.state.savers import AddressBookFile, BansFile, KeptFile
from peernet.state.stores import load_bans, load_peers, load_trust, save_trust
from peernet.switch.persistent import PersistentPeers

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
    identity = Identity.load_or_create(home.folder)
    remove_leftovers((home.trust_file, home.peers_file, home.bans_file))
    exposure = key_exposure(home)
    if exposure:
        logger.warning("%s", exposure)
    network = PeerNetwork(
        identity=identity,
        listen=settings.listen,
        network_name=settings.network,
        policy=settings.applied_to(load_trust(home.trust_file, look_only=not changes_lists)),
        config=settings.limits,
        insecure=settings.insecure,
        durable_outbox=home.outbox_file if delivers_stored else None,
    )
    for kind in ("data_transmission", "collection_share"):
        network.handlers[kind] = ignore  # the events show them, and that is what they are for
    network.known_peers.restore(load_peers(home.peers_file))
    for ban in load_bans(home.bans_file):
        network.bans.restore(ban)
    return network


class Node:
    """Runs a network until it is told to stop.

    Args:
        home: its home folder, which the caller has locked.
        settings: what to run it with.
        style: how events are shown: ``table``, ``json`` or ``jsonl``.
        writer: where they are shown.
    """

    def __init__(self, home: Home, settings: Settings, style: str, writer: LineWriter) -> None:
        self.home = home
        self.network = make_network(home, settings)
        self._settings = settings
        self._line_of = formatter(style)
        self._writer = writer
        self._book = AddressBookFile(home, self.network.known_peers)
        self._bans = BansFile(home, self.network.bans)
        self._lists = KeptFile(home.trust_file, save_trust, lambda: self.network.policy)
        self._install_handlers()
        self.events = EventLog(self.network, self._show, writer.wait_for_room)
        self._kept = PersistentPeers(self.network.config, partial(self.network.connect, attempts=1), self._dial_failed)
        self._control = ControlServer(home, self._answer)
        self._stop_asked = Flag()
        self.ended = Flag()
        self.started_at = time.monotonic()
        self.lag = LagMeter()
        self.greenlets = GreenletCount()
        self._requests = Requests(self)

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
            self._book.start(self.network)
            self._bans.start(self.network)
            for address in self._settings.connect:
                self._kept.keep(address)
            self._stop_asked.wait()
        finally:
            self._end()

    def ask_to_stop(self) -> None:
        """Have :meth:`run` end. From anywhere, a signal handler included."""
        self._stop_asked.set()

    def save_trust(self) -> None:
        """Keep the lists of the policy.

        Raises:
            HomeError: they cannot be written; they are in force all the same.
        """
        self._lists.save()

    def save_bans(self) -> None:
        """Keep the bans.

        Raises:
            HomeError: they cannot be written; they are in force all the same.
        """
        self._bans.save_now()

    def _end(self) -> None:
        # In this order: nobody waits for an unread stdout, no dialling that would bring
        # somebody new, the goodbyes, what was learnt, and at last those who listen and
        # whoever asked us to stop.
        self._writer.hurry()
        self._kept.stop()
        self.network.stop(STOP_TIMEOUT)
        self.lag.stop()
        self._book.save()
        self._bans.save()
        self.events.end()
        self.ended.set()
        self._control.stop()
        self._lists.settle()  # of a command that was ended just now: the home is ours until this returns

    def _install_handlers(self) -> None:
        """Handle the kinds that have no default: here, being shown is being handled."""
        for kind in ("data_transmission", "collection_share"):
            self.network.handlers[kind] = lambda channel, packet: None

    def _ready(self) -> EventObject:
        return make_event("ready", identifier=self.network.identifier, addresses=self.network.addresses)

    def _answer(self, command: str, arguments: dict[str, object]) -> object:
        return self._requests.answer(command, arguments)

    def _show(self, event: EventObject) -> None:
        self._writer.put(self._line_of(event))

    def _dial_failed(self, address: str, error: PeerNetError, retry_in: float | None) -> None:
        logger.info("> %s not connected: %s", address, printable(error))
        self.events.tell(make_event("dial_failed", address=address, error=str(error), retry_in=retry_in))
