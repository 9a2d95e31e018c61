"""Delivery: the stored packets for one peer on their way through one channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gevent.event import Event as Flag

from peernet.channel.control import ChannelControl
from peernet.channel.receipts import Receipt
from peernet.channel.state import SENDABLE
from peernet.durable.packet import StoredPacket
from peernet.durable.retries import Retries
from peernet.errors import ChannelClosedError, PacketTooBigError, PingTimeout, SendTimeout
from peernet.reasons import Reason
from peernet.runtime.logs import get_logger
from peernet.wire.packets import encode_stored

logger = get_logger(__name__)

# What the peer has said about the packet itself. All other reasons are about the channel.
VERDICTS = frozenset({Reason.NOT_PERMITTED, Reason.UNHANDLED, Reason.TOO_BIG, Reason.REFUSED, Reason.HANDLER_FAILED})
# As much as this is read from the file at once. Bytes.
MAX_READ = 1024 * 1024
# Of the room in the window, packets whose callback failed get one part in so many: callbacks may take long to fail.
RETRY_SHARE = 4
# So many of them are read from the file at once.
MAX_RETRIES = 64
# How long a peer without sessions has to answer, before it is asked again. Seconds.
PING_TIMEOUT = 30.0
# How long the channel may have no room, before it is asked again. Seconds.
SEND_TIMEOUT = 10.0

Verdict = tuple[int, "Reason | None"]
"""The number of a packet that the peer has acknowledged (``None``) or refused, and why."""


class Delivery:
    """Sends stored packets in order, no more than ``window`` of which are unsettled at any time.

    A packet is settled when the peer has acknowledged or refused it *and* the file says so.
    So what a restarted sender repeats is never more than the window, and in the old order.

    A packet whose callback failed leaves this order. It is sent again when it is due.

    Args:
        control: of the channel to the peer.
        window: in packets.
        load: ``load(after, count, bytes)`` reads the packets behind a number, at most so many.
        load_some: ``load_some(numbers, bytes)`` reads those of some packets that are there, at least the first one.
        settle: ``settle(verdicts)`` notes in the file what the peer has said.
        retries: when packets of the peer are due.
        peer: its identifier.
    """

    def __init__(
        self,
        control: ChannelControl,
        window: int,
        load: Callable[[int, int, int], list[StoredPacket]],
        load_some: Callable[[list[int], int], list[StoredPacket]],
        settle: Callable[[Sequence[Verdict]], None],
        retries: Retries,
        peer: str,
    ) -> None:
        self._control = control
        self._channel = control.channel
        self._window = window
        self._load = load
        self._load_some = load_some
        self._settle = settle
        self._retries = retries
        self._peer = peer
        self._changed = Flag()
        self._woken = Flag()
        self._flying: set[int] = set()  # sent and not settled
        self._verdicts: list[Verdict] = []  # not settled yet
        self._unconfirmed: list[int] = []  # sent to a peer without sessions
        self._last = 0  # number of the packet that was sent last
        self._more = True  # whether there may be packets behind it
        self._repeated = False  # whether the turn before was for packets that are sent again

    def wake(self) -> None:
        """There are more packets, or the channel has ended."""
        self._more = True
        self._changed.set()
        self._woken.set()

    def pause(self, seconds: float) -> None:
        """Wait before :meth:`run` goes on, until somebody wakes it at most."""
        self._woken.clear()
        self._woken.wait(seconds)
        self._more = True

    def run(self) -> None:
        """Return when everything stored is settled, or when the channel has ended.

        Raises:
            StorageError: the file cannot be used. It may be called again then, and goes on where it was.
        """
        # Ends when nothing is left to send and to settle. The flag is cleared first: what changes while a turn is under
        # way sets it again, and the wait at the end of the turn returns at once.
        while True:
            self._changed.clear()
            self._settle_verdicts()
            due = self._retries.due(self._peer, self._flying) if self._has_room else []
            if self._has_room and (self._more or due):
                self._send_some(due)
            elif self._open and self._unconfirmed:
                self._confirm()
            elif not self._verdicts:
                pause = self._retries.pause(self._peer, self._flying) if self._has_room else None
                if pause is None and (not self._flying or (not self._open and self._unconfirmed)):
                    return
                self._changed.wait(pause)

    @property
    def _open(self) -> bool:
        return self._channel.state in SENDABLE

    @property
    def _has_room(self) -> bool:
        return self._open and 2 * len(self._flying) <= self._window

    def _settle_verdicts(self) -> None:
        verdicts = self._verdicts[:]
        if verdicts:
            self._settle(verdicts)
            del self._verdicts[: len(verdicts)]  # others may have come meanwhile
            self._flying.difference_update(number for number, _ in verdicts)

    def _send_some(self, due: list[int]) -> None:
        """By turns, so that packets that fail do not keep the others waiting, nor the others them."""
        room = self._window - len(self._flying)
        self._repeated = bool(due) and not (self._more and self._repeated)
        if self._repeated:
            self._send_again(due[: min(max(1, room // RETRY_SHARE), MAX_RETRIES)])
        else:
            self._send_next(room)

    def _send_next(self, count: int) -> None:
        self._more = False  # unless somebody says so from now on
        packets = self._load(self._last, count, MAX_READ)
        for packet in packets:
            if not self._send(packet):
                return
            self._last = packet.number
        self._more = self._more or bool(packets)

    def _send_again(self, numbers: list[int]) -> None:
        packets = self._load_some(numbers, MAX_READ)
        if not packets:  # none of them is in the file, and asking again would find them due for ever
            self._retries.discard(self._peer, numbers)
        for packet in packets:
            if not self._send(packet):
                return

    def _send(self, packet: StoredPacket) -> bool:
        """Send a packet. Returns whether the channel has taken it, or never will."""
        encoded = encode_stored(packet.kind, packet.packet_id, packet.body)
        self._flying.add(packet.number)
        while True:
            try:
                receipt = self._control.send_encoded(encoded, SEND_TIMEOUT)
            except SendTimeout:
                continue  # liveness ends a channel that makes no room for too long
            except PacketTooBigError as error:
                logger.warning("a packet in the durable outbox cannot be sent: %s", error)
                self._verdicts.append((packet.number, Reason.TOO_BIG))
                return True
            except ChannelClosedError:
                self._flying.discard(packet.number)
                return False
            receipt.add_done_callback(lambda done: self._sent(packet.number, done))
            return True

    def _sent(self, number: int, receipt: Receipt) -> None:
        if receipt.reason is None or receipt.reason in VERDICTS:
            self._verdicts.append((number, receipt.reason))
        elif receipt.reason is Reason.NO_SESSION:
            self._unconfirmed.append(number)
        else:
            self._flying.discard(number)  # the channel has ended, and the next one sends it again
        self._changed.set()

    def _confirm(self) -> None:
        """For peers without sessions: packets are dealt with in order, so an answered ping says that all before are."""
        count = len(self._unconfirmed)
        try:
            self._channel.ping(PING_TIMEOUT)
        except (PingTimeout, ChannelClosedError):
            return
        self._verdicts += [(number, None) for number in self._unconfirmed[:count]]
        del self._unconfirmed[:count]
