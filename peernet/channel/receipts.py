"""Receipts: what becomes of the packets that a channel has accepted."""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event as Flag

from peernet.errors import DeliveryFailed
from peernet.reasons import Reason
from peernet.runtime.callables import check_callable
from peernet.runtime.greenlets import call_back
from peernet.runtime.threads import NO_HOME, HomeThread, at_home

# How many receipts share a page, and the bits of a number that are 0 where a page begins.
PAGE = 64
WITHIN_PAGE = PAGE - 1


class Receipt:
    """Stands for one accepted packet, which ends in exactly one of acknowledged or failed.

    Acknowledged means: the peer's callback for it has returned. Failed means that this
    will not be known any more, or that the peer has refused the packet; ``reason`` says which.

    :meth:`wait` and :meth:`add_done_callback` have the peer acknowledge as soon as its callback has returned.
    Looking at ``done`` does not: where nobody waits, acknowledgements come within seconds.

    Attributes:
        sequence: the packet's number in its session; 0 without one.
        page: what it shares with its neighbours.
    """

    # One is made for every packet, in half the time if no initialiser is called.
    __slots__ = ("page", "sequence")

    page: Page
    sequence: int

    def __repr__(self) -> str:
        state = (self.reason or "acknowledged") if self.done else "pending"
        return f"<Receipt {self.sequence} {state}>"

    @property
    def reason(self) -> Reason | None:
        """Why it failed; ``None`` while pending or if acknowledged."""
        return self.page.reason(self.sequence)

    @property
    def done(self) -> bool:
        """Whether it is acknowledged or failed."""
        return self.acknowledged or self.failed

    @property
    def acknowledged(self) -> bool:
        """Whether the peer's callback has returned."""
        return self.sequence <= self.page.book.settled and not self.failed

    @property
    def failed(self) -> bool:
        """Whether the packet was refused, or its fate will not be known."""
        return self.reason is not None

    @property
    def _home(self) -> HomeThread:
        return self.page.book.home

    @at_home
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the packet is acknowledged. Returns ``False`` if ``timeout`` seconds pass first.

        Raises:
            DeliveryFailed: it failed.
            SelfWaitError: called in one of the channel's own callbacks, which must return first.
            WrongThreadError: called in another native thread than the network's.
        """
        if not self.done:
            self.page.book.check_may_wait("Receipt.wait")
            self._wait(timeout)
        if self.reason is not None:
            raise DeliveryFailed(f"packet {self.sequence} was not delivered: {self.reason.sentence}", self.reason)
        return self.done

    @at_home
    def add_done_callback(self, callback: Callable[[Receipt], object]) -> None:
        """Call ``callback(receipt)`` when it is done; at once if it is.

        It runs in the greenlet that settles the receipt, usually the channel's own, and
        what it raises is logged. It must not wait.

        Raises:
            ConfigurationError: it cannot be called, or is a coroutine or generator function.
        """
        check_callable(callback, None, "a done callback")
        if self.done:
            call_back(callback, self)
        else:
            self.page.book.watch(self, callback)

    def _wait(self, timeout: float | None) -> None:
        settled, book = Flag(), self.page.book

        def wake(_: Receipt) -> None:
            settled.set()

        book.watch(self, wake)
        try:
            settled.wait(timeout)
        finally:
            book.watch_no_more(self, wake)


class Page:
    """What receipts with neighbouring numbers share; it lives as long as one of them, or their packets, does."""

    __slots__ = ("book", "refused")

    def __init__(self, book: ReceiptBook) -> None:
        self.book = book
        self.refused: dict[int, Reason] | None = None

    def reason(self, sequence: int) -> Reason | None:
        """Why the packet of a number has failed, if it has."""
        if self.refused is not None and sequence in self.refused:
            return self.refused[sequence]
        return None if sequence <= self.book.settled else self.book.closed


class ReceiptBook:
    """All receipts of a channel.

    A receipt is made for every packet, and most are thrown away at once. So the book does
    not hold them: what happened to one follows from how far the peer has acknowledged, from
    what it has refused, and from why the book was closed.

    Args:
        check_may_wait: raises if waiting for a receipt would wait for the caller itself.
        closed: why no receipt can be acknowledged, if that is so from the start.
        home: the native thread of the network.
        ask: has the peer acknowledge a packet at once, by its number; somebody waits for it.

    Attributes:
        page: the one on which the next receipt stands.
        pages: those with numbers that are not settled, by their first one; ``None`` while there is only one.
        settled: up to which number packets are acknowledged, or refused.
        closed: why the others have failed, if the channel has ended.
    """

    __slots__ = ("_ask", "_watched", "check_may_wait", "closed", "home", "page", "pages", "settled")

    def __init__(
        self,
        check_may_wait: Callable[[str], None],
        closed: Reason | None = None,
        home: HomeThread = NO_HOME,
        ask: Callable[[int], None] | None = None,
    ) -> None:
        self._ask = ask
        self.home = home
        self.check_may_wait = check_may_wait
        self.closed = closed
        self.settled = 0 if closed is None else -1
        self.page = Page(self)
        self.pages: dict[int, Page] | None = None
        self._watched: dict[int, tuple[Receipt, list[Callable[[Receipt], object]]]] | None = None

    def turn(self, sequence: int) -> Page:
        """The next page, on which the receipt for the next packet stands; its number begins a page."""
        self.pages = self.pages or {0: self.page}
        self.pages[sequence] = self.page = Page(self)
        return self.page

    def refuse(self, sequence: int, reason: Reason) -> None:
        """The peer says that a packet has reached no callback. For one that is done already that comes too late.

        Args:
            sequence: a number that was given to a packet, or any lower one.
            reason: why.
        """
        page = (self.pages or {0: self.page}).get(sequence & ~WITHIN_PAGE)
        if page is not None and sequence > self.settled and page.reason(sequence) is None:
            page.refused = page.refused or {}
            page.refused[sequence] = reason
            self._tell(sequence)

    def settle(self, acknowledged: int) -> None:
        """The peer has acknowledged up to a number. After :meth:`close` that comes too late."""
        if self.closed is not None:
            return
        before, self.settled = self.settled, max(self.settled, acknowledged)
        for page in range(before & ~WITHIN_PAGE, self.settled & ~WITHIN_PAGE, PAGE):
            (self.pages or {}).pop(page, None)
        if self._watched:
            for sequence in range(before + 1, self.settled + 1):
                self._tell(sequence)

    def close(self, reason: Reason) -> None:
        """What is not settled now has failed."""
        self.closed = self.closed or reason
        for sequence in list(self._watched or ()):
            self._tell(sequence)

    def watch(self, receipt: Receipt, callback: Callable[[Receipt], object]) -> None:
        """Call back when a receipt is done, and see that it is soon."""
        self._watched = self._watched or {}
        self._watched.setdefault(receipt.sequence, (receipt, []))[1].append(callback)
        if self._ask is not None:
            self._ask(receipt.sequence)

    def watch_no_more(self, receipt: Receipt, callback: Callable[[Receipt], object]) -> None:
        """Undo :meth:`watch`."""
        _, callbacks = (self._watched or {}).get(receipt.sequence, (receipt, [callback]))
        callbacks.remove(callback)

    def _tell(self, sequence: int) -> None:
        """Tell those who watch a receipt. None of them can hurt another, or the channel."""
        receipt, callbacks = (self._watched or {}).pop(sequence, (None, []))
        for callback in callbacks:
            call_back(callback, receipt)
