"""Pings: heartbeats that ask for an answer, and those who wait for it."""

from __future__ import annotations

from gevent.event import Event as Flag

from peernet.channel.link import Link
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import encode_envelope


class Pings:
    """The questions of one channel that are not answered yet."""

    __slots__ = ("_awaited", "_last")

    def __init__(self) -> None:
        self._last = 0
        self._awaited: dict[int, Flag] | None = None  # made at first use: most channels never ask

    @property
    def waiting(self) -> int:
        """How many questions are not answered yet."""
        return len(self._awaited or ())

    def ask(self, link: Link, timeout: float) -> bool | None:
        """Ask over a link, and wait.

        Returns:
            Whether an answer came in time; ``None`` if :meth:`give_up` was called before.
        """
        self._last += 1
        request, answered = self._last, Flag()
        self._awaited = self._awaited or {}
        self._awaited[request] = answered
        try:
            link.put_control(pb.HeartbeatPacket(), encode_envelope(request_id=request))
            woken = answered.wait(timeout)
            return None if woken and request in self._awaited else bool(woken)
        finally:
            self._awaited.pop(request, None)

    def take(self, packet: pb.Packet, link: Link) -> None:
        """A heartbeat has come: perhaps an answer, perhaps a question."""
        if self._awaited and packet.reply_to in self._awaited:
            self._awaited.pop(packet.reply_to).set()
        if packet.request_id and not link.outbox.full:
            link.put_control(pb.HeartbeatPacket(), encode_envelope(reply_to=packet.request_id))

    def give_up(self) -> None:
        """No answer can come any more."""
        for answered in (self._awaited or {}).values():
            answered.set()
