"""Packets: which kinds there are, and how one frame is read and written.

Reading happens in two steps. :func:`peek` looks at the envelope only and tells the
kind, so that limits, state and trust can be decided before a body is parsed or
kept; :func:`decode` then parses the frame. Writing puts the envelope's fields in
front of the serialised body by hand: a body that goes to many peers is serialised
once, and no copy of it is made into a :class:`Packet` (twice as fast, measured).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf.message import DecodeError, EncodeError, Message

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.framing import SHORT_VARINTS, encode_varint

# Field numbers of Packet: below it the envelope, from it on bodies (packet.proto).
FIRST_BODY_FIELD = 16
# Protobuf's own bounds: the number of a field and its wire type make a tag of 32 bits.
MAX_FIELD = 2**29 - 1
# The longest varint of a tag or a length, which have 32 bits, and of any other number, which has 64. Bytes.
MAX_VARINT_32 = 5
MAX_VARINT_64 = 10
# What stands before the content of a field: its tag, and a length or a number. Bytes.
MAX_FIELD_HEADER = MAX_VARINT_32 + MAX_VARINT_64

# Length of the packet ids that this side makes, which need no walk over the envelope to be read. Bytes.
PACKET_ID_SIZE = 16
# More fields than any version will have, and few enough to be looked at in no time: half
# a million of them fit into one frame, and kept everybody waiting for two seconds.
MAX_FIELDS = 64

LENGTH_DELIMITED = 2
# What is wrong with a packet whose last field is cut off.
BEYOND = "a field that reaches beyond the frame"


@dataclass(frozen=True)
class Kind:
    """One kind of packet.

    Attributes:
        name: the oneof field's name; the key in ``PacketHandleProtocol``.
        message: the body's class.
        control: the protocol's own: never gated by trust, and never sent by a program.
        numbered: counted by sessions, and sent again after the loss of a connection.
        bulk: may be as large as a frame; every other kind is limited to ``max_control_packet``.
    """

    name: str
    message: type[Message]
    control: bool = False
    numbered: bool = True
    bulk: bool = False

    @property
    def field(self) -> int:
        """The body's field number in Packet."""
        return pb.Packet.DESCRIPTOR.fields_by_name[self.name].number


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("hello", pb.HelloPacket, control=True, numbered=False),
        Kind("heartbeat", pb.HeartbeatPacket, control=True, numbered=False),
        Kind("acknowledge", pb.AcknowledgePacket, control=True, numbered=False),
        Kind("disconnect", pb.DisconnectPacket, control=True, numbered=False),
        Kind("pure_message", pb.PureMessagePacket, bulk=True),
        Kind("identifier", pb.IdentifierPacket),
        Kind("collection_share", pb.CollectionSharePacket),
        Kind("data_transmission", pb.DataTransmissionPacket, bulk=True),
        # In the place of a packet that fits no more: numbered like it, and of no interest to trust and callbacks.
        Kind("withdrawn", pb.WithdrawnPacket, control=True),
    )
}

UNKNOWN = Kind("unknown", pb.Packet, bulk=True)
"""What :func:`peek` answers for a body that only newer peers know."""

KIND_BY_FIELD = {kind.field: kind for kind in KINDS.values()}
"""The kind of a packet, by the number of its body's field; all others are :data:`UNKNOWN`."""
_BY_CLASS: dict[type[Message], tuple[Kind, bytes]] = {
    kind.message: (kind, encode_varint(kind.field << 3 | LENGTH_DELIMITED)) for kind in KINDS.values()
}
# All tags of bodies have two bytes, and the first tells them apart.
_BY_TAG = {tag[0]: kind for kind, tag in _BY_CLASS.values()}

# The tag of Packet.acknowledged, and the most bytes of a number.
_ACKNOWLEDGED = 2 << 3
_LONGEST_NUMBER = 10

# The fields of the envelope that belong to sessions: sequence, acknowledged, acknowledge_now.
SESSION_FIELDS = (1, 2, 8)

# The envelope as every usual encoder writes it, fields in order and each at most once,
# up to and with the tag of a body. One match of it replaces a walk over the fields.
_ENVELOPE = re.compile(
    rb"(?:\x08%(v)b)?(?:\x10%(v)b)?(?:\x18%(v)b)?(?:\x20%(v)b)?(?:\x2a\x34.{52})?(?:\x30%(v)b)?(?:\x3a\x10.{16})?(?:\x40%(v)b)?[\x80-\xff]\x01"
    % {b"v": rb"[\x80-\xff]{0,9}[\x00-\x7f]"},
    re.DOTALL,
).match

# Bound once: to find the method in the class takes as long as parsing a small packet.
_parse = pb.Packet.FromString

Encoded = tuple[Kind, bytes, bytes]
"""A body as it stands in a packet: its kind, its tag and length, its content. The two
parts are not joined, so that a large content is never copied."""


