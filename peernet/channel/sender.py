"""Sender: from a message to bytes in the outbox, a copy that is kept until it is acknowledged, and a receipt."""

from __future__ import annotations

import gevent
from gevent.event import Event as Flag

from peernet.channel.lifecycle import Lifecycle
from peernet.channel.outbox import LARGE, Outbox
from peernet.channel.ownership import Ownership
from peernet.channel.receipts import WITHIN_PAGE, Receipt, ReceiptBook
from peernet.channel.reporter import ChannelOwner
from peernet.channel.state import SENDABLE
from peernet.errors import LocalProtocolError, OutboxFullError, PacketTooBigError, SendTimeout
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import get_ident
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import DEFAULT_MAX_FRAME, max_frame_of
from peernet.wire.framing import encode_varint
from peernet.wire.packets import ASKS, WITHDRAWN_FRAME, Encoded, Kind, encode_body, encode_header
from peernet.wire.session import Session

# Who waits for acknowledgements is woken when half of what may be kept is acknowledged, and
# looks himself for less after this time: a peer may stop in between. Seconds.
LOOK_AGAIN = 0.1
# Whoever holds this much more than when last looked at asks for leave, so that a burst on many channels at once
# is noticed in time. So much may each hold unasked. Bytes.
STEP = 64 * 1024
# What a packet costs beside its own bytes.
PER_PACKET = 100
# The tag of Packet.acknowledged, and the most bytes that it takes with its value.
_ACKNOWLEDGED = b"\x10"
_LONGEST = 11
_QUESTION = encode_body(pb.AcknowledgePacket())


