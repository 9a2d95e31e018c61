"""Packets that cost as much as possible: in time, in memory, and on the screen."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

from tests.hostile.honest import SOURCES, Figures
from tests.hostile.node import Load, Victim
from tests.hostile.raw import Peer, identity
from tests.hostile.reasons import name_of
from tests.hostile.watching import Watch, watching
from tests.hostile.wire import (
    ACKNOWLEDGE,
    COLLECTION_SHARE,
    DISCONNECT,
    HEARTBEAT,
    HELLO,
    IDENTIFIER,
    MAX_CONTROL,
    PURE_MESSAGE,
    REPLY_TO,
    content,
    frame,
    heartbeat,
    hello,
    number,
    reason_of,
    session,
    varint,
)

ROOM = MAX_CONTROL - 16  # for the body of a packet, whatever its envelope
UNKNOWN = 90  # a field that nobody knows


def packet(kind: int, *parts: bytes) -> bytes:
    """A frame with a body."""
    return frame(content(kind, b"".join(parts)))


def filled(part: bytes) -> bytes:
    """The same as often as there is room."""
    return part * (ROOM // len(part))


def nested(field: int) -> bytes:
    """Messages in messages, as deep as there is room."""
    inside = b""
    while len(inside) < ROOM - 16:
        inside = content(field, inside)
    return inside


BOMBS: dict[str, bytes] = {
    "empty refusals": packet(ACKNOWLEDGE, filled(content(1, b""))),
    "as many refusals as may be": packet(ACKNOWLEDGE, *(content(1, number(1, n) + number(2, 1)) for n in range(256))),
    "refusals full of what is unknown": packet(ACKNOWLEDGE, content(1, filled(number(UNKNOWN, 0)))),
    "unknown numbers": packet(ACKNOWLEDGE, filled(number(UNKNOWN, 0))),
    "unknown messages": packet(HEARTBEAT, filled(content(UNKNOWN, b""))),
    "messages in messages": packet(HEARTBEAT, nested(UNKNOWN)),
    "groups in groups": packet(HEARTBEAT, filled(varint(UNKNOWN << 3 | 3))),
    "many bodies": frame(filled(content(HEARTBEAT, b""))),
    "a long envelope": frame(filled(number(1, 1)) + content(HEARTBEAT, b"")),
    "a second hello": packet(HELLO, filled(content(5, b""))),
    "a long goodbye": packet(DISCONNECT, content(2, "\u202e".encode() * (ROOM // 3))),
    "a text of controls": packet(PURE_MESSAGE, content(1, b"\x1b" * ROOM)),
    "a text again and again": packet(PURE_MESSAGE, filled(content(1, b""))),
    "listening addresses, untrusted": packet(IDENTIFIER, filled(content(2, b""))),
    "peers, untrusted": packet(COLLECTION_SHARE, filled(content(1, b""))),
}
WORST = "as many refusals as may be"  # for its size, of those for which nobody is blamed
TRUSTED_BOMBS: dict[str, bytes] = {
    "listening addresses": packet(IDENTIFIER, filled(content(2, b""))),
    "peers": packet(COLLECTION_SHARE, filled(content(1, b""))),
    "addresses of one peer": packet(COLLECTION_SHARE, content(1, filled(content(2, b"")))),
}


def bombs(victim: Victim, *, shots: int = 20) -> Figures:
    """Each packet some times, one after the other. What one takes of the processor is what the hub is blocked."""
    friend, name = identity()
    victim.command("trust", name)
    figures: Figures = {}
    with victim.read_by_somebody(), watching(victim) as watch:
        for title, bomb in BOMBS.items():
            figures[title] = _throw(watch, bomb, shots, None)
        for title, bomb in TRUSTED_BOMBS.items():
            figures[title] = _throw(watch, bomb, shots, friend)
        return {**figures, "all": watch.figures}


def _throw(watch: Watch, bomb: bytes, shots: int, context: Any) -> Figures:
    victim, outcomes, cpu = watch.victim, Counter[str](), []
    before = victim.memory
    victim.forget_peak()
    for shot in range(shots):
        peer = Peer(victim.port, next(SOURCES), context, hello("peernet", session(shot + 1)))
        peer.echo()
        since = victim.cpu
        outcomes[_outcome(peer, bomb)] += 1
        cpu.append(victim.cpu - since)
        peer.say_goodbye()
    return {
        "outcome": dict(outcomes),
        "cpu_ms": {"median": round(1000 * sorted(cpu)[shots // 2], 1), "worst": round(1000 * max(cpu), 1)},
        "memory_mb": round((victim.peak - before) / 1e6, 2),
    }


def _outcome(peer: Peer, bomb: bytes) -> str:
    """What becomes of the peer: its next question is answered, or it gets a goodbye."""
    with suppress(ConnectionError):
        peer.send(bomb + heartbeat(1 << 40))
        while True:
            answer = peer.receive()
            reason = reason_of(answer)
            if reason is not None:
                return name_of(reason)
            if number(REPLY_TO, 1 << 40) in answer:
                return "taken"
    return "silence"


def barrage(victim: Victim, *, peers: int = 8, seconds: float = 10, bomb: str = WORST) -> Figures:
    """Strangers who send such packets as fast as they can."""
    with ExitStack() as stack:
        stack.enter_context(victim.read_by_somebody())
        watch = stack.enter_context(watching(victim))
        throwers = [Thrower(victim, BOMBS[bomb]) for _ in range(peers)]
        load = Load(victim)
        time.sleep(seconds)
        share, figures = load.share, watch.figures
        for thrower in throwers:
            thrower.stop()
    return {**figures, "cpu": round(share, 2), "packets": sum(thrower.sent for thrower in throwers)}


def series(victim: Victim, *, packets: int, bomb: str = WORST) -> float:
    """The seconds until one stranger's series of such packets is taken."""
    peer = Peer(victim.port, next(SOURCES), None, hello("peernet", session(1)))
    began = time.monotonic()
    peer.send(BOMBS[bomb] * packets)
    peer.echo()
    peer.say_goodbye()
    return time.monotonic() - began


class Thrower:
    """Sends the same packet as fast as it is taken, in a thread of its own."""

    def __init__(self, victim: Victim, bomb: bytes) -> None:
        self.sent = 0
        self._peer = Peer(victim.port, next(SOURCES), None, hello("peernet", session(1)))
        self._bomb = bomb
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while not self._over:
                self._peer.send(self._bomb)
                self.sent += 1

    def stop(self) -> None:
        self._over = True
        self._peer.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._peer.close()
