"""Conversations that are almost right: made of good ones, with some mistakes in them."""

from __future__ import annotations

import random
import socket
from collections import Counter
from contextlib import suppress

from OpenSSL import SSL

from tests.hostile.honest import SOURCES, Figures
from tests.hostile.node import Victim
from tests.hostile.raw import Peer, connect, reset
from tests.hostile.reasons import name_of
from tests.hostile.watching import watching
from tests.hostile.wire import (
    COLLECTION_SHARE,
    DATA_TRANSMISSION,
    IDENTIFIER,
    acknowledge,
    content,
    disconnect,
    fields,
    fixed64,
    frame,
    heartbeat,
    hello,
    message,
    number,
    packets,
    reason_of,
    session,
    varint,
)

NUMBERS = (0, 1, 2, 127, 128, 4096, 1 << 16, 1 << 20, (1 << 20) + 1, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1)
NAMES = [letter * 52 for letter in "abcdefghijklmnop"]  # who they claim to be, without TLS
GOOD = [
    message("good morning"),
    message("x" * 20_000),
    heartbeat(),
    heartbeat(7),
    acknowledge(0),
    acknowledge(1, content(1, number(1, 1) + number(2, 1))),
    frame(content(IDENTIFIER, content(1, b"it is me") + content(2, b"192.0.2.1:7400"))),
    frame(content(COLLECTION_SHARE, content(1, content(1, b"a" * 52) + content(2, b"192.0.2.2:7400") + number(3, 9)))),
    frame(content(DATA_TRANSMISSION, number(1, 1) + content(2, b"data") + content(3, b"../name"))),
    frame(content(200, b"from the future")),
    disconnect(1, "it is late"),
    disconnect(16),
]


def conversation(chance: random.Random, names: list[str]) -> list[bytes]:
    """Frames, the hello first, some of them changed."""
    name = chance.choice(names).encode()
    own = session(chance.randrange(1, 4), chance.choice((0, 0, 1 << 40)), chance.choice((0, 0, 5)))
    said = [hello("peernet", content(9, name), own if chance.random() < 0.5 else b"")]
    said += chance.choices(GOOD, k=chance.randrange(8))
    for _ in range(chance.randrange(4)):
        _change(chance, said)
    return said


def _change(chance: random.Random, said: list[bytes]) -> None:
    """One mistake, somewhere; sooner behind the hello than in it."""
    at = min(len(said) - 1, chance.randrange(1, len(said) + 1)) if chance.random() < 0.8 else 0
    match chance.randrange(8):
        case 0:
            said.insert(at, chance.choice(said))
        case 1:
            said.append(said.pop(at))
        case 2:
            said[at] = bytes(byte ^ (chance.random() < 0.02) << chance.randrange(8) for byte in said[at])
        case 3:
            said[at] = said[at][: chance.randrange(len(said[at]) + 1)]
        case 4:
            said[at] = varint(chance.choice(NUMBERS)) + said[at]
        case 5:
            said[at] = chance.randbytes(chance.randrange(200))
        case _:
            said[at] = b"".join(frame(_changed(chance, packet)) for packet in _whole(said[at]))


def _whole(data: bytes) -> list[bytes]:
    try:
        return list(packets(data))
    except ValueError:
        return [data]


def _changed(chance: random.Random, data: bytes, depth: int = 0) -> bytes:
    """A message with another field in the place of one of its own."""
    try:
        parts = [_field(key, value) for key, value in fields(data)]
    except ValueError:
        return chance.randbytes(len(data))
    if not parts:
        return _field(chance.randrange(1, 32), chance.choice((b"", 1)))
    at = chance.randrange(len(parts))
    key, value = next(fields(parts[at]))
    match chance.randrange(7):
        case 0:
            del parts[at]
        case 1:
            parts[at] *= chance.choice((2, 65, 1000))
        case 2:
            parts[at] = _field(chance.choice((key, chance.randrange(1, 32))), chance.choice(NUMBERS))
        case 3:
            parts[at] = varint(key << 3 | chance.randrange(8)) + parts[at][1:]
        case 4:
            parts[at] = fixed64(key, chance.choice(NUMBERS))
        case 5:
            parts[at] = _field(key, b"\xff\xfe" * chance.randrange(40))
        case _:
            if isinstance(value, bytes) and depth < 4:
                parts[at] = _field(key, _changed(chance, value, depth + 1))
    return b"".join(parts)


def _field(key: int, value: int | bytes) -> bytes:
    return number(key, value) if isinstance(value, int) else content(key, value)


def mutations(victim: Victim, *, sessions: int = 100_000, seed: int = 0, tls: bool = False) -> Figures:
    """Such conversations one after the other. Everything that the node says must be readable, and documented.

    Args:
        victim: a node with TLS or without, that keeps sessions for a second.
        sessions: how many.
        seed: decides what is said.
        tls: whether the node has TLS.
    """
    chance, outcomes = random.Random(seed), Counter[str]()
    talk = _talk_over_tls if tls else _talk
    with victim.read_by_somebody():
        for _ in range(sessions // 10):  # what is kept for ever is paid by now
            talk(victim, chance)
    with victim.read_by_somebody(), watching(victim, 0.05) as watch:
        for _ in range(sessions):
            outcomes[talk(victim, chance)] += 1
        figures = watch.figures
        return {**figures, **watch.left(), "outcomes": dict(outcomes), "errors_in_log": victim.log.count("Traceback")}


def _talk(victim: Victim, chance: random.Random) -> str:
    """One conversation without TLS. Returns how it ended."""
    sock = connect(victim.port, next(SOURCES))
    try:
        for said in conversation(chance, NAMES):
            sock.sendall(said)
        end = chance.random()
        if end < 0.2:
            reset(sock)
            return "left"
        if end < 0.9:
            sock.shutdown(socket.SHUT_WR)
        return _end_of(_everything(sock)) if end < 0.9 else "left"
    except OSError:
        return "cut off"
    finally:
        sock.close()


def _everything(sock: socket.socket) -> bytes:
    data = bytearray()
    with suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


def _talk_over_tls(victim: Victim, chance: random.Random) -> str:
    """The same over TLS."""
    peer = Peer(victim.port, next(SOURCES), greeting=b"")
    heard = []
    try:
        for said in conversation(chance, [""]):
            peer.send(said)
        if chance.random() < 0.7:
            peer.tls.shutdown()
            while True:
                heard.append(peer.receive())
        return "left"
    except (ConnectionError, SSL.Error):
        return _end_of(b"".join(map(frame, heard)))
    finally:
        peer.close()


def _end_of(data: bytes) -> str:
    """What the last packet says, if it is a goodbye."""
    try:
        heard = list(packets(data))
    except ValueError:
        return "unreadable"
    reasons = [name_of(reason) for reason in map(reason_of, heard) if reason is not None]
    return reasons[-1] if reasons else ("welcome" if heard else "silence")
