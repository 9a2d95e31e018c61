"""A whole exchange: bytes, frames, kinds, the state of the connection, packets, and a session over several connections.

Plays the listening side, without sockets, in the order in which a channel asks its parts.
Whatever comes, in whatever pieces, is handled or blamed on the peer, the same each time.

Input: a byte of choices, then connections of frames, with ``CUT`` between them.
"""

from __future__ import annotations

from collections.abc import Iterable

from peernet.channel.receipts import Receipt
from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, ConnectionState
from peernet.wire.framing import FrameDecoder
from peernet.wire.packets import KINDS, UNKNOWN, Kind, decode, encode_frame, peek, peek_numbers
from peernet.wire.session import Session, SessionState, resumes
from tests.fuzz.conversations import OWN_SESSION
from tests.fuzz.fates import Fates, make_book, small_pages, state_of, write
from tests.fuzz.feeding import blamed, cut, pour, small_buffers
from tests.fuzz.mutation import CUT

PERMITTED = frozenset({"pure_message", "data_transmission"})
GOODBYE_AFTER = 5  # packets, if we are the one who leaves
ACKNOWLEDGE_AFTER = 3  # packets
OURS = [encode_frame(pb.PureMessagePacket(message="we say" + " more" * number)) for number in range(3)]

Event = tuple[object, ...]


def fuzz(data: bytes) -> None:
    if not data:
        return
    choice, connections = data[0], data[1:].split(CUT)
    leaves = bool(choice & 0x80)
    with small_pages():
        whole = Side(leaves=leaves).hear_all([[connection] for connection in connections])
    with small_buffers(), small_pages():
        pieces = Side(leaves=leaves).hear_all([cut(connection, choice) for connection in connections])
    assert whole == pieces, "the pieces in which bytes arrive make a difference"


class Side:
    """The listening side of an exchange; what it does is written to ``events``."""

    def __init__(self, *, leaves: bool) -> None:
        self.leaves = leaves
        self.session: Session | None = None
        self.book = make_book()
        self.fates = Fates()
        self.receipts: list[Receipt] = []
        self.events: list[Event] = []
        self.hello = pb.HelloPacket()

    def hear_all(self, connections: Iterable[Iterable[bytes]]) -> list[Event]:
        """One connection after the other, each in its pieces."""
        for pieces in connections:
            connection = Connection(max_handshake_frame=4096, max_frame=2**20, max_control_packet=2**16)
            self.events.append(("connected",))
            try:
                self.hear(connection, pieces)
            except RemoteProtocolError as error:
                self.events.append(("blamed", blamed(error)))
            except Over:
                pass
            if self.session is not None and self.session.state is SessionState.ATTACHED:
                self.session.detach()
            self.check_receipts()
        self.book.close(Reason.EXPIRED)
        self.fates.close(Reason.EXPIRED)
        self.check_receipts()
        return self.events

    def check_receipts(self) -> None:
        assert [state_of(receipt) for receipt in self.receipts] == self.fates.states[1:], "a verdict is wrong"

    def hear(self, connection: Connection, pieces: Iterable[bytes]) -> None:
        heard = 0
        for _ in pour(connection.decoder, pieces):
            for frame in connection.decoder.frames():
                kind = peek(frame)
                connection.received(kind, len(frame))
                self.take(connection, kind, frame)
                heard += 1
                if self.leaves and heard == GOODBYE_AFTER:
                    self.leave(connection)

    def take(self, connection: Connection, kind: Kind, frame: bytes | bytearray) -> None:
        """One packet, in the state that it has led to."""
        state = connection.state
        if kind.name == "hello":
            self.greet(connection, decode(frame).hello)
        elif state in (ConnectionState.LEFT, ConnectionState.CLOSED):
            self.events.append(("goodbye", decode(frame).disconnect.reason))
            raise Over
        elif state is ConnectionState.LEAVING:
            if kind.name == "acknowledge":
                self.take_acknowledgement(decode(frame))
        elif not kind.numbered:
            self.take_acknowledgement(decode(frame))
            self.events.append((kind.name,))
        else:
            self.receive(kind, frame)

    def greet(self, connection: Connection, theirs: pb.HelloPacket) -> None:
        ours = pb.HelloPacket(session_id=OWN_SESSION)
        session = self.session
        if session is not None and session.remembers(theirs):
            session.introduce(ours)
        connection.sent(KINDS["hello"])
        assert reads(encode_frame(ours)) == ours
        if session is not None and resumes(ours, theirs):
            again = session.resume(ours, theirs)
            assert [header + content for header, content in again] == OURS[theirs.last_sequence_received :]
            self.events.append(("resumed", len(again)))
        elif theirs.session_id:
            self.begin(theirs.session_id)
            self.events.append(("began", theirs.session_id))

    def begin(self, session_id: int) -> None:
        """A new session, in which we have something to say at once."""
        if self.session is not None:
            self.session.end()
            self.book.close(Reason.EXPIRED)
            self.fates.close(Reason.EXPIRED)
            self.check_receipts()
        self.session = Session(OWN_SESSION, max_packets=8, max_bytes=1000)
        self.session.begin(session_id)
        self.book, self.fates, self.receipts = make_book(), Fates(), []
        for frame in OURS:
            self.receipts.append(write(self.book, self.session.keep(frame)))
            self.fates.accept()

    def receive(self, kind: Kind, frame: bytes | bytearray) -> None:
        """A numbered packet through the gates."""
        session = self.session
        if session is not None and not session.receive():
            self.events.append(("again",))
            return
        refusal = None
        if kind.name in PERMITTED:
            packet = decode(frame)
            assert packet.WhichOneof("body") == kind.name
            self.numbers(packet.sequence, packet.acknowledged)
        else:
            if not kind.control:
                refusal = Reason.UNHANDLED if kind is UNKNOWN else Reason.NOT_PERMITTED
            self.numbers(*peek_numbers(frame)[:2])
        self.events.append((kind.name, refusal))
        if session is not None:
            if refusal is not None:
                session.refuse(refusal)
            session.handled = session.received
            if session.handled - session.told >= ACKNOWLEDGE_AFTER:
                self.events.append(("acknowledged", *session.acknowledge()))

    def numbers(self, sequence: int, acknowledged: int) -> None:
        if self.session is not None:
            if acknowledged:
                self.settle(self.session, acknowledged)
            if sequence:
                self.session.check(sequence)

    def take_acknowledgement(self, packet: pb.Packet) -> None:
        session = self.session
        if session is not None:
            for one in packet.acknowledge.refusals:
                if one.sequence <= session.sent:
                    reason = Reason.from_refusal_number(one.reason)
                    self.book.refuse(one.sequence, reason)
                    self.fates.refuse(one.sequence, reason)
            self.settle(session, packet.acknowledged)

    def settle(self, session: Session, acknowledged: int) -> None:
        session.release(acknowledged)
        self.book.settle(acknowledged)
        self.fates.settle(acknowledged)
        self.events.append(("settled", session.acknowledged, *map(state_of, self.receipts)))
        assert session.acknowledged <= session.sent

    def leave(self, connection: Connection) -> None:
        if connection.state is ConnectionState.OPEN:
            connection.sent(KINDS["disconnect"])
            self.events.append(("leaving",))


class Over(Exception):
    """The peer has said goodbye."""


def reads(frame: bytes) -> pb.HelloPacket:
    """The hello in a frame."""
    decoder = FrameDecoder(4096)
    decoder.receive_data(frame)
    (content,) = decoder.frames()
    return decode(content).hello
