"""DurableOutbox: takes packets for peers that may be away, and sees to it that they are delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from peernet.channel.channel import PeerChannel
from peernet.channel.control import ChannelControl
from peernet.channel.state import SENDABLE
from peernet.config import NetworkConfig
from peernet.connections.dial_history import DialHistory
from peernet.durable.books import Books, Dropped, Settled
from peernet.durable.caller import Caller
from peernet.durable.committer import Committer
from peernet.durable.delivery import Delivery, Verdict
from peernet.durable.owner import DurableOwner
from peernet.durable.packet import NewPacket, Setback, new_packet
from peernet.durable.receipt import DurableReceipt
from peernet.durable.reporter import DurableReporter
from peernet.durable.store import DurableStore, describe
from peernet.errors import ConfigurationError, StorageError
from peernet.peers.address import PeerAddress
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.greenlets import OwnedGroup, spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.threads import at_home
from peernet.wire.packets import Encoded

logger = get_logger(__name__)

# When a file is tried again that could not be used. Seconds.
FILE_PAUSE = 5.0

Result = TypeVar("Result")


class DurableOutbox:
    """The durable outbox of one network.

    Args:
        path: of the file.
        config: the limits.
        owner: the network whose packets these are; it says when it starts and stops, and when channels come and go.
        dial: makes a channel to a peer, by its identifier, at an address.
        turns: bounds how many are dialled at once, by whoever dials on its own.
        history: all dials of the network.
    """

    def __init__(
        self,
        path: str | Path,
        config: NetworkConfig,
        owner: DurableOwner,
        dial: Callable[[str, PeerAddress], object],
        turns: BoundedSemaphore,
        history: DialHistory,
    ) -> None:
        self.path = Path(path)
        self._config = config
        self._owner = owner
        self._home = owner.home
        self._dial = dial
        self._reporter = DurableReporter(owner)
        self._committer: Committer | None = None
        self._closing: Committer | None = None  # of the last time, if the disk had not done its work by then
        self._books = Books(config, {})
        self._deliveries: dict[str, Delivery | None] = {}  # None: between two channels
        self._pumps = OwnedGroup()
        self._calling = Caller(config, self._call, self._addresses_of, self._is_wanted, turns, history)

    def __repr__(self) -> str:
        return f"<DurableOutbox {str(self.path)!r}, packets: {self.packets}>"

    @property
    def packets(self) -> int:
        """How many packets are stored, those that are set aside included."""
        return self._books.quota.packets

    @property
    def aside(self) -> int:
        """How many packets are set aside, because the peer's callback failed ``durable_attempts`` times."""
        return self._books.quota.aside

    @property
    def idle(self) -> bool:
        """Whether nothing is delivered, and nobody's receipt is open."""
        return not self._books.awaited and not self._deliveries

    @property
    def bytes(self) -> int:
        """How many bytes they have."""
        return self._books.quota.bytes

    @property
    def peers(self) -> list[str]:
        """For whom they are."""
        return self._books.quota.peers

    # What the network calls.

    @at_home
    def start(self) -> None:
        """Open the file, before there is any channel.

        Raises:
            StorageError: the file cannot be used.
        """
        if self._closing is not None:
            self._closing.join()
            self._closing = None
        committer = Committer(self.path)
        try:
            backlogs, failing = committer.run(lambda store: (store.backlogs(), store.failing()))
        except BaseException:
            committer.close()
            self._closing = committer
            raise
        self._committer = committer  # only now: what somebody stored meanwhile would not be counted
        self._books = Books(self._config, backlogs)
        self._books.retries.restore(failing, clock.wall())

    @at_home
    def start_calling(self) -> None:
        """Dial those for whom something is stored."""
        self._calling.start()
        for peer in self._books.quota.peers:
            self._calling.call(peer)

    @at_home
    def stop_calling(self) -> None:
        """Dial nobody any more."""
        self._calling.stop()

    @at_home
    def stop(self, timeout: float) -> None:
        """Note what the channels, which have ended, still brought about, and close the file. Idempotent.

        It waits for the disk. If whoever waits is killed, the file is closed all the same, as soon as it can be.

        Args:
            timeout: seconds for the notes.
        """
        self._pumps.join(timeout)
        self._pumps.kill()
        committer, self._committer = self._committer, None
        try:
            if committer is not None:
                committer.close()
                self._closing = committer
            if self._closing is not None:
                self._closing.join()
                self._closing = None
        finally:
            self._books.close()

    @at_home
    def on_peer_added(self, channel: PeerChannel) -> None:
        """There is a channel to a peer."""
        self._deliver(channel.peer.identifier)

    @at_home
    def on_peer_removed(self, channel: PeerChannel, reason: Reason) -> None:
        """A channel has ended."""
        self._deliver(channel.peer.identifier)
        self._calling.call_again(channel)

    # What the application calls.

    @at_home
    def send(self, to: str, encoded: Encoded) -> DurableReceipt:
        """Store a packet; see :meth:`PeerNetwork.send`."""
        packet = new_packet(to, encoded, self._config)
        if packet.peer == self._owner.identifier:
            raise ConfigurationError("a node cannot send packets to itself")
        self._open_committer()
        self._books.quota.take(packet.peer, len(packet.body))
        receipt = DurableReceipt(packet.peer, packet.packet_id, self._check_may_wait, self._home)
        self._store(packet, receipt)
        return receipt

    @at_home
    def describe(self, *, each: bool = False) -> list[dict[str, Any]]:
        """What is stored as plain values: a row for each peer, or for ``each`` packet.

        A row of a peer tells under ``aside`` how many of its packets are set aside. A row of a packet has
        ``attempts``, how often the peer's callback has failed; ``aside``, whether it is set aside; ``reason``, why
        it was refused the last time, or ``None``; and ``retry_at``, when it is sent again, in Unix seconds, or
        ``None``.

        Raises:
            StorageError: the file cannot be read.
        """
        return self._run(lambda store: describe(store, each=each))

    @at_home
    def drop(self, peers: Iterable[str]) -> int:
        """Remove all packets for some peers. What was sent already may arrive all the same.

        Returns:
            How many packets were removed.

        Raises:
            StorageError: the file cannot be written.
            ConfigurationError: one identifier instead of a list, or the network is not started.
        """
        if isinstance(peers, str):
            raise ConfigurationError(f"drop takes a list of identifiers; write [{peers!r}]")
        return sum(self._drop(peer) for peer in peers)

    @at_home
    def retry(self, identifier: str | None = None) -> int:
        """Send packets again that are set aside. Their attempts begin anew; they keep their ids.

        Args:
            identifier: of the peer for whom they are; ``None`` means all peers.

        Returns:
            How many packets are sent again.

        Raises:
            StorageError: the file cannot be written.
            ConfigurationError: the network is not started.
        """
        result = self._open_committer().submit(lambda store: store.retry(identifier, clock.wall()))
        # In the hub, whatever has become of the caller.
        result.rawlink(self._put_back)
        return sum(map(len, cast(dict[str, list[int]], result.get()).values()))

    # Storing.

    def _store(self, packet: NewPacket, receipt: DurableReceipt) -> None:
        def store(opened: DurableStore) -> None:
            receipt.number = opened.add(packet)

        result = self._open_committer().submit(store)
        # In the hub, whatever has become of the sender, and before anybody can load the packet.
        result.rawlink(lambda done: self._stored(packet, receipt, well=done.successful()))
        result.get()

    def _stored(self, packet: NewPacket, receipt: DurableReceipt, *, well: bool) -> None:
        peer = packet.peer
        if not well:
            return self._books.quota.give_back(peer, 1, len(packet.body))
        self._books.stored(packet, receipt)
        self._deliver(peer)
        return self._calling.call(peer)

    def _run(self, job: Callable[[DurableStore], Result]) -> Result:
        return self._open_committer().run(job)

    def _open_committer(self) -> Committer:
        if self._committer is None:
            raise ConfigurationError("the network is not started; call start() first")
        return self._committer

    def _drop(self, peer: str) -> int:
        def drop(store: DurableStore) -> Dropped:
            numbers, aside = store.numbers(peer), store.count_aside(peer)
            return numbers, store.remove(numbers)[1], aside

        result = self._open_committer().submit(drop)
        # In the hub, whatever has become of the caller.
        result.rawlink(lambda done: self._dropped(peer, done))
        return len(cast(Dropped, result.get())[0])

    def _dropped(self, peer: str, done: AsyncResult[Dropped]) -> None:
        if done.successful():
            self._books.dropped(peer, cast(Dropped, done.get()))

    def _put_back(self, done: AsyncResult[dict[str, list[int]]]) -> None:
        """Packets are not set aside any more."""
        for peer, numbers in (cast(dict[str, list[int]], done.get()) if done.successful() else {}).items():
            self._books.put_back(peer, numbers)
            self._deliver(peer)
            self._calling.call(peer)

    # Delivering.

    def _deliver(self, peer: str) -> None:
        """There may be something to deliver to a peer."""
        if peer in self._deliveries:
            delivery = self._deliveries[peer]
            if delivery is not None:
                delivery.wake()
        elif self._books.quota.is_waiting(peer) and self._open_control_to(peer) is not None:
            self._deliveries[peer] = None
            self._pumps.add(spawn(f"delivering to {peer[:8]}", self._pump, peer))

    def _pump(self, peer: str) -> None:
        """Deliver through one channel after the other, while there is one: never through two at once."""
        try:
            while (control := self._open_control_to(peer)) is not None:
                self._deliveries[peer] = delivery = self._make_delivery(peer, control)
                self._run_delivery(peer, delivery, control.channel)
                if control.channel.state in SENDABLE:
                    break  # all of it is delivered
        except StorageError as error:
            logger.error("what is stored for %s stays so until it connects again: %s", peer[:8], error)
        finally:
            del self._deliveries[peer]

    def _run_delivery(self, peer: str, delivery: Delivery, channel: PeerChannel) -> None:
        """However often the file fails, nothing is sent twice through one channel.

        Raises:
            StorageError: the channel has ended, and the file still fails.
        """
        while True:  # ends with the channel
            try:
                return delivery.run()
            except StorageError as error:
                if channel.state not in SENDABLE:
                    raise
                logger.error("what is stored for %s stays so; it goes on in %s s: %s", peer[:8], FILE_PAUSE, error)
            delivery.pause(FILE_PAUSE)

    def _make_delivery(self, peer: str, control: ChannelControl) -> Delivery:
        return Delivery(
            control,
            self._config.durable_window,
            lambda after, count, size: self._run(lambda store: store.load(peer, after, count, size)),
            lambda numbers, size: self._run(lambda store: store.load_some(numbers, size)),
            lambda verdicts: self._settle(peer, verdicts),
            self._books.retries,
            peer,
        )

    def _settle(self, peer: str, verdicts: Sequence[Verdict]) -> None:
        """Remove packets that need not be sent again, and note of the others that their callback has failed."""
        failed = [number for number, reason in verdicts if reason is Reason.HANDLER_FAILED]
        setbacks = [self._books.retries.judge(peer, number) for number in failed]
        final = [verdict for verdict in verdicts if verdict[1] is not Reason.HANDLER_FAILED]
        numbers, now = [number for number, _ in final], clock.wall()
        result = self._open_committer().submit(lambda store: (store.remove(numbers), store.set_back(setbacks, now)))
        # In the hub, whatever has become of the pump.
        result.rawlink(lambda done: self._settled(peer, final, setbacks, done))
        found = cast(Settled, result.get())[1]
        self._reporter.tell_refused(peer, final)
        self._reporter.tell_set_back(peer, setbacks, found)

    def _settled(
        self, peer: str, final: Sequence[Verdict], setbacks: Sequence[Setback], done: AsyncResult[Settled]
    ) -> None:
        if done.successful():  # else they stay stored, are sent again, and settled then
            self._books.settled(peer, final, setbacks, cast(Settled, done.get()))

    def _open_control_to(self, peer: str) -> ChannelControl | None:
        control = self._owner.control_to(peer)
        return control if control is not None and control.channel.state in SENDABLE else None

    def _check_may_wait(self, peer: str) -> None:
        control = self._owner.control_to(peer)
        if control is not None:
            control.check_not_own_greenlet("DurableReceipt.wait")

    # Dialling.

    def _is_wanted(self, peer: str) -> bool:
        return self._books.quota.is_waiting(peer) and self._owner.control_to(peer) is None

    def _addresses_of(self, peer: str) -> list[str]:
        known = self._owner.known_peers.get(peer)
        return list(dict.fromkeys([*self._books.addresses(peer), *(known.addresses if known else ())]))

    def _call(self, peer: str, address: str) -> None:
        self._dial(peer, PeerAddress.parse(address))
