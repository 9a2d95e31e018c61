"""The protocol as bytes, made by hand after ``docs/protocol.rst``."""

from __future__ import annotations

from collections.abc import Iterator

# Fields of the envelope, and of the bodies in it.
ACKNOWLEDGED, REQUEST_ID, REPLY_TO = 2, 3, 4
HELLO, HEARTBEAT, ACKNOWLEDGE, DISCONNECT, PURE_MESSAGE, IDENTIFIER, COLLECTION_SHARE, DATA_TRANSMISSION = range(16, 24)

MAX_FRAME = 1 << 20
MAX_CONTROL = 1 << 16
LIVES_LONG = 300_000  # milliseconds between heartbeats: the longest that a node believes


def varint(value: int) -> bytes:
    """As protobuf writes it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at a position, and where it ends.

    Raises:
        ValueError: there is none.
    """
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("no varint")


def number(field: int, value: int) -> bytes:
    """A protobuf field with a number."""
    return varint(field << 3) + varint(value)


def content(field: int, value: bytes) -> bytes:
    """A protobuf field with bytes, a text, or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def fixed64(field: int, value: int) -> bytes:
    """A protobuf field with eight bytes."""
    return varint(field << 3 | 1) + value.to_bytes(8, "little")


def frame(packet: bytes) -> bytes:
    """A packet with its length in front."""
    return varint(len(packet)) + packet


def hello(network: str = "peernet", *more: bytes) -> bytes:
    """The hello of a peer without sessions, as a frame; with other fields it has one, or says anything else."""
    known = number(1, 1) + number(2, 1) + content(3, network.encode())
    return frame(content(HELLO, known + b"".join(more)))


def session(own: int, others: int = 0, received: int = 0, acknowledged: int = 0) -> bytes:
    """What a hello says of a session."""
    return fixed64(10, own) + fixed64(11, others) + number(12, received) + number(14, acknowledged)


def heartbeat(request: int = 0) -> bytes:
    """A heartbeat, as a frame; with a number it asks for an answer."""
    return frame((number(REQUEST_ID, request) if request else b"") + content(HEARTBEAT, b""))


def acknowledge(acknowledged: int = 0, body: bytes = b"") -> bytes:
    """An acknowledgement, as a frame."""
    return frame((number(ACKNOWLEDGED, acknowledged) if acknowledged else b"") + content(ACKNOWLEDGE, body))


def disconnect(reason: int = 1, message: str = "") -> bytes:
    """A goodbye, as a frame."""
    return frame(content(DISCONNECT, number(1, reason) + content(2, message.encode())))


def message(text: str) -> bytes:
    """A text message, as a frame."""
    return frame(content(PURE_MESSAGE, content(1, text.encode())))


def packets(data: bytes) -> Iterator[bytes]:
    """The packets of whole frames.

    Raises:
        ValueError: these are none.
    """
    position = 0
    while position < len(data):
        length, position = read_varint(data, position)
        if position + length > len(data):
            raise ValueError("a frame is cut off")
        yield data[position : position + length]
        position += length


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message, with their numbers.

    Raises:
        ValueError: it is none.
    """
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        if tag & 7 == 0:
            value, position = read_varint(data, position)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(tag & 7)
        if size is None:
            size, position = read_varint(data, position)
        if tag & 7 not in (1, 2, 5) or position + size > len(data):
            raise ValueError("no field")
        yield tag >> 3, data[position : position + size]
        position += size


def body(packet: bytes) -> tuple[int, dict[int, int | bytes]]:
    """Which body a packet has, and the fields of it; 0 if it has none.

    Raises:
        ValueError: it is no packet.
    """
    for field, value in fields(packet):
        if field >= HELLO and isinstance(value, bytes):
            return field, dict(fields(value))
    return 0, {}


def reason_of(packet: bytes) -> int | None:
    """The reason in a goodbye; ``None`` if the packet is something else."""
    kind, about = body(packet)
    return int(about.get(1, 0)) if kind == DISCONNECT else None
