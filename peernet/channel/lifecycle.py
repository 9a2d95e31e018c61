"""Lifecycle: where a channel stands, why it ends, and who waits for that."""

from __future__ import annotations

from gevent.event import Event as Flag

from peernet.channel.state import TRANSITIONS, ChannelState
from peernet.errors import ChannelClosedError, LocalProtocolError, PeerNetError
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason

# Looking a member up in its class takes as long as a call (CPython 3.11).
_OPEN = ChannelState.OPEN


class Lifecycle:
    """The state of one channel, which nothing else writes, and how it has come to its end.

    Args:
        peer: who is at the other end; it names the channel in errors and logs.

    Attributes:
        state: see :class:`~peernet.channel.state.ChannelState`.
        attached: whether there is a link that packets may leave by: the state is ``OPEN``.
        reading: whether the frames that are read now count. It ends with ``OPEN``, and begins again
            when somebody reads from the next link: a callback may outlive its own.
        reason: why the channel ended; ``None`` while it lives. ``reason_text`` says more.
        ended_by_peer: whether the peer said goodbye.
        retry_after: seconds that a peer who said goodbye asks to wait before it is dialled again.
        do_not_redial: whether it asks not to be dialled again.
        opened_at: monotonic seconds when it opened; ``None`` if it never did.
        expires_at: monotonic seconds when it ends unless it gets another connection; while reconnecting.
    """

    __slots__ = (
        "_closed",
        "_moved",
        "attached",
        "do_not_redial",
        "ended_by_peer",
        "expires_at",
        "opened_at",
        "peer",
        "reading",
        "reason",
        "reason_text",
        "retry_after",
        "state",
    )

    def __init__(self, peer: GenericPeer) -> None:
        self.peer = peer
        self.state = ChannelState.PENDING
        self.attached = False
        self.reading = False
        self.reason: Reason | None = None
        self.reason_text = ""
        self.ended_by_peer = False
        self.retry_after = 0.0
        self.do_not_redial = False
        self.opened_at: float | None = None
        self.expires_at = 0.0
        self._closed: Flag | None = None  # made for the first who waits: most channels live, and it takes 144 bytes
        self._moved: Flag | None = None  # for whoever waits for the state to change

    @property
    def label(self) -> str:
        """The channel, as errors and logs name it."""
        return f"<PeerChannel {self.peer.identifier[:8]} {self.peer.endpoint} {self.state.value}>"

    # What happens to a channel. What the table does not allow raises LocalProtocolError.

    def open(self, now: float) -> None:
        """The peer is let in."""
        self._move(ChannelState.OPEN)
        self.opened_at = now

    def lose(self, expires_at: float) -> None:
        """The connection is lost, and the session waits for another one until then."""
        self._move(ChannelState.RECONNECTING)
        self.expires_at = expires_at

    def resume(self) -> None:
        """There is another connection."""
        self._move(ChannelState.OPEN)

    def begin_closing(self, reason: Reason, text: str) -> None:
        """This side says goodbye."""
        self.note_end(reason, text)
        self._move(ChannelState.CLOSING)

    def hear_goodbye(self, reason: Reason, text: str, retry_after: float, *, do_not_redial: bool) -> None:
        """The peer has said goodbye."""
        self.note_end(reason, text, by_peer=True)
        self.retry_after, self.do_not_redial = retry_after, do_not_redial
        self._move(ChannelState.CLOSING)

    def end(self) -> None:
        """The channel has ended."""
        self.note_end(Reason.CONNECTION_LOST, "")
        self._move(ChannelState.CLOSED)
        if self._closed is not None:
            self._closed.set()

    def note_end(self, reason: Reason, text: str, *, by_peer: bool = False) -> None:
        """Remember why the channel ends; the first reason is the cause, later ones follow from it."""
        if self.reason is None:
            self.reason, self.reason_text, self.ended_by_peer = reason, text, by_peer

    def begin_reading(self) -> None:
        """Somebody reads from a link now."""
        self.reading = self.attached

    # What follows from it.

    @property
    def closed(self) -> Flag:
        """Set when the channel has ended."""
        if self._closed is None:
            self._closed = Flag()
            if self.state is ChannelState.CLOSED:
                self._closed.set()
        return self._closed

    def wait_for_move(self) -> None:
        """Wait until the state changes. Only the channel's own greenlet waits here."""
        self._moved = Flag()
        self._moved.wait()
        self._moved = None

    def closed_error(self) -> PeerNetError:
        """Says that nothing can be sent, and why."""
        if self.state is ChannelState.PENDING:
            return LocalProtocolError("the connection is still pending; accept it first")
        reason = self.reason or Reason.CLOSED
        return ChannelClosedError(f"the channel to {self.peer.identifier[:8]} is closed: {reason.sentence}", reason)

    def _move(self, state: ChannelState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise LocalProtocolError(f"a {self.state.value} channel cannot become {state.value}")
        self.state = state
        self.attached = state is _OPEN
        self.reading = False
        if self._moved is not None:
            self._moved.set()
