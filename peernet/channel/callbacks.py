"""Callbacks: calling back, and what is done about callbacks that fail, or that let nobody else run."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from peernet.channel.handlers import Callback, InThreadpool, PacketHandleProtocol, find_callback
from peernet.channel.reporter import ChannelOwner, Reporter
from peernet.errors import PacketRefusedError
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.interruptions import is_addressed_here, raise_in_main
from peernet.runtime.logs import get_logger
from peernet.v1 import packet_pb2 as pb

logger = get_logger(__name__)

# A failing or a blocking callback is logged at most this often per channel, a failing one for each kind of packet
# and each type of exception. Seconds.
LOG_EVERY = 60.0
# So many of these pairs are told apart on a channel. Those that follow share one, so a peer that finds ever new
# exceptions in a callback fills neither the log nor the memory.
FAILURES_APART = 16
# So many failures of a callback in a row on a channel are no accident.
FAILING = 20
# A callback that let nobody else run for this long is named in the log. Seconds.
BLOCKING = 0.1
# How far the two clocks that are compared for that may be apart. Seconds.
CLOCKS_APART = 0.02
NEVER = float("-inf")


class Callbacks:
    """Calls back for one channel.

    Args:
        owner: its network.
        reporter: knows the channel that callbacks are given, and counts.

    Attributes:
        handlers: callbacks of this channel only, if there are any.
        received: how many packets have reached their callback.
        ends_program: whether a callback has raised what ends the program with the next loop pass: there is no
            time to wait with what the peer is to be told.
    """

    __slots__ = (
        "_callback",
        "_failing",
        "_failures_logged",
        "_owner",
        "_packet_received",
        "_reporter",
        "_slowness_logged_at",
        "ends_program",
        "handlers",
        "received",
    )

    def __init__(self, owner: ChannelOwner, reporter: Reporter) -> None:
        self._owner = owner
        self._packet_received = owner.packet_received
        self._reporter = reporter
        self._callback: Callback | None = None  # the one called last
        self._failing: dict[str, int] | None = None  # by kind: how many failures in a row
        self._failures_logged: dict[tuple[str, type] | None, float] | None = None  # when, by packet and exception
        self._slowness_logged_at = NEVER
        self.handlers: PacketHandleProtocol | None = None
        self.received = 0
        self.ends_program = False

    def call(self, kind: str, packet: pb.Packet) -> Reason | None:
        """Call back. What the callback raises is counted and logged.

        Returns:
            ``None`` if the packet is handled: its callback has returned. Else why it is not.
        """
        self.received += 1
        channel = self._reporter.channel
        if self._packet_received.listeners:
            self._packet_received.fire(channel, packet)
        self._callback = callback = find_callback(kind, self.handlers, self._owner.handlers)
        if callback is None:
            self._reporter.count("unhandled")
            return Reason.UNHANDLED
        try:
            if type(callback) is InThreadpool:
                self._owner.threads.run(callback, channel, packet)
            else:
                callback(channel, packet)
        except BaseException as error:
            if is_addressed_here(error):
                raise
            return self._why_not_handled(kind, error)
        if self._failing:
            self._failing.pop(kind, None)
        return None

    def took_long(self, seconds: float) -> None:
        """The callbacks of the last ``seconds`` took their time: name the latest, if nothing else could run."""
        blocked = clock.wall() - gevent.get_hub().loop.now()
        now = clock.monotonic()
        if blocked >= BLOCKING and now - self._slowness_logged_at >= LOG_EVERY:
            self._slowness_logged_at = now
            # If the loop has polled since, the callback has waited, and whatever ran then may have been it.
            doubt = ", or what ran while it waited," if blocked < seconds - CLOCKS_APART else ""
            logger.warning(
                "the callback %s on %r%s let nothing else run for %.1f s; callbacks that take long belong "
                "into threads: see InThreadpool",
                _name(self._callback),
                self._reporter.channel,
                doubt,
                min(blocked, seconds),
            )

    def _why_not_handled(self, kind: str, error: BaseException) -> Reason:
        """What the sender is told of what a callback has raised."""
        if isinstance(error, PacketRefusedError):
            reason: object = getattr(error, "reason", None)
            if isinstance(reason, Reason):  # else the packet would pass for handled, or nobody could be told
                self._reporter.count("refused_by_callback")
                return reason
        self._note_failure(kind, error)
        self.ends_program = raise_in_main(error)
        return Reason.HANDLER_FAILED

    def _note_failure(self, kind: str, error: BaseException) -> None:
        """Count it, and log it now and then: a million failures must not fill a disk."""
        self._reporter.count("callback_failed")
        self._count_in_a_row(kind, error)
        self._failures_logged = logged = self._failures_logged or {}
        now = clock.monotonic()
        which = (kind, type(error)) if (kind, type(error)) in logged or len(logged) < FAILURES_APART else None
        if now - logged.get(which, NEVER) >= LOG_EVERY:
            logged[which] = now
            failures, channel = self._reporter.counters["callback_failed"], self._reporter.channel
            logger.error("the callback for %s failed (%d so far on %r)", kind, failures, channel, exc_info=error)

    def _count_in_a_row(self, kind: str, error: BaseException) -> None:
        self._failing = self._failing or {}
        self._failing[kind] = in_a_row = self._failing.get(kind, 0) + 1
        if in_a_row == FAILING:
            self._reporter.count("handler_failing")
            self._reporter.handler_failing(kind, error)


def _name(callback: Callable[..., object] | None) -> str:
    if isinstance(callback, InThreadpool):
        callback = callback.callback
    return f"{getattr(callback, '__module__', '?')}.{getattr(callback, '__qualname__', repr(callback))}"
