"""Whatever is sent and received in whatever order, a connection follows the five rules of the specification.

Input: one byte for each packet: direction (1 bit), size (3 bits), kind (4 bits).
"""

from __future__ import annotations

from peernet.errors import LocalProtocolError, RemoteProtocolError
from peernet.wire.connection import TRANSITIONS, Connection, ConnectionState, Direction
from peernet.wire.packets import KINDS, UNKNOWN
from tests.fuzz.feeding import blamed

HANDSHAKE, FRAME, CONTROL = 100, 100_000, 1000
SIZES = (0, 1, HANDSHAKE, HANDSHAKE + 1, CONTROL, CONTROL + 1, FRAME, FRAME + 1)
ALL_KINDS = (*KINDS.values(), UNKNOWN)


class Rules:
    """The rules of docs/protocol.rst, kept as four facts and not as a table."""

    def __init__(self) -> None:
        self.said_hello = self.heard_hello = self.said_goodbye = self.heard_goodbye = False

    @property
    def greeted(self) -> bool:
        return self.said_hello and self.heard_hello

    @property
    def over(self) -> bool:
        return (self.said_goodbye and self.heard_goodbye) or (
            (self.said_goodbye or self.heard_goodbye) and not self.greeted
        )

    def may_send(self, kind: str) -> bool:
        if self.over or self.said_goodbye:
            return False
        if self.heard_goodbye:
            return kind == "acknowledge"
        if kind == "hello":
            return not self.said_hello
        return kind == "disconnect" or self.greeted

    def may_receive(self, kind: str) -> bool:
        if self.over or self.heard_goodbye:
            return False
        if kind == "hello":
            return not self.heard_hello and not self.said_goodbye
        return kind == "disconnect" or self.greeted

    def note(self, kind: str, *, sent: bool) -> None:
        self.said_hello |= sent and kind == "hello"
        self.heard_hello |= not sent and kind == "hello"
        self.said_goodbye |= sent and kind == "disconnect"
        self.heard_goodbye |= not sent and kind == "disconnect"


def fuzz(data: bytes) -> None:
    rules = Rules()
    connection = Connection(max_handshake_frame=HANDSHAKE, max_frame=FRAME, max_control_packet=CONTROL)
    for byte in data:
        kind, size, before = ALL_KINDS[(byte & 15) % len(ALL_KINDS)], SIZES[byte >> 4 & 7], connection.state
        if byte & 0x80:
            allowed = rules.may_send(kind.name)
            assert sends(connection, kind) is allowed
        else:
            fits = kind.bulk or size <= CONTROL
            allowed = fits and rules.may_receive(kind.name)
            expected = None if allowed else "unexpected_packet" if fits else "frame_too_big"
            assert receives(connection, kind, size) == expected
        if allowed:
            rules.note(kind.name, sent=bool(byte & 0x80))
            direction = Direction.SENT if byte & 0x80 else Direction.RECEIVED
            what = kind.name if kind.name in ("hello", "acknowledge", "disconnect") else "other"
            assert connection.state is TRANSITIONS[before, direction, what]
        else:
            assert connection.state is before
        assert (connection.state is ConnectionState.CLOSED) is rules.over
        assert connection.decoder.max_frame == (FRAME if rules.greeted else HANDSHAKE)


def sends(connection: Connection, kind: object) -> bool:
    try:
        connection.sent(kind)  # type: ignore[arg-type]
    except LocalProtocolError:
        return False
    return True


def receives(connection: Connection, kind: object, size: int) -> str | None:
    try:
        connection.received(kind, size)  # type: ignore[arg-type]
    except RemoteProtocolError as error:
        return blamed(error)
    return None