def encode_body(body: Message) -> Encoded:
    """Serialise a body.

    Raises:
        LocalProtocolError: it is not the body of any kind, or cannot be serialised.
    """
    try:
        kind, tag = _BY_CLASS[type(body)]
        content = body.SerializeToString()
    except KeyError:
        raise LocalProtocolError(
            f"{type(body).__name__} is not the body of a packet; send one of "
            + ", ".join(kind.message.__name__ for kind in KINDS.values() if not kind.control)
        ) from None
    except EncodeError as error:
        raise LocalProtocolError(f"{type(body).__name__} cannot be serialised: {error}") from error
    size = len(content)
    return kind, tag + (SHORT_VARINTS[size] if size < 0x80 else encode_varint(size)), content


def encode_reply(body: Message, request_id: int) -> Encoded:
    """Serialise a body that answers a packet, by the number of that; 0 if it has none.

    Raises:
        LocalProtocolError: as of :func:`encode_body`.
    """
    kind, prefix, content = encode_body(body)
    return kind, encode_envelope(reply_to=request_id) + prefix, content


def encode_header(encoded: Encoded, envelope: bytes = b"") -> bytes:
    """What stands before the content in a frame: length, envelope fields, tag and length of the body."""
    _, prefix, content = encoded
    if envelope:
        prefix = envelope + prefix
    size = len(prefix) + len(content)
    return (SHORT_VARINTS[size] if size < 0x80 else encode_varint(size)) + prefix


def encode_frame(body: Message, envelope: bytes = b"") -> bytes:
    """A whole frame, for small packets."""
    encoded = encode_body(body)
    return encode_header(encoded, envelope) + encoded[2]


WITHDRAWN_FRAME = encode_frame(pb.WithdrawnPacket())
"""What is sent under the number of a kept packet that is larger than the peer accepts by now."""


ASKS = pb.Packet(acknowledge_now=True).SerializeToString()
"""The field of the envelope that asks for an acknowledgement at once. It stands behind all others."""


def encode_envelope(sequence: int = 0, acknowledged: int = 0, request_id: int = 0, reply_to: int = 0) -> bytes:
    """The envelope's fields, serialised; fields that are 0 are left out, as proto3 asks."""
    return pb.Packet(
        sequence=sequence, acknowledged=acknowledged, request_id=request_id, reply_to=reply_to
    ).SerializeToString()


def peek_bare(frame: bytes | bytearray) -> Kind | None:
    """The kind of a packet whose envelope is empty, as that of most is; ``None`` for every other frame."""
    size = len(frame)
    if size > 2 and frame[1] == 1:
        kind, length = _BY_TAG.get(frame[0]), frame[2]
        # Only behind the tag of a body a length follows, and only there a broken one is a mistake.
        if kind is not None and (length + 3 == size if length < 0x80 else _fills_rest(frame, 2)):
            return kind
    return None


def _peek_acknowledging(frame: bytes | bytearray) -> Kind | None:
    """The kind of a packet whose envelope is ``acknowledged`` alone, as in dialogues; ``None`` for most other frames.

    The pattern would find it, too, for three times the instructions.
    """
    size = len(frame)
    if size <= _LONGEST_NUMBER + 4 or frame[0] != _ACKNOWLEDGED:
        return None
    body = 2  # where its tag is
    while frame[body - 1] >= 0x80:
        body += 1
        if body > _LONGEST_NUMBER + 1:
            return None
    kind, length = _BY_TAG.get(frame[body]), frame[body + 2]
    if kind is None or frame[body + 1] != 1:
        return None
    fills = body + 3 + length == size if length < 0x80 else _fills_rest(frame, body + 2)
    return kind if fills else None


def encode_stored(kind: str, packet_id: bytes, body: bytes) -> Encoded:
    """A body that was serialised earlier, perhaps by another version, with the id that goes before it.

    Args:
        kind: its name.
        packet_id: the packet's.
        body: the tag, the length and the content, as :func:`encode_body` returns them.
    """
    return KINDS.get(kind, UNKNOWN), pb.Packet(packet_id=packet_id).SerializeToString(), body


def peek(frame: bytes | bytearray) -> Kind:
    """The kind of the packet in a frame, from its envelope alone.

    Returns:
        One of :data:`KINDS`, or :data:`UNKNOWN`.

    Raises:
        RemoteProtocolError: ``bad_packet``: no body, more than one, or broken bytes.
    """
    kind = peek_bare(frame) or _peek_acknowledging(frame)
    if kind is not None:
        return kind
    match = _ENVELOPE(frame)
    if match is not None:
        start = match.end()
        kind = _BY_TAG.get(frame[start - 2])
        if kind is not None and _fills_rest(frame, start):
            return kind
    return peek_any(frame)


