"""Real links and channels over memory, with a far end that is played by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent.event import Event as Flag
from google.protobuf.message import Message

from peernet.channel.acknowledger import AcknowledgeTimer
from peernet.channel.assembly import Assembly
from peernet.channel.channel import PeerChannel
from peernet.channel.handlers import PacketHandleProtocol
from peernet.channel.link import Link
from peernet.channel.receipts import Receipt
from peernet.channel.state import ChannelState
from peernet.config import KIB, MIB, NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.events import Event
from peernet.runtime.threads import CallbackThreads, HomeThread
from peernet.transport.memory import MemoryTransport, memory_pair
from peernet.trust.policy import Decision, IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection
from peernet.wire.framing import FrameDecoder, encode_varint
from peernet.wire.packets import KINDS, decode, encode_frame
from peernet.wire.session import Session
from tests.support import scaled, wait_until
from tests.unit.sample_peers import peer_at

OURS, THEIRS = 11, 22  # the numbers of the two sides of a session
# A frame with a body that only newer peers know: field 100.
FROM_THE_FUTURE = encode_varint(4) + b"\xa2\x06\x01x"


def open_connection(config: NetworkConfig | None = None) -> Connection:
    """A connection on which both hellos are exchanged."""
    config = config or NetworkConfig()
    made = Connection(
        max_handshake_frame=4 * KIB, max_frame=config.max_frame, max_control_packet=config.max_control_packet
    )
    made.sent(KINDS["hello"])
    made.received(KINDS["hello"], 1)
    return made


def begun_session(*, max_packets: int = 100, max_bytes: int = MIB) -> Session:
    """A session on its first connection."""
    made: Session = Session(OURS, max_packets=max_packets, max_bytes=max_bytes)
    made.begin(THEIRS)
    return made


def text(message: str = "hello", **envelope: int) -> bytes:
    """The frame of a text message."""
    return frame(pb.PureMessagePacket(message=message), **envelope)


def frame(body: Message, **envelope: Any) -> bytes:
    """The frame of any packet."""
    return encode_frame(body, pb.Packet(**envelope).SerializeToString())


class FarEnd:
    """The other end of a transport: sends bytes, and keeps all packets that arrive."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.packets: list[pb.Packet] = []
        self._decoder = FrameDecoder(2 * MIB)

    def send(self, *frames: bytes) -> None:
        """Send frames; as many as the pipe holds."""
        data = b"".join(frames)
        assert self.transport.send(data) == len(data)

    def stream(self, data: bytes) -> None:
        """Send more than the pipe holds, as it is read."""
        deadline = Deadline(scaled(5))
        while data and not deadline.expired:
            data = data[self.transport.send(data) :]
            gevent.sleep(0)
        assert not data

    def hear(self) -> list[pb.Packet]:
        """All packets that have arrived so far."""
        while self.transport.unread():
            buffer = self._decoder.get_buffer()
            if buffer is None:
                self._decoder.receive_data(self.transport.recv())
            else:
                self._decoder.buffer_updated(self.transport.recv_into(buffer))
            self.packets += [decode(one) for one in self._decoder.frames()]
        return self.packets

    def kinds(self) -> list[str]:
        """Of what kinds those are."""
        return [str(packet.WhichOneof("body")) for packet in self.hear()]

    def wait_for(self, kind: str, count: int = 1) -> list[pb.Packet]:
        """The packets of a kind, as soon as there are so many."""
        wait_until(lambda: self.kinds().count(kind) >= count, what=f"{count} packets of kind {kind}")
        return [packet for packet in self.packets if packet.HasField(kind)]  # type: ignore[arg-type]


