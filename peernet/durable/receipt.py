"""DurableReceipt: what becomes of a packet in the durable outbox."""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event as Flag

from peernet.errors import DeliveryFailed
from peernet.reasons import Reason
from peernet.runtime.callables import check_callable
from peernet.runtime.greenlets import call_back
from peernet.runtime.threads import NO_HOME, HomeThread, at_home

# With these reasons the packet is still stored, and what has become of it.
STORED: dict[Reason | None, str] = {
    Reason.SHUTDOWN: "is not delivered yet and stays stored",
    Reason.HANDLER_FAILED: "is set aside after too many attempts; `peernet-node outbox retry` sends it again",
}


class DurableReceipt:
    """Stands for one packet that is on the disk.

    It is not done when a connection, a session or the peer's process ends, because then the packet is
    sent again. It has failed when the peer has refused the packet, or somebody has dropped it; then the
    packet is not stored any more. When this network stops it has failed with ``Reason.SHUTDOWN``, and the
    packet is still stored: the next network with the same file sends it. When the peer's callback has failed
    ``durable_attempts`` times it has failed with ``Reason.HANDLER_FAILED``, and the packet is still stored,
    but set aside: :meth:`DurableOutbox.retry` sends it again, of which this receipt tells no more.

    Attributes:
        peer: identifier of who gets the packet.
        packet_id: what the peer knows the packet by.
        number: its place in the outbox.
        done: whether it is acknowledged or failed.
        reason: why it failed; ``None`` while pending or if acknowledged.
    """

    __slots__ = ("_callbacks", "_check_may_wait", "_home", "done", "number", "packet_id", "peer", "reason")

    def __init__(
        self, peer: str, packet_id: bytes, check_may_wait: Callable[[str], None], home: HomeThread = NO_HOME
    ) -> None:
        self._home = home
        self.peer = peer
        self.packet_id = packet_id
        self.number = 0
        self.done = False
        self.reason: Reason | None = None
        self._check_may_wait = check_may_wait
        self._callbacks: tuple[Callable[[DurableReceipt], object], ...] = ()

    def __repr__(self) -> str:
        state = (self.reason or "acknowledged") if self.done else "pending"
        return f"<DurableReceipt {self.packet_id.hex()} {state}>"

    @property
    def acknowledged(self) -> bool:
        """Whether the peer's callback has returned. A peer without sessions does not tell whether it failed."""
        return self.done and self.reason is None

    @property
    def failed(self) -> bool:
        """Whether the packet was refused, dropped or set aside, or the network has stopped before it was delivered."""
        return self.done and self.reason is not None

    @property
    def stored(self) -> bool:
        """Whether the packet waits to be delivered, now or by the next network, or is set aside."""
        return not self.done or self.reason in STORED

    @at_home
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the packet is acknowledged. Returns ``False`` if ``timeout`` seconds pass first.

        Raises:
            DeliveryFailed: it failed.
            SelfWaitError: called in one of the callbacks of the channel to that peer, which must return first.
            WrongThreadError: called in another native thread than the network's.
        """
        if not self.done:
            self._check_may_wait(self.peer)
            self._wait(timeout)
        if self.reason is not None:
            raise DeliveryFailed(f"packet {self.packet_id.hex()} {self._fate()}: {self.reason.sentence}", self.reason)
        return self.done

    @at_home
    def add_done_callback(self, callback: Callable[[DurableReceipt], object]) -> None:
        """Call ``callback(receipt)`` when it is done; at once if it is. What it raises is logged. It must not wait.

        Raises:
            ConfigurationError: it cannot be called, or is a coroutine or generator function.
        """
        check_callable(callback, None, "a done callback")
        if self.done:
            call_back(callback, self)
        else:
            self._callbacks += (callback,)

    def settle(self, reason: Reason | None = None) -> None:
        """Acknowledge the packet, or fail it. Only the outbox does that, once."""
        self.done, self.reason = True, reason
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            call_back(callback, self)

    def _fate(self) -> str:
        return STORED.get(self.reason, "was not delivered")

    def _wait(self, timeout: float | None) -> None:
        settled = Flag()

        def wake(_: DurableReceipt) -> None:
            settled.set()

        self._callbacks += (wake,)
        try:
            settled.wait(timeout)
        finally:
            self._callbacks = tuple(callback for callback in self._callbacks if callback is not wake)
