"""Any frame is one of the kinds, a kind from the future, or ``bad_packet``: as specified, and as protobuf sees it.

Input: the frame.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from peernet.errors import RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import FrameDecoder
from peernet.wire.packets import KINDS, UNKNOWN, Kind, decode, encode_frame, peek, peek_any, peek_bare, peek_numbers

BY_FIELD = {kind.field: kind for kind in KINDS.values()}
LENGTH_DELIMITED = 2
GROUP = 3


def fuzz(frame: bytes) -> None:
    kind = kind_of(frame)
    assert kind_of(bytearray(frame)) is kind
    assert walked(frame) is kind, "the fast way and the long way differ"
    check_against_protobuf(frame, kind)
    if kind is None:
        return
    numbers = peek_numbers(frame)
    bare = peek_bare(frame)
    assert bare is None or (bare is kind and numbers == (0, 0, False)), "nobody would look at its numbers"
    if kind is not UNKNOWN:
        packet = packet_in(frame)
        if packet is not None:
            assert packet.WhichOneof("body") == kind.name
            assert (packet.sequence, packet.acknowledged, packet.acknowledge_now) == numbers
            check_writing(packet, kind)


def kind_of(frame: bytes | bytearray) -> Kind | None:
    """What :func:`peek` says; ``None`` for ``bad_packet``."""
    try:
        return peek(frame)
    except RemoteProtocolError as error:
        check_reason(error)
        return None


def walked(frame: bytes) -> Kind | None:
    """The same, without the short cuts."""
    try:
        return peek_any(frame)
    except RemoteProtocolError:
        return None


def packet_in(frame: bytes) -> pb.Packet | None:
    """What :func:`decode` says; ``None`` for ``bad_packet``."""
    try:
        return decode(frame)
    except RemoteProtocolError as error:
        check_reason(error)
        return None


def check_reason(error: RemoteProtocolError) -> None:
    """There is no other reason to give a packet up."""
    assert error.reason is Reason.BAD_PACKET


def check_against_protobuf(frame: bytes, kind: Kind | None) -> None:
    """A parser that knows no field of Packet must find the same fields."""
    try:
        parsed: Any = UnknownFieldSet(pb.HeartbeatPacket.FromString(frame))
    except DecodeError:
        assert kind is None
        return
    fields = list(parsed)
    bodies = [(one.field_number, one.wire_type) for one in fields if one.field_number >= 16]
    # A parser of a message without fields lets number 0 pass, which that of Packet does not.
    broken = any(one.wire_type == GROUP or not one.field_number for one in fields)
    if broken or len(fields) > 64 or [wire_type for _, wire_type in bodies] != [LENGTH_DELIMITED]:
        assert kind is None
    else:
        assert kind is BY_FIELD.get(bodies[0][0], UNKNOWN)


def check_writing(packet: pb.Packet, kind: Kind) -> None:
    """What was read can be written, and is the same when it is read again."""
    envelope = pb.Packet()
    envelope.CopyFrom(packet)
    envelope.ClearField(kind.name)  # type: ignore[arg-type]
    written = encode_frame(getattr(packet, kind.name), envelope.SerializeToString(deterministic=True))
    decoder = FrameDecoder(len(written))
    decoder.receive_data(written)
    (again,) = decoder.frames()
    assert peek(again) is kind
    assert decode(again) == packet
