"""Link: one live connection under a channel. It reads fairly, writes through an outbox, and ends politely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.event import Event as Flag
from google.protobuf.message import Message

from peernet.channel.outbox import Outbox
from peernet.channel.throttle import Throttle
from peernet.config import NetworkConfig
from peernet.errors import TransportError
from peernet.runtime import clock
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import let_others_run
from peernet.transport.base import Transport
from peernet.wire.connection import Connection, ConnectionState
from peernet.wire.framing import FramePace
from peernet.wire.packets import encode_body, encode_header

# How long reading stands still for an outbox that is over its limit. Seconds.
PAUSE = 0.1
# After so many bytes others have their turn, also in the middle of a large frame. Bytes.
BYTES_PER_TURN = 256 * 1024
# A frame whose handling takes this much beyond a turn is worth a look. Seconds.
LONG = 0.25

Frame = bytes | bytearray


class Consumer(Protocol):
    """What a link tells whoever gets its frames, besides them."""

    def rest(self) -> None:
        """No frame is there for now."""

    def end_turn(self) -> None:
        """Others have their turn now."""

    def took_long(self, seconds: float) -> None:
        """The frame handled last has taken :data:`LONG` or more, and others could last run ``seconds`` ago."""


class Link:
    """A transport with its protocol state and its outbox.

    The greenlet that calls :meth:`read` owns the link: it alone reads, and it alone
    calls :meth:`release`, after its last read.

    Attributes:
        connection: which packets may travel now.
        outbox: what waits to be written.
        last_received: monotonic seconds when bytes last arrived.
        received_bytes: how many bytes have arrived.
        alive: whether it has not been aborted or released.
        broken: what the outbox met, if that is why.
        handling: whether nobody waits for bytes: frames are being handled, or :meth:`read` was not called yet.
        throttle: slows the reading down if the peer sends more than its share; ``None`` for trusted peers.
        crowding: whether the node holds too much and this channel more than its share, so that reading is slow.
    """

    __slots__ = (
        "_config",
        "_frame_pace",
        "_paced",
        "_transport",
        "_unread",
        "alive",
        "broken",
        "connection",
        "crowding",
        "handling",
        "last_received",
        "outbox",
        "received_bytes",
        "throttle",
    )

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        config: NetworkConfig,
        failed: Callable[[TransportError], None] | None = None,
    ) -> None:
        self._transport = transport
        self._config = config
        self._unread = 0  # when we last looked
        self._paced = 0  # bytes received before this turn
        self.connection = connection
        self.alive = True
        self.handling = True
        self.broken: TransportError | None = None
        self.throttle: Throttle | None = None
        self.crowding = False
        self._frame_pace = FramePace(config.frame_timeout)
        self.outbox = Outbox(transport, config, self._fail if failed is None else failed)
        self.last_received = clock.monotonic()
        self.received_bytes = 0

    def read(self, consumer: Consumer, handle: Callable[[Frame], bool]) -> bool:
        """Give each frame to ``handle`` until that returns ``False`` or the stream ends.

        Args:
            consumer: is told when turns end.
            handle: takes a frame.

        Returns:
            Whether the stream has ended.

        Raises:
            TransportError: the connection broke.
            RemoteProtocolError: a frame is too big, or what ``handle`` raises.
        """
        frames = self.connection.decoder.frames
        monotonic = clock.monotonic
        per_turn, seconds_per_turn = self._config.frames_per_turn, self._config.seconds_per_turn
        frames_left, turn_ends = per_turn, monotonic() + seconds_per_turn
        # Ends with the stream, or when whoever handles the frames has enough. Invariant: after each pass the decoder
        # holds less than one frame, so nothing that can be handled waits while this waits for more bytes.
        while True:
            self.handling = True
            for frame in frames():
                if not handle(frame):
                    return False
                frames_left -= 1
                if not frames_left or monotonic() >= turn_ends:
                    if monotonic() >= turn_ends + LONG:
                        consumer.took_long(monotonic() - turn_ends + seconds_per_turn)
                    consumer.end_turn()
                    self._rest(per_turn - frames_left)
                    frames_left, turn_ends = per_turn, monotonic() + seconds_per_turn
            consumer.rest()
            frame = b""  # whoever sends a large one and falls silent must not make us keep it
            self.outbox.flush()
            self.handling = False
            waits = self._transport.drained
            if not self._receive():
                return True
            if waits:  # others have had their turn while it waited
                self._pace(per_turn - frames_left)
                frames_left, turn_ends = per_turn, monotonic() + seconds_per_turn
            elif self.last_received >= turn_ends or self.received_bytes - self._paced >= BYTES_PER_TURN:
                consumer.end_turn()
                self._rest(per_turn - frames_left)
                frames_left, turn_ends = per_turn, monotonic() + seconds_per_turn

    def discard_until_end(self) -> None:
        """Read and drop what still comes, so that closing does not reset the goodbye away."""
        with gevent.Timeout(self._config.close_timeout, False):  # type: ignore[arg-type]  # ends in silence
            try:
                while self._transport.recv():
                    let_others_run()  # a peer that never stops sending must not keep the timeout from firing
            except TransportError:
                return  # it has ended, which is all we wait for

    def put_control(self, body: Message, envelope: bytes = b"") -> None:
        """Queue a packet that the protocol itself needs.

        Raises:
            LocalProtocolError: the state of the connection forbids it.
        """
        encoded = encode_body(body)
        self.connection.sent(encoded[0])
        self.outbox.put(encode_header(encoded, envelope), encoded[2])

    def finish(self, deadline: Deadline, ended: Flag) -> None:
        """Write what is queued, say that no more follows, and cut the link if it has not ``ended`` in time."""
        self.outbox.wait_until_empty(deadline.remaining)
        self._transport.finish_writing()
        ended.wait(deadline.remaining)
        self._transport.abort()

    @property
    def may_acknowledge(self) -> bool:
        """Whether an acknowledgement can still leave."""
        return self.alive and self.connection.state in (ConnectionState.OPEN, ConnectionState.LEFT)

    def say_no_more(self) -> None:
        """Write what can be written now, and say that no more follows."""
        self.outbox.flush()
        self._transport.finish_writing()

    def abort(self) -> None:
        """End the connection now, from any greenlet: the reader sees the end of the stream."""
        self.alive = False
        self._transport.abort()

    def release(self) -> None:
        """Free everything."""
        self.alive = False
        self.outbox.close()
        self._transport.close()

    @property
    def unread(self) -> int:
        """Bytes that have arrived and were not read."""
        return self._transport.unread()

    @property
    def drained(self) -> bool:
        """Whether all that has arrived seems to be read."""
        return self._transport.drained

    def look_for_news(self, now: float) -> None:
        """Take note of bytes that have come while nobody reads them: they are a sign of life as well."""
        if self.handling:
            unread = self._transport.unread()
            if unread > self._unread:
                self.last_received = now
            self._unread = unread

    @property
    def crowded(self) -> bool:
        """Whether the peer may be kept from sending by what is not read, so that its silence says nothing.

        If its machine dies meanwhile, or the way there, what we send finds no
        acknowledgement (TCP_USER_TIMEOUT); if its process dies, it is answered with a reset.
        """
        return self._transport.crowded()

    def forgive(self, seconds: float) -> None:
        """Do not count that many seconds in which this process itself was not able to read or write."""
        self.last_received += seconds
        self._frame_pace.forgive(seconds)
        self.outbox.last_progress += seconds

    def silent_for(self, stalled: float, now: float) -> bool:
        """Whether nothing was heard from the peer since its progress has stalled, so many seconds ago.

        One who reads slowly says that he lives; one who is gone, or cut off, does not.
        """
        return self.last_received < now - stalled + self._config.write_timeout / 4

    def behind(self, now: float) -> bool:
        """Whether bytes wait because a callback has been busy for some time."""
        late = now - self.last_received > self._config.write_timeout / 8
        return self.handling and late and self._transport.unread() > 0

    def dribbles(self, now: float) -> bool:
        """Whether the peer sends the frame that it has begun too slowly. To be asked regularly."""
        decoder = self.connection.decoder
        # While nobody reads, it is not the peer that is slow.
        under_way = decoder.generation if decoder.buffered and not self.handling else None
        return self._frame_pace.dribbles(under_way, self.received_bytes, now)

    def ended(self) -> bool:
        """Whether the other end has gone while nobody reads."""
        return self._transport.ended()

    def _fail(self, error: TransportError) -> None:
        self.broken = error
        self.abort()

    def _receive(self) -> int:
        """Read once into the decoder. Returns how many bytes; 0 at the end of the stream."""
        decoder = self.connection.decoder
        buffer = decoder.get_buffer()
        if buffer is None:
            data = self._transport.recv()
            decoder.receive_data(data)
            count = len(data)
        else:
            with buffer:
                count = self._transport.recv_into(buffer)
            decoder.buffer_updated(count)
        self.received_bytes += count
        self.last_received = clock.monotonic()
        return count

    def _pace(self, frames: int) -> None:
        """A turn is over in which so many frames were handled: wait if an untrusted peer has sent too much."""
        size, self._paced = self.received_bytes - self._paced, self.received_bytes
        if self.throttle is not None:
            self.throttle.pace(frames, size, lambda: self.alive)

    def _rest(self, frames: int) -> None:
        """Give everybody else a turn, and the outbox the time to drain if it is over its limit."""
        self.outbox.flush()
        self._pace(frames)
        if self.outbox.full:
            # Not until it has drained: two peers who each wait for the other to read
            # would wait for ever.
            self.outbox.wait_for_room(PAUSE)
        elif self.crowding:
            gevent.sleep(PAUSE)  # nor longer: acknowledgements, which free memory, are among what is not read
        let_others_run()
