"""Receipt: what becomes of a packet that a channel has accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gevent.event import Event as Flag

from peernet.errors import DeliveryFailed
from peernet.reasons import Reason
from peernet.wire.packets import Encoded

if TYPE_CHECKING:
    from peernet.channel import PeerChannel


class Receipt:
    """Stands for one accepted packet, which ends in exactly one of acknowledged or failed.

    Acknowledged means: the peer's callback for it has returned. Failed means that this
    will not be known any more, or that the peer has refused the packet; ``reason`` says which.

    Attributes:
        sequence: the packet's number in its session; 0 without one.
        size: bytes of the packet.
        reason: why it failed; ``None`` while pending or if acknowledged.
    """

    __slots__ = ("_callbacks", "_channel", "_done", "_settled", "encoded", "reason", "sequence", "size")

    def __init__(self, channel: PeerChannel, encoded: Encoded, size: int) -> None:
        self._channel = channel
        self.encoded: Encoded | None = encoded
        self.size = size
        self.sequence = 0
        self.reason: Reason | None = None
        self._settled = False
        self._done: Flag | None = None
        self._callbacks: list[Callable[[Receipt], object]] | None = None

    def __repr__(self) -> str:
        state = "pending" if not self._settled else self.reason or "acknowledged"
        return f"<Receipt {self.sequence} {state}>"

    @property
    def acknowledged(self) -> bool:
        """Whether the peer's callback has returned."""
        return self._settled and self.reason is None

    @property
    def failed(self) -> bool:
        """Whether the packet was refused, or its fate will not be known."""
        return self._settled and self.reason is not None

    @property
    def done(self) -> bool:
        """Whether it is one or the other."""
        return self._settled

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the packet is acknowledged. Returns ``False`` if ``timeout`` seconds pass first.

        Raises:
            DeliveryFailed: it failed.
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
        """
        if not self._settled:
            self._channel.check_not_own_greenlet("Receipt.wait")
            if self._done is None:
                self._done = Flag()
            self._done.wait(timeout)
        if self.reason is not None:
            raise DeliveryFailed(f"packet {self.sequence} was not delivered: {self.reason.sentence}", self.reason)
        return self._settled

    def add_done_callback(self, callback: Callable[[Receipt], object]) -> None:
        """Call ``callback(receipt)`` when it is done; at once if it is.

        It runs in the greenlet that settles the receipt, usually the channel's own.
        """
        if self._settled:
            callback(self)
        else:
            self._callbacks = [*(self._callbacks or ()), callback]

    def settle(self, reason: Reason | None = None) -> None:
        """Acknowledge the packet, or fail it. The first settlement counts."""
        if self._settled:
            return
        self._settled, self.reason, self.encoded = True, reason, None
        if self._done is not None:
            self._done.set()
        if self._callbacks is not None:
            self._channel.run_callbacks(self._callbacks, self)
            self._callbacks = None
