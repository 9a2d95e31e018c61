"""What docs/protocol.rst shows is what the code does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, ConnectionState, max_frame_of
from peernet.wire.framing import FrameDecoder
from peernet.wire.packets import KINDS, WITHDRAWN_FRAME, decode, encode_frame, peek
from peernet.wire.session import Session, resumes

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.rst").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("A worked connection\n---") :].partition("\nCompatibility\n")[0]
BYTES = re.compile(r" {5,}((?:[0-9a-f]{2} )*[0-9a-f]{2}) {2,}(\S.*)")


@dataclass
class Shown:
    """One packet of the worked connection: who sends it, and what the page says about its bytes."""

    sender: str
    kind: str
    data: bytes = b""
    notes: list[str] = field(default_factory=list)


def shown_packets() -> list[Shown]:
    packets: list[Shown] = []
    for line in SECTION.splitlines():
        if heading := re.fullmatch(r"   (alice|bob) sends (\w+)", line):
            packets.append(Shown(heading[1], heading[2]))
        elif match := BYTES.fullmatch(line):
            packets[-1].data += bytes.fromhex(match[1])
            packets[-1].notes.append(match[2])
        else:
            assert not line.startswith("     "), f"a line of the dump that nobody reads: {line}"
    return packets


SHOWN = shown_packets()


def content_of(shown: Shown) -> bytes:
    decoder = FrameDecoder(4096)
    decoder.receive_data(shown.data)
    (content,) = decoder.frames()
    assert not decoder.buffered
    return bytes(content)


def notes_on(message: Message) -> list[str]:
    """What the page should say about the fields of a message, in their order."""
    notes = []
    for described, value in message.ListFields():
        for one in value if described.is_repeated else [value]:
            if described.type == FieldDescriptor.TYPE_MESSAGE:
                notes += [f"{described.name}: field {described.number}, {one.ByteSize()} bytes", *notes_on(one)]
            else:
                notes.append(f"{described.name} = {written(described, one)}")
    return notes


def written(described: FieldDescriptor, value: object) -> str:
    if described.enum_type is not None:
        return described.enum_type.values_by_number[value].name.partition("REASON_")[2]  # type: ignore[index]
    if isinstance(value, bytes):
        return value.hex(" ")
    if described.type == FieldDescriptor.TYPE_FIXED64:
        return f"0x{value:016x}"
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize("shown", SHOWN, ids=[f"{number} {one.kind}" for number, one in enumerate(SHOWN, 1)])
def test_the_bytes_of_the_worked_connection_are_what_is_written_beside_them(shown: Shown) -> None:
    content = content_of(shown)
    packet = decode(content)
    assert peek(content).name == shown.kind
    assert packet.SerializeToString(deterministic=True) == content
    assert shown.notes == [f"length: {len(content)} bytes follow", *notes_on(packet)]


def test_the_worked_connection_shows_what_a_session_needs() -> None:
    assert {shown.kind for shown in SHOWN} >= {"hello", "pure_message", "acknowledge", "heartbeat", "disconnect"}
    assert [shown.data for shown in SHOWN if shown.kind == "withdrawn"] == [WITHDRAWN_FRAME]


class Side:
    """One of the two, who keeps to the protocol."""

    def __init__(self) -> None:
        self.session: Session | None = None

    def connect(self) -> None:
        self.connection = Connection(max_handshake_frame=4096, max_frame=65536, max_control_packet=65536)
        self.hellos: list[pb.HelloPacket] = []

    def greet(self, *hellos: pb.HelloPacket) -> list[bytes]:
        """Both hellos are there, ours first. Returns what is to be sent again."""
        ours, theirs = hellos
        max_frame_of(theirs)
        if self.session is None:
            self.session = Session(ours.session_id, max_packets=100, max_bytes=100_000)
            self.session.begin(theirs.session_id)
            return []
        assert resumes(ours, theirs)
        assert self.session.remembers(theirs)
        self.session.detach()
        expected = pb.HelloPacket()
        self.session.introduce(expected)
        assert ours.last_sequence_received == expected.last_sequence_received
        assert ours.last_acknowledgement_received == expected.last_acknowledgement_received
        return [header + content for header, content in self.session.resume(ours, theirs)]


def test_the_worked_connection_is_one_that_both_sides_would_have() -> None:
    sides = {"alice": Side(), "bob": Side()}
    lost = encode_frame(pb.PureMessagePacket(message="x" * 5000))
    again: dict[str, list[bytes]] = {}
    hellos: dict[str, pb.HelloPacket] = {}
    for shown in SHOWN:
        sender, receiver = sides[shown.sender], sides["bob" if shown.sender == "alice" else "alice"]
        content = content_of(shown)
        packet, kind = decode(content), KINDS[shown.kind]
        if shown.kind == "hello" and shown.sender == "alice":
            if sender.session is not None:
                sender.session.keep(lost)  # the packet that goes down with the first connection
            for side in sides.values():
                side.connect()
        sender.connection.sent(kind)
        receiver.connection.received(kind, len(content))
        if shown.kind == "hello":
            hellos[shown.sender] = packet.hello
            if shown.sender == "bob":
                again["alice"] = sides["alice"].greet(hellos["alice"], hellos["bob"])
                again["bob"] = sides["bob"].greet(hellos["bob"], hellos["alice"])
            continue
        assert sender.session is not None
        assert receiver.session is not None
        receiver.session.release(packet.acknowledged)
        assert packet.acknowledged in (0, sender.session.handled)
        if kind.numbered:
            if shown.kind != "withdrawn":
                sender.session.keep(shown.data)
            assert receiver.session.receive()
            receiver.session.handled = receiver.session.received
    assert again == {"alice": [WITHDRAWN_FRAME], "bob": []}
    assert [side.connection.state for side in sides.values()] == [ConnectionState.LEAVING, ConnectionState.LEFT]
    for side in sides.values():
        assert side.session is not None
        assert not side.session.kept


def test_the_page_lists_every_kind_with_its_number() -> None:
    missing = [kind.name for kind in KINDS.values() if f"   * - ``{kind.name}``\n     - {kind.field}\n" not in PAGE]
    assert missing == []


def test_the_page_lists_every_refusal_with_its_number() -> None:
    names = {number: name.removeprefix("REFUSAL_REASON_") for name, number in pb.RefusalReason.items()}
    missing = [name for number, name in names.items() if f"   * - {number}\n     - ``{name}``\n" not in PAGE]
    assert missing == []
    assert Reason.HANDLER_FAILED.name in names.values()


@pytest.mark.parametrize("table", ["disconnect-outcomes", "timeouts"])
def test_the_page_shows_the_tables_of_the_code(table: str) -> None:
    assert f"\n.. {table}::\n" in PAGE
