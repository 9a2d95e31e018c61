"""Closing: how a connection is lost, and how a channel comes to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peernet.channel.acknowledger import Acknowledger
from peernet.channel.attachment import Attachment
from peernet.channel.lifecycle import Lifecycle
from peernet.channel.link import Link
from peernet.channel.liveness import Liveness
from peernet.channel.ownership import Ownership
from peernet.channel.pings import Pings
from peernet.channel.reporter import ChannelOwner, Reporter
from peernet.channel.sender import Sender
from peernet.channel.state import ChannelState
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import ConnectionState
from peernet.wire.disconnect import disconnect_packet, keeps_session
from peernet.wire.session import Session

logger = get_logger(__name__)


class Closing:
    """Ends one channel: politely, at once, or because its peer has gone.

    Every way to the end goes through :meth:`conclude`, which happens once. The connection is
    released by whoever reads from it; see :meth:`release`.

    Args:
        owner: the network.
        reporter: tells it.
        lifecycle: where the channel stands.
        ownership: whose greenlet is killed if a callback never returns.
        attachment: the links.
        session: the channel's, if it has one.
        sender: fails the receipts, and wakes those who wait for room.
        acknowledger: the session's, if there is one.
        pings: wakes those who wait for an answer.
        liveness: starts again with the next connection.
    """

    __slots__ = (
        "_acknowledger",
        "_attachment",
        "_lifecycle",
        "_liveness",
        "_owner",
        "_ownership",
        "_pings",
        "_reporter",
        "_sender",
        "_session",
    )

    def __init__(
        self,
        *,
        owner: ChannelOwner,
        reporter: Reporter,
        lifecycle: Lifecycle,
        ownership: Ownership,
        attachment: Attachment,
        session: Session | None,
        sender: Sender,
        acknowledger: Acknowledger | None,
        pings: Pings,
        liveness: Liveness,
    ) -> None:
        self._owner = owner
        self._reporter = reporter
        self._lifecycle = lifecycle
        self._ownership = ownership
        self._attachment = attachment
        self._session = session
        self._sender = sender
        self._acknowledger = acknowledger
        self._pings = pings
        self._liveness = liveness

    # Losing a connection.

    def lose(self, link: Link, reason: Reason, text: str) -> None:
        """A connection is gone. With a session the channel waits for another one; without it ends."""
        link.abort()
        if link is not self._attachment.link or self._lifecycle.state is not ChannelState.OPEN:
            return
        if self._ownership.home.forked:
            return  # as in conclude()
        if self._session is None:
            self.end(reason, text)
            return
        logger.info("%s: %s; reconnecting", self._lifecycle.peer.identifier[:8], text)
        self._session.detach()
        self._liveness.start_again()
        self._lifecycle.lose(clock.monotonic() + self._owner.config.session_ttl)
        self._give_up_waiting()
        self._reporter.reconnecting()

    def cut(self, link: Link, reason: Reason) -> None:
        """Give up a connection whose peer does not answer: whatever its callback does, it is gone now."""
        state = self._lifecycle.state
        if link is not self._attachment.link or state not in (ChannelState.PENDING, ChannelState.OPEN):
            return
        self._owner.counters[reason] += 1
        text = ""
        if reason is Reason.FRAME_TIMEOUT:  # counted apart, and told as what it is: the connection has stalled
            text, reason = reason.sentence, Reason.TIMEOUT
        link.put_control(disconnect_packet(reason, text))
        link.outbox.flush()
        if keeps_session(reason) and state is ChannelState.OPEN:
            self.lose(link, reason, text or reason.sentence)
        else:
            self.end(reason, text)

    # Ending.

    def begin(self, reason: Reason, message: str = "", retry_after: float = 0.0, timeout: float | None = None) -> None:
        """Say goodbye, and have the rest happen in the background. Idempotent.

        See :meth:`~peernet.channel.channel.PeerChannel.close` for the arguments.
        """
        if self._lifecycle.state in (ChannelState.CLOSING, ChannelState.CLOSED):
            return
        goodbye = disconnect_packet(reason, message, retry_after)
        if self._lifecycle.state is ChannelState.RECONNECTING:
            self.end(reason, message)
            return
        self.acknowledge()
        self._lifecycle.begin_closing(reason, message)
        link = self._attachment.link
        if link.connection.state is ConnectionState.OPEN:
            link.put_control(goodbye)
        deadline = Deadline(self._owner.config.close_timeout if timeout is None else timeout)
        self.spawn(self._finish, link, deadline)

    def hear_goodbye(self, goodbye: pb.DisconnectPacket) -> bool:
        """The peer has said goodbye. Returns whether to the channel, and not only to this connection."""
        reason = Reason.from_number(goodbye.reason)
        if keeps_session(reason) and self._session is not None:
            self.lose(self._attachment.link, reason, reason.sentence)
            return False
        self._lifecycle.hear_goodbye(
            reason, printable(goodbye.message), goodbye.retry_after_ms / 1000, do_not_redial=goodbye.do_not_redial
        )
        return True

    def end(self, reason: Reason, text: str = "") -> None:
        """End at once, without a goodbye: there is nobody to hear it, or it is said already."""
        self._lifecycle.note_end(reason, text or reason.sentence)
        self._attachment.link.abort()  # first: listeners may take their time, or be interrupted
        if not self._attachment.released:
            self.spawn(self._reap)
        self.conclude()

    def expire(self) -> None:
        """End, because the session has waited long enough for another connection."""
        if self._lifecycle.state is ChannelState.RECONNECTING:
            self._owner.counters[Reason.EXPIRED] += 1
            self.end(Reason.EXPIRED)

    def wait_until_ended(self, reason: Reason, timeout: float | None) -> None:
        """Wait for the end of what :meth:`begin` has begun."""
        timeout = self._owner.config.close_timeout if timeout is None else timeout
        closed = self._lifecycle.closed
        if self._lifecycle.ended_by_peer and not closed.wait(timeout):
            self.end(reason)  # the callback for its goodbye does not return
        closed.wait(None)  # else somebody sees to it: _finish

    def conclude(self) -> None:
        """The channel has ended: tell everybody who waits for something. Idempotent.

        In a forked child it has not: it goes on in the parent, and nobody hears of the end of its copy.
        """
        if self._lifecycle.state is ChannelState.CLOSED or self._ownership.home.forked:
            return
        self._lifecycle.end()
        self._give_up_waiting()
        if self._session is not None:
            self._session.end()
        self._sender.book.close(self._lifecycle.reason or Reason.CONNECTION_LOST)
        if self._ownership.has_tasks:
            self.spawn(self._ownership.kill_tasks, self._owner.config.close_timeout)
        self._reporter.closed()

    def release(self) -> None:
        """Free everything. Only the channel's own greenlet calls this, or nobody runs it."""
        self._attachment.release()
        self.conclude()

    # Small things.

    def acknowledge(self) -> None:
        """Tell the peer what has been handled, while that is possible."""
        if self._acknowledger is not None:
            self._acknowledger.acknowledge()

    def spawn(self, function: Callable[..., None], *args: Any) -> None:
        """Do something about the end in a greenlet of the network's."""
        name = f"channel {self._lifecycle.peer.identifier[:8]} ending"
        self._owner.greenlets.add(spawn(name, function, *args))

    def _finish(self, link: Link, deadline: Deadline) -> None:
        link.finish(deadline, self._lifecycle.closed)
        self.conclude()  # a callback that hangs keeps nobody else waiting
        self._reap()

    def _reap(self) -> None:
        """Have the link freed, even if a callback never returns."""
        if not self._attachment.wait_released(self._owner.config.close_timeout) and self._ownership.runs:
            logger.warning(
                "a callback of %s still runs, long after the channel has ended; it is killed", self._lifecycle.label
            )
            self._ownership.kill()

    def _give_up_waiting(self) -> None:
        """No answer comes by this connection, and whoever waits for room looks again."""
        self._pings.give_up()
        self._sender.changed()