class Sender:
    """The sending half of a channel.

    Args:
        owner: the network, whose limits these are, and which is asked for memory.
        lifecycle: where the channel stands.
        ownership: who may send, and who may wait.
        session: the channel's, if it has one.
        outbox: that of the channel's first link.

    Attributes:
        outbox: that of the present link.
        book: the receipts.
        max_frame: bytes of the largest frame that the peer takes.
    """

    __slots__ = (
        "_asking",
        "_changed",
        "_home",
        "_lifecycle",
        "_owner",
        "_ownership",
        "_session",
        "book",
        "max_frame",
        "outbox",
    )

    def __init__(
        self, owner: ChannelOwner, lifecycle: Lifecycle, ownership: Ownership, session: Session | None, outbox: Outbox
    ) -> None:
        self._owner = owner
        self._lifecycle = lifecycle
        self._ownership = ownership
        self._session = session
        self._home = ownership.home
        self._changed: Flag | None = None  # set when there is room again, or the channel stands elsewhere
        self._asking = False  # the hub is going to put the question
        self.book = ReceiptBook(
            ownership.check_not_own_greenlet,
            Reason.NO_SESSION if session is None else None,
            ownership.home,
            self.wait_for,
        )
        self.outbox = outbox
        self.max_frame = DEFAULT_MAX_FRAME
        self.ration(more=True)

    def take_hello(self, hello: pb.HelloPacket) -> None:
        """Keep to what the peer says that it takes."""
        self.max_frame = max_frame_of(hello)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that packets take up until they are acknowledged, or without a session written."""
        outbox, session = self.outbox, self._session
        if session is None:
            return outbox.bytes + PER_PACKET * outbox.packets
        # What waits in the outbox is kept by the session too, the same objects, but for what is joined.
        return max(session.kept_bytes + PER_PACKET * len(session.kept), outbox.bytes) + outbox.copied

    @property
    def held_contents(self) -> list[bytes]:
        """What of that other channels may hold as well, the oldest first."""
        return self.outbox.contents if self._session is None else self._session.contents

    def ration(self, *, more: bool) -> None:
        """Have senders ask for leave soon; with ``more`` they need not for the next :data:`STEP`."""
        pool, kept = self._pool()
        if more or kept + STEP < pool.allowed_bytes:
            pool.allow(kept + STEP)
        if not more and self._session is not None:
            self._ask(self._session)

    def send(self, encoded: Encoded, timeout: float | None) -> Receipt:
        """Accept a packet; see :meth:`~peernet.channel.channel.PeerChannel.send`."""
        if get_ident() != self._home.thread:
            self._ownership.check_thread()
        lifecycle = self._lifecycle
        kind, prefix, content = encoded
        size = len(prefix) + len(content)
        if not lifecycle.attached or not kind.bulk or size > self.max_frame:
            self._check(kind, size)
        session = self._session
        if session is None:
            return self._send_unnumbered(encoded, size, timeout)
        envelope = b""
        if session.pressing:
            envelope = self._prepare(session, kind, size, timeout)
        if session.handled >= session.tell_at and lifecycle.attached and size + _LONGEST <= self._limit(kind):
            envelope = _take_acknowledgement(session) + envelope
        header = encode_header(encoded, envelope)
        if size <= LARGE:
            frame = header + content
            number = session.keep(frame)
            if lifecycle.attached:
                self.outbox.put_frame(frame)
        else:
            number = session.keep_large(header, content)
            if lifecycle.attached:
                self.outbox.put(header, content)
        receipt = Receipt()
        receipt.page = self.book.page if number & WITHIN_PAGE else self.book.turn(number)
        receipt.sequence = number
        return receipt

    def _send_unnumbered(self, encoded: Encoded, size: int, timeout: float | None) -> Receipt:
        if self.outbox.needs_leave:
            self._make_room(size, timeout)
        self.outbox.put(encode_header(encoded), encoded[2])
        receipt = Receipt()
        receipt.page, receipt.sequence = self.book.page, 0
        return receipt

    def send_again(self, outbox: Outbox, frames: list[tuple[bytes, bytes]]) -> None:
        """Go on over another link, on which what the peer has not received leaves first.

        What it does not accept any more has failed: an empty packet leaves in its place, whatever becomes of that.
        """
        self.outbox = outbox
        first = 0 if self._session is None else self._session.sent - len(frames) + 1
        for number, (header, content) in enumerate(frames, first):
            if header is WITHDRAWN_FRAME:
                self.book.refuse(number, Reason.TOO_BIG)
            outbox.put(header, content)
        self._put_question()  # what was asked on the link before may be lost with it

    def wait_for(self, sequence: int) -> None:
        """Somebody waits for the acknowledgement of a packet: have the peer send it at once, if it can be asked."""
        session = self._session
        if session is not None:
            session.note_waiting(sequence)
            self._ask(session, sequence)

    def _ask(self, session: Session, sequence: int | None = None) -> None:
        """Ask for all that is sent, unless the peer was asked for it, or for that number, already.

        The question leaves when the hub has its turn, behind all that is sent until then, so that there is one for
        all who wait.
        """
        if session.ask(session.sent if sequence is None else sequence) and not self._asking:
            self._asking = True
            gevent.get_hub().loop.run_callback(self._put_question)

    def _put_question(self) -> None:
        self._asking = False
        session = self._session
        if session is not None and session.waits and self._lifecycle.attached:
            envelope = _take_acknowledgement(session) if session.owes else b""
            self.outbox.put(encode_header(_QUESTION, envelope + ASKS), b"")

    def settle(self, acknowledged: int) -> None:
        """The peer has acknowledged up to a number: whoever waits for room may go on if there is enough.

        Raises:
            RemoteProtocolError: that number was never given.
        """
        session = self._session
        if session is not None:
            session.release(acknowledged)
            self.book.settle(acknowledged)
            if self._changed is not None and session.half_empty:
                self._changed.set()

    def refuse(self, sequence: int, reason: Reason) -> None:
        """The peer says that a packet has reached no callback. A number that was never given means nothing."""
        if self._session is not None and sequence <= self._session.sent:
            self.book.refuse(sequence, reason)

    def changed(self) -> None:
        """The channel stands elsewhere: whoever waits for room looks again."""
        if self._changed is not None:
            self._changed.set()

    # Limits.

    def _check(self, kind: Kind, size: int) -> None:
        """
        Raises:
            ChannelClosedError, LocalProtocolError, PacketTooBigError: the packet cannot be accepted.
        """
        if self._lifecycle.state not in SENDABLE:
            raise self._lifecycle.closed_error()
        if kind.control:
            raise LocalProtocolError(f"channels send {kind.name} packets themselves; use close() to disconnect")
        limit = self._limit(kind)
        if size > limit:
            raise PacketTooBigError(
                f"a {kind.name} packet of {size} bytes; {self._lifecycle.peer.identifier[:8]} takes at most {limit}; "
                "send it in parts"
            )

    def _limit(self, kind: Kind) -> int:
        """How many bytes a packet of a kind may have."""
        return self.max_frame if kind.bulk else min(self.max_frame, self._owner.config.max_control_packet)

    def _has_room(self) -> bool:
        """Whether the next packet need not wait. What a session has in the outbox it keeps as well."""
        if not self._needs_leave():
            return True
        self._ask_for_leave()
        return not self._needs_leave()

    def _needs_leave(self) -> bool:
        if self._session is not None:
            return self._session.full
        return self.outbox.needs_leave and not self.outbox.broken

    def _ask_for_leave(self) -> None:
        """Hold more, if the network lets us."""
        pool, kept = self._pool()
        wanted = min(kept + STEP, pool.max_bytes)
        more = wanted - pool.allowed_bytes
        if more > 0 and self._owner.may_hold(more, self.held_contents[-1:]):
            pool.allow(wanted)

    def _pool(self) -> tuple[Session | Outbox, int]:
        """Where packets are held, and how many bytes of them."""
        session = self._session
        return (self.outbox, self.outbox.bytes) if session is None else (session, session.kept_bytes)

    def _holds_in_reserve(self, size: int) -> bool:
        """Whether a packet fits into the part that is kept for callbacks."""
        config, session = self._owner.config, self._session
        if session is None:
            return self.outbox.holds_in_reserve(size)
        return (
            len(session.kept) < session.max_packets + config.session_reserve_packets
            and session.kept_bytes + size <= session.max_bytes + config.session_reserve_bytes
        )

    def _prepare(self, session: Session, kind: Kind, size: int, timeout: float | None) -> bytes:
        """Have the peer acknowledge if much is kept, and wait if too much is. Returns what the packet asks."""
        if not session.half_empty:
            self._ask(session)
        if session.full:
            self._make_room(size, timeout)
        fits = size + _LONGEST + len(ASKS) <= self._limit(kind)
        return ASKS if fits and session.ask_with_next() else b""

    def _make_room(self, size: int, timeout: float | None) -> None:
        """Return when a packet may be accepted.

        Raises:
            SendTimeout, OutboxFullError, ChannelClosedError: it may not.
        """
        timeout = self._owner.config.send_timeout if timeout is None else timeout
        self.outbox.flush()
        self._check_unbroken()
        if self._has_room():
            return
        if self._ownership.in_own_greenlet():
            if self._holds_in_reserve(size):
                return
            raise OutboxFullError(
                "this callback has queued more than the outbox and its reserve hold; send large amounts "
                "from channel.spawn(...)"
            )
        if timeout <= 0 or isinstance(gevent.getcurrent(), gevent.hub.Hub):
            raise OutboxFullError(f"the outbox of {self._lifecycle.label} is full")
        self._wait_for_room(Deadline(timeout), timeout)

    def _wait_for_room(self, deadline: Deadline, timeout: float) -> None:
        while not self._has_room():
            if deadline.expired:
                raise SendTimeout(
                    f"{self._lifecycle.label} made no room in {timeout} s: the peer reads too slowly, or is away"
                )
            if self._session is None and self.outbox.full:
                self.outbox.wait_for_room(deadline.remaining)
            else:
                self._wait_for_change(deadline.cap(LOOK_AGAIN))
            if self._lifecycle.state not in SENDABLE:
                raise self._lifecycle.closed_error()
        self._check_unbroken()

    def _check_unbroken(self) -> None:
        """
        Raises:
            ChannelClosedError: the link is lost, and with it the channel, because there is no session.
        """
        if self._session is None and self.outbox.broken:
            raise self._lifecycle.closed_error()

    def _wait_for_change(self, timeout: float | None) -> None:
        if self._changed is None:
            self._changed = Flag()
        self._changed.clear()
        self._changed.wait(timeout)


def _take_acknowledgement(session: Session) -> bytes:
    """What to put into an envelope; nothing while there are refusals to tell first."""
    return b"" if session.refused else _ACKNOWLEDGED + encode_varint(session.take_acknowledgement())