class Owner:
    """As much of a network as a channel needs. It remembers what it is told."""

    def __init__(self, config: NetworkConfig, policy: IncomingPeerTrustPolicy | None = None) -> None:
        self.config = config
        self.policy = policy or IncomingPeerTrustPolicy()
        self.handlers = PacketHandleProtocol()
        self.counters: Counter[str] = Counter()
        self.home = HomeThread()
        self.home.claim()
        self.packet_received: Event[[PeerChannel, pb.Packet]] = Event("packet_received", home=self.home)
        self.acknowledge_timer = AcknowledgeTimer(config.acknowledge_after)
        self.threads = CallbackThreads(config.callback_threads)
        self.greenlets = self.home.greenlets
        self.has_memory = True
        self.told: list[tuple[Any, ...]] = []
        self.hooks: dict[str, Callable[[PeerChannel], object]] = {}

    def events(self) -> list[str]:
        """What has happened to the channel, in order."""
        return [what for what, *_ in self.told]

    def may_hold(self, size: int, contents: Sequence[bytes]) -> bool:
        return self.has_memory

    def on_refused(self, channel: PeerChannel, kind: str, decision: Decision) -> None:
        self._note("refused", channel, kind, decision)

    def on_handler_failing(self, channel: PeerChannel, kind: str, error: BaseException) -> None:
        self._note("failing", channel, kind, error)

    def on_trust_changed(self, channel: PeerChannel) -> None:
        self._note("trust changed", channel)

    def on_reconnecting(self, channel: PeerChannel) -> None:
        self._note("reconnecting", channel)

    def on_closed(self, channel: PeerChannel) -> None:
        self._note("closed", channel)

    def _note(self, what: str, channel: PeerChannel, *more: object) -> None:
        self.told.append((what, *more))
        if what in self.hooks:
            self.hooks[what](channel)


