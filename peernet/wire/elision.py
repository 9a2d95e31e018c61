"""Elision: a large packet that nobody wants is dropped as it comes, and what its envelope says is kept.

A stranger may announce a frame of any size that is accepted, and the kind stands at its beginning. What will be refused
must not be kept until it is complete: fifty strangers would hold fifty of the largest frames.
"""

from __future__ import annotations

from collections.abc import Collection

from peernet.wire.framing import encode_varint
from peernet.wire.packets import (
    ASKS,
    BEYOND,
    FIRST_BODY_FIELD,
    KIND_BY_FIELD,
    LENGTH_DELIMITED,
    MAX_FIELD_HEADER,
    SESSION_FIELDS,
    UNKNOWN,
    Kind,
    bad_packet,
    end_of_value,
    read_field,
    read_varint,
    too_big,
)


class Elided(bytes):
    """A packet whose content was dropped, with the numbers of its envelope and an empty body of its kind.

    It must never reach a callback. The sequence is always written, also if it is 0, so that the short cut for packets
    with an empty envelope passes it by.
    """


class Elision:
    """One packet under way, of which only the numbers of its envelope and the kind of its body are kept.

    It fails where :func:`~peernet.wire.packets.peek` fails for the whole packet.

    Args:
        length: of the packet, in bytes.
    """

    __slots__ = ("_body_field", "_fields", "_left", "_numbers", "_pending", "_skipped")

    def __init__(self, length: int) -> None:
        self._left = length  # bytes of the packet that were not walked over
        self._skipped = 0  # how many of them belong to a value that is dropped
        self._pending = b""  # the beginning of a field whose header is not complete
        self._fields = 0
        self._body_field = 0
        self._numbers = dict.fromkeys(SESSION_FIELDS, 0)

    def feed(self, buffer: bytes | bytearray, count: int) -> None:
        """Take the next bytes of the packet: the first ``count`` in a buffer.

        Raises:
            RemoteProtocolError: ``bad_packet``.
        """
        if count <= self._skipped:
            self._skipped -= count
            self._left -= count
            return
        data = self._pending + bytes(buffer[self._skipped : count])
        self._left -= self._skipped
        self._skipped = position = 0
        # Every turn moves it forward.
        while len(data) - position >= min(MAX_FIELD_HEADER, self._left) and self._left:
            position += self._take_field(data, position)
        self._pending = data[position:]

    def finish(self) -> Elided:
        """The packet without its content, when all of it was fed.

        Raises:
            RemoteProtocolError: ``bad_packet``: it has no body.
        """
        if not self._body_field:
            raise bad_packet("no body")
        sequence, acknowledged, asks = (number & 0xFFFF_FFFF_FFFF_FFFF for number in self._numbers.values())
        tag = encode_varint(self._body_field << 3 | LENGTH_DELIMITED)
        envelope = b"\x08" + encode_varint(sequence) + b"\x10" + encode_varint(acknowledged) + (ASKS if asks else b"")
        return Elided(envelope + tag + b"\x00")

    def _take_field(self, data: bytes, position: int) -> int:
        """Take the field at ``position``. Returns how many of the bytes there belong to it; others may follow."""
        self._fields += 1
        field, wire_type, start = read_field(data, position, self._fields)
        if field >= FIRST_BODY_FIELD:
            self._take_body(field)
        end = end_of_value(data, start, wire_type)
        size = end - position
        if size > self._left:
            raise bad_packet(BEYOND)
        if wire_type == 0 and field in self._numbers:
            self._numbers[field] = read_varint(data, start)[0]
        here = min(end, len(data)) - position
        self._left -= here
        self._skipped = size - here
        return here

    def _take_body(self, field: int) -> None:
        if self._body_field:
            raise bad_packet("more than one body")
        self._body_field = field


class PacketFilter:
    """How large packets may be, and which large ones are kept as they come; one for each connection.

    Args:
        max_control_packet: longest packet of a kind that is not bulk, in bytes.

    Attributes:
        permitted: the kinds whose bodies are wanted; ``None`` while that is not known, and all are kept.
    """

    __slots__ = ("_max_control_packet", "permitted")

    def __init__(self, max_control_packet: int) -> None:
        self._max_control_packet = max_control_packet
        self.permitted: Collection[str] | None = None

    def judge(self, frame: bytearray, end: int, length: int) -> Elision | bool:
        """Whether to keep a packet of which ``end`` bytes are there and ``length`` bytes will be.

        Returns:
            What takes the packet instead if it is not kept; ``False`` while that is not known.

        Raises:
            RemoteProtocolError: ``bad_packet``, or ``frame_too_big`` for its kind.
        """
        if self.permitted is None:
            return True
        kind = find_kind(frame, end, length)
        if kind is None:
            return False
        if not kind.bulk and length > self._max_control_packet:
            raise too_big(kind, length, self._max_control_packet)
        return not kind.bulk or kind.name in self.permitted or Elision(length)


def find_kind(frame: bytearray, end: int, length: int) -> Kind | None:
    """The kind of a packet of which ``end`` of ``length`` bytes are there; ``None`` if its body has not begun.

    Raises:
        RemoteProtocolError: ``bad_packet``: what is there is broken.
    """
    position = count = 0
    while end - position >= MAX_FIELD_HEADER:  # every turn moves it forward
        count += 1
        field, wire_type, position = read_field(frame, position, count)
        if field >= FIRST_BODY_FIELD:
            return KIND_BY_FIELD.get(field, UNKNOWN)
        position = end_of_value(frame, position, wire_type)
        if position > length:
            raise bad_packet(BEYOND)
    return None