def decode(frame: bytes | bytearray) -> pb.Packet:
    """The packet in a frame that :func:`peek` has passed.

    Raises:
        RemoteProtocolError: ``bad_packet``.
    """
    try:
        return _parse(frame)  # type: ignore[arg-type]  # bytearray works, and saves a copy
    except (DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"a packet cannot be parsed: {error}", Reason.BAD_PACKET) from error


def peek_numbers(frame: bytes | bytearray) -> tuple[int, int, bool]:
    """``sequence``, ``acknowledged`` and ``acknowledge_now`` of a packet that :func:`peek` has passed.

    For one whose body nobody looks at.
    """
    numbers = dict.fromkeys(SESSION_FIELDS, 0)
    position = 0
    while position < len(frame):  # every turn moves it forward
        field, wire_type, position = read_tag(frame, position)
        if wire_type == 0 and field in numbers:
            numbers[field] = read_varint(frame, position)[0] & 0xFFFF_FFFF_FFFF_FFFF
        position = _skip(frame, position, wire_type)
    sequence, acknowledged, asks = numbers.values()
    return sequence, acknowledged, asks != 0


def _fills_rest(frame: bytes | bytearray, position: int) -> bool:
    """Whether the length at ``position`` reaches exactly to the end of the frame."""
    length, start = read_varint(frame, position, MAX_VARINT_32)
    return start + length == len(frame)


def peek_any(frame: bytes | bytearray) -> Kind:
    """:func:`peek` without its short cuts: field by field, in any legal order.

    It finds the fields that protobuf's parser finds, and fails where that fails.

    Raises:
        RemoteProtocolError: ``bad_packet``.
    """
    found: Kind | None = None
    position = count = 0
    while position < len(frame):  # every turn moves it forward
        count += 1
        field, wire_type, position = read_field(frame, position, count)
        if field >= FIRST_BODY_FIELD:
            if found is not None:
                raise bad_packet("more than one body")
            found = KIND_BY_FIELD.get(field, UNKNOWN)
        position = _skip(frame, position, wire_type)
    if found is None:
        raise bad_packet("no body")
    return found


def read_tag(frame: bytes | bytearray, position: int) -> tuple[int, int, int]:
    """Field number and wire type of the tag at ``position``, and where its value starts."""
    tag, position = read_varint(frame, position, MAX_VARINT_32)
    field = tag >> 3
    if not 0 < field <= MAX_FIELD:
        raise bad_packet(f"a field of number {field}")
    return field, tag & 7, position


def read_field(frame: bytes | bytearray, position: int, count: int) -> tuple[int, int, int]:
    """The number and the wire type of the field at ``position``, and where its value begins.

    Args:
        frame: the packet, or some of it.
        position: where the tag is.
        count: the how-manieth field of the packet this is.

    Raises:
        RemoteProtocolError: ``bad_packet``: too many fields, a broken tag, or a body that is no message.
    """
    if count > MAX_FIELDS:
        raise bad_packet(f"more than {MAX_FIELDS} fields")
    field, wire_type, start = read_tag(frame, position)
    if field >= FIRST_BODY_FIELD and wire_type != LENGTH_DELIMITED:
        raise bad_packet("a body that is not a message")
    return field, wire_type, start


def _skip(frame: bytes | bytearray, position: int, wire_type: int) -> int:
    """Where the field's value ends."""
    position = end_of_value(frame, position, wire_type)
    if position > len(frame):
        raise bad_packet(BEYOND)
    return position


def end_of_value(frame: bytes | bytearray, position: int, wire_type: int) -> int:
    """Where the value at ``position`` ends, as it says itself: perhaps beyond the frame."""
    if wire_type == 0:
        position = read_varint(frame, position)[1]
    elif wire_type == 1:
        position += 8
    elif wire_type == LENGTH_DELIMITED:
        length, position = read_varint(frame, position, MAX_VARINT_32)
        position += length
    elif wire_type == 5:
        position += 4
    else:
        raise bad_packet(f"a field of wire type {wire_type}")
    return position


def read_varint(data: bytes | bytearray, position: int, longest: int = MAX_VARINT_64) -> tuple[int, int]:
    """The varint at ``position`` and where it ends. It need not be minimal, but has at most ``longest`` bytes."""
    value = 0
    for index, byte in enumerate(data[position : position + longest]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise bad_packet("a broken varint")


def bad_packet(what: str) -> RemoteProtocolError:
    """The error that a packet has something which no packet may have."""
    return RemoteProtocolError(f"a packet has {what}", Reason.BAD_PACKET)


def too_big(kind: Kind, size: int, limit: int) -> RemoteProtocolError:
    """The error that a packet is larger than its kind may be."""
    return RemoteProtocolError(
        f"a packet of kind {kind.name} has {size} bytes; the limit is {limit}", Reason.FRAME_TOO_BIG
    )
