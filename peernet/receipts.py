"""Receipt: what becomes of a packet that a channel has accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gevent.event import Event as Flag

from peernet.errors import DeliveryFailed
from peernet.reasons import Reason

if TYPE_CHECKING:
    from peernet.channel import PeerChannel


class Receipt:
    """Stands for one accepted packet, which ends in exactly one of acknowledged or failed.

    Acknowledged means: the peer's callback for it has returned. Failed means that this
    will not be known any more, or that the peer has refused the packet; ``reason`` says which.

    Attributes:
        sequence: the packet's number in its session; 0 without one.
        done: whether it is acknowledged or failed.
        reason: why it failed; ``None`` while pending or if acknowledged.
    """

    # As few as possible, because a receipt is made for every packet. The frame is kept in
    # the two parts in which the outbox takes it.
    __slots__ = ("_callbacks", "_channel", "content", "done", "header", "reason", "sequence", "size")

    def __init__(self, channel: PeerChannel, header: bytes, content: bytes, size: int) -> None:
        self._channel = channel
        self.header = header
        self.content = content
        self.size = size
        self.sequence = 0
        self.done = False
        self.reason: Reason | None = None
        self._callbacks: tuple[Callable[[Receipt], object], ...] = ()

    def __repr__(self) -> str:
        state = (self.reason or "acknowledged") if self.done else "pending"
        return f"<Receipt {self.sequence} {state}>"

    @property
    def acknowledged(self) -> bool:
        """Whether the peer's callback has returned."""
        return self.done and self.reason is None

    @property
    def failed(self) -> bool:
        """Whether the packet was refused, or its fate will not be known."""
        return self.done and self.reason is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the packet is acknowledged. Returns ``False`` if ``timeout`` seconds pass first.

        Raises:
            DeliveryFailed: it failed.
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
        """
        if not self.done:
            self._channel.check_not_own_greenlet("Receipt.wait")
            self._wait(timeout)
        if self.reason is not None:
            raise DeliveryFailed(f"packet {self.sequence} was not delivered: {self.reason.sentence}", self.reason)
        return self.done

    def add_done_callback(self, callback: Callable[[Receipt], object]) -> None:
        """Call ``callback(receipt)`` when it is done; at once if it is.

        It runs in the greenlet that settles the receipt, usually the channel's own, and
        what it raises is logged. It must not wait.
        """
        if self.done:
            callback(self)
        else:
            self._callbacks += (callback,)

    def settle(self, reason: Reason | None = None) -> None:
        """Acknowledge the packet, or fail it. Only the channel does that, once."""
        self.done, self.reason = True, reason
        self.header = self.content = b""
        if self._callbacks:
            callbacks, self._callbacks = self._callbacks, ()
            self._channel.run_callbacks(callbacks, self)

    def _wait(self, timeout: float | None) -> None:
        settled = Flag()

        def wake(_: Receipt) -> None:
            settled.set()

        self._callbacks += (wake,)
        try:
            settled.wait(timeout)
        finally:
            self._callbacks = tuple(callback for callback in self._callbacks if callback is not wake)
