"""Acknowledger: tells the peer what has been handled, not too often and not too late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from peernet.channel.link import Link
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import encode_envelope
from peernet.wire.session import Session

# An acknowledgement leaves on its own when this much was handled and no more is there to
# handle; before that it waits for a packet to travel with, or for the timer.
PACKETS = 64
# Not towards a peer that asks when it waits: there it has to be this much. Bytes.
MUCH = 64 * 1024
# It also leaves when this much was handled and more is there.
MANY_PACKETS = 1024
MANY_BYTES = 256 * 1024
# Towards a peer that asks when it waits, an acknowledgement that goes along with no packet leaves on its own after
# this many times the timer's delay, or at most twice that.
RARELY = 40


class Acknowledger:
    """The acknowledgements of one channel.

    Args:
        session: what was handled and told.
        link: where they leave; another one than is read while a callback outlives its link.
        timer: the network's.

    Attributes:
        waiting: whether the timer is going to fire soon.
    """

    __slots__ = ("_session", "_timer", "_told_at", "_told_before", "link", "waiting")

    def __init__(self, session: Session, link: Link, timer: AcknowledgeTimer) -> None:
        self._session = session
        self._timer = timer
        self._told_at = 0  # bytes that had been received by then
        self._told_before: int | None = None  # when the rare timer was set; None if it is not
        self.waiting = False
        self.link = link

    def rest(self) -> None:
        """What was read is handled: acknowledge if that is much, else soon."""
        session = self._session
        owed, size = session.handled - session.told, self.link.received_bytes - self._told_at
        much = size >= MUCH if session.acknowledges_now else owed >= PACKETS
        if (much and self.link.drained) or owed >= MANY_PACKETS or size >= MANY_BYTES:
            self.acknowledge()
        elif not self.waiting:
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

    def answer(self) -> None:
        """The peer waits for what is handled by now: acknowledge, if it reads its acknowledgements."""
        if self.link.outbox.full:
            self.end_turn()
        else:
            self.acknowledge()

    def take_over(self, link: Link) -> None:
        """Go on over another link."""
        self.link = link
        self._told_at = 0

    def on_time(self) -> None:
        """The timer has fired.

        A peer that asks when it waits can be told later, but for a refusal, and while a callback takes its time:
        its question stands behind the packet that is handled.
        """
        self.waiting = False
        if not self._session.acknowledges_now or self._session.refused or self.link.handling:
            self.acknowledge()
        else:
            self._wait_for_a_packet()

    def on_rare_time(self) -> None:
        """The rare timer has fired: acknowledge, unless an acknowledgement has gone along with a packet since."""
        told, self._told_before = self._told_before, None
        if told == self._session.told:
            self.acknowledge()
        else:
            self._wait_for_a_packet()

    def _wait_for_a_packet(self) -> None:
        if self._session.owes:
            self._session.let_go_along()
            if self._told_before is None:
                self._told_before = self._session.told
                self._timer.add_rare(self)


class AcknowledgeTimer:
    """Acknowledges on all channels of a network, a moment after the first of them owes it.

    Args:
        delay: that moment, in seconds.
    """

    def __init__(self, delay: float) -> None:
        self._soon = _Round(delay, Acknowledger.on_time)
        self._rare = _Round(RARELY * delay, Acknowledger.on_rare_time)

    def start(self) -> None:
        """Begin anew: the loop of the thread in which a network ran before may be gone, and with it the timer."""
        self._soon.start()
        self._rare.start()

    def add(self, acknowledger: Acknowledger) -> None:
        """Call its :meth:`~Acknowledger.on_time` when that moment has come. Once until then is enough."""
        self._soon.add(acknowledger)

    def add_rare(self, acknowledger: Acknowledger) -> None:
        """Call its :meth:`~Acknowledger.on_rare_time`, within :data:`RARELY` times the delay. Once is enough."""
        self._rare.add(acknowledger)


class _Round:
    """One timer for many acknowledgers: it is set for the first, and fires for all who have come meanwhile."""

    def __init__(self, delay: float, fire: Callable[[Acknowledger], None]) -> None:
        self._delay = delay
        self._call = fire
        self._waiting: list[Acknowledger] = []

    def start(self) -> None:
        self._waiting = []

    def add(self, acknowledger: Acknowledger) -> None:
        if not self._waiting:
            timer = gevent.get_hub().loop.timer(self._delay)
            timer.start(self._fire, timer)
        self._waiting.append(acknowledger)

    def _fire(self, timer: Any) -> None:
        timer.stop()
        timer.close()
        waiting, self._waiting = self._waiting, []
        for acknowledger in waiting:
            self._call(acknowledger)
