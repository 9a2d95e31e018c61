"""Acknowledger: tells the peer what has been handled, not too often and not too late."""

from __future__ import annotations

from typing import Any

import gevent

from peernet.channel.link import Link
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import encode_envelope
from peernet.wire.session import Session

# An acknowledgement leaves on its own when this much was handled and no more is there to
# handle; before that it waits for a packet to travel with, or for the timer.
PACKETS = 64
# It also leaves when this much was handled and more is there.
MANY_PACKETS = 1024
MANY_BYTES = 256 * 1024


class Acknowledger:
    """The acknowledgements of one channel.

    Args:
        session: what was handled and told.
        link: where they leave; another one than is read while a callback outlives its link.
        timer: the network's.

    Attributes:
        waiting: whether the timer is going to fire.
    """

    __slots__ = ("_session", "_timer", "_told_at", "link", "waiting")

    def __init__(self, session: Session, link: Link, timer: AcknowledgeTimer) -> None:
        self._session = session
        self._timer = timer
        self._told_at = 0  # bytes that had been received by then
        self.waiting = False
        self.link = link

    def rest(self) -> None:
        """What was read is handled: acknowledge if that is much, else soon."""
        owed = self._session.handled - self._session.told
        all_is_handled = owed >= PACKETS and self.link.drained
        if all_is_handled or owed >= MANY_PACKETS or self.link.received_bytes - self._told_at >= MANY_BYTES:
            self.acknowledge()
        else:
            self.end_turn()

    def end_turn(self) -> None:
        """More has arrived than is handled: acknowledge soon, whatever handling it takes."""
        if not self.waiting and (self._session.owes or self._session.refused):
            self.waiting = True
            self._timer.add(self)

    def acknowledge(self) -> None:
        """Tell the peer what has been handled, if it does not know yet."""
        session, link = self._session, self.link
        self._told_at = link.received_bytes
        while link.may_acknowledge and (session.owes or session.refused):
            number, refused = session.acknowledge()
            body = pb.AcknowledgePacket(
                refusals=[pb.Refusal(sequence=one, reason=reason.refusal_number) for one, reason in refused]
            )
            link.put_control(body, encode_envelope(acknowledged=number))

    def take_over(self, link: Link) -> None:
        """Go on over another link."""
        self.link = link
        self._told_at = 0

    def on_time(self) -> None:
        """The timer has fired."""
        self.waiting = False
        self.acknowledge()


class AcknowledgeTimer:
    """Acknowledges on all channels of a network, a moment after the first of them owes it.

    Args:
        delay: that moment, in seconds.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._owing: list[Acknowledger] = []

    def start(self) -> None:
        """Begin anew: the loop of the thread in which a network ran before may be gone, and with it the timer."""
        self._owing = []

    def add(self, acknowledger: Acknowledger) -> None:
        """Let it acknowledge when the time has come. Once until then is enough."""
        if not self._owing:
            timer = gevent.get_hub().loop.timer(self._delay)
            timer.start(self._fire, timer)
        self._owing.append(acknowledger)

    def _fire(self, timer: Any) -> None:
        timer.stop()
        timer.close()
        owing, self._owing = self._owing, []
        for acknowledger in owing:
            acknowledger.on_time()