class Setup:
    """An open channel that reads, and the far end of its connection.

    ``parts`` are those of the channel; ``near`` is this end of the present connection.

    Args:
        session: whether the two sides keep one.
        max_frame: what the far end says that it takes; 0 says nothing.
        capabilities: what the far end says that it has, on each connection.
        policy: the default one, if not given.
        opened: whether the channel is open; else it is pending, and nobody reads.
        run: whether to begin to read.
        limits: of the channel's network.
    """

    def __init__(
        self,
        *,
        session: bool = True,
        max_frame: int = 0,
        capabilities: Sequence[str] = (),
        policy: IncomingPeerTrustPolicy | None = None,
        opened: bool = True,
        run: bool = True,
        **limits: Any,
    ) -> None:
        limits.setdefault("close_timeout", 0.2)
        self.config = NetworkConfig(**limits)
        self.owner = Owner(self.config, policy)
        self.heard: list[str] = []  # by the callback for texts
        self.owner.handlers["pure_message"] = lambda channel, packet: self.heard.append(packet.pure_message.message)
        self.far_ends: list[FarEnd] = []
        self.capabilities = capabilities
        result = self._connect(
            pb.HelloPacket(session_id=OURS if session else 0),
            pb.HelloPacket(session_id=THEIRS if session else 0, max_frame=max_frame, capabilities=capabilities),
        )
        self.parts = Assembly(self.owner, result, dialled=True)
        self.channel, self.control = self.parts.channel, self.parts.control
        self.running: gevent.Greenlet[..., Any] | None = None
        if opened:
            self.control.open()
        if opened and run:
            self.run()

    def run(self) -> None:
        """Begin to read."""
        assert self.running is None
        self.running = self.control.start()
        gevent.sleep(0)

    def _connect(self, ours: pb.HelloPacket, theirs: pb.HelloPacket) -> HandshakeResult:
        """Another connection with the far end, through its handshake."""
        self.near, far = memory_pair()
        self.far = FarEnd(far)
        self.far_ends.append(self.far)
        return HandshakeResult(peer_at(), self.near, open_connection(self.config), theirs, ours)

    @property
    def link(self) -> Link:
        """The channel's present one."""
        return self.parts.attachment.link

    @property
    def session(self) -> Session:
        """The channel's session."""
        assert self.channel.session is not None
        return self.channel.session

    def hello(self) -> pb.HelloPacket:
        """What this side says on another connection."""
        made = pb.HelloPacket()
        self.session.introduce(made)
        return made

    def reconnect(
        self, *, received: int = 0, acknowledged: int = 0, ours: pb.HelloPacket | None = None, max_frame: int = 0
    ) -> bool:
        """Hand the channel another connection, on which the far end says that it has received so much."""
        theirs = pb.HelloPacket(
            session_id=THEIRS,
            peer_session_id=OURS,
            last_sequence_received=received,
            last_acknowledgement_received=acknowledged,
            max_frame=max_frame,
            capabilities=self.capabilities,
        )
        return self.control.attach(self._connect(ours or self.hello(), theirs))

    def send(self, message: str = "from this side") -> Receipt:
        """Send a text."""
        return self.channel.send(pb.PureMessagePacket(message=message))

    def lose(self) -> None:
        """Cut the connection, and wait until the channel has noticed."""
        self.far.transport.close()
        wait_until(lambda: self.channel.state is not ChannelState.OPEN)

    def lose_unread(self) -> None:
        """Lose the connection, while nobody may be reading from it."""
        self.control.detach("lost")

    def is_served(self) -> bool:
        """Whether the channel goes on."""
        self.far.send(text("still there?"))
        wait_until(lambda: self.heard[-1:] == ["still there?"])
        return self.channel.state is ChannelState.OPEN

    def goodbye(self) -> pb.DisconnectPacket:
        """What the far end is told when the channel ends."""
        return self.far.wait_for("disconnect")[0].disconnect

    def ends(self) -> bool:
        """Wait until the channel's own greenlet has ended. Returns whether it has."""
        assert self.running is not None
        self.running.join(timeout=scaled(5))
        return bool(self.running.dead)

    def kill(self) -> None:
        """Kill the channel's own greenlet."""
        assert self.running is not None
        self.running.kill()

    def refused(self) -> list[tuple[int, int]]:
        """The refusals that have arrived at the far end."""
        return [
            (one.sequence, one.reason)
            for packet in self.far.wait_for("acknowledge")
            for one in packet.acknowledge.refusals
        ]

    def acknowledged(self) -> int:
        """The highest number that was acknowledged to the far end."""
        return max((packet.acknowledged for packet in self.far.hear()), default=0)

    def end(self) -> None:
        """Leave nothing behind."""
        self.control.end(Reason.CLOSED)
        for far in self.far_ends:
            far.transport.close()
        if self.running is None:
            self.control.release()
        else:
            self.running.join(timeout=scaled(5))
        self.owner.greenlets.join(timeout=scaled(5))
        self.owner.threads.stop()


class Busy:
    """A callback for texts that waits until the test lets it go on, and then does something more."""

    def __init__(self, setup: Setup, then: Callable[[PeerChannel], object] = lambda channel: None) -> None:
        self._setup = setup
        self._then = then
        self._busy, self._go_on = Flag(), Flag()
        setup.owner.handlers["pure_message"] = self

    def __call__(self, channel: PeerChannel, packet: pb.Packet) -> None:
        self._setup.heard.append(packet.pure_message.message)
        self._busy.set()
        self._go_on.wait()
        self._then(channel)

    def begin(self, *frames: bytes) -> None:
        """Have the channel call it."""
        self._setup.far.send(*frames or [text("one")])
        assert self._busy.wait(scaled(5))

    def go_on(self) -> None:
        self._go_on.set()


class Linked:
    """A link that nobody reads, and its far end."""

    def __init__(self, **limits: Any) -> None:
        self.config = NetworkConfig(**limits)
        near, far = memory_pair()
        self.near = near
        self.far = FarEnd(far)
        self.link = Link(near, open_connection(self.config), self.config)

    def hear(self) -> list[pb.Packet]:
        """All packets that have left by now."""
        self.link.outbox.flush()
        return self.far.hear()

    def end(self) -> None:
        """Leave nothing behind."""
        self.link.abort()
        self.link.release()
        self.far.transport.close()


Setups = Callable[..., Setup]
