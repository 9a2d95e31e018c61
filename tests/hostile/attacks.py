"""The attacks, as functions: a victim in, figures out. Nothing is judged here."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.hostile.honest import SOURCES, Figures, echoes, honest_handshake
from tests.hostile.node import Load, Victim, in_ms, until, until_still
from tests.hostile.raw import Peer, client_hello, connect, half_a_handshake, is_over, reset
from tests.hostile.wire import hello, message, varint

PATIENCE = 60.0  # how long anything is waited for; seconds
SELDOM = 0.02  # between two echoes, where the node's own use of the CPU is measured; seconds


def crowd(victim: Victim, *, silent: int = 500, half: int = 50, handshakes: int = 100, pause: float = 0.1) -> Figures:
    """Many who connect and say nothing, or stop in the middle of TLS, each from an address of its own."""
    attackers = [connect(victim.port, next(SOURCES)) for _ in range(silent)]
    for _ in range(half):
        attackers.append(connect(victim.port, next(SOURCES)))
        with suppress(OSError):
            half_a_handshake(attackers[-1])
    began = time.monotonic()
    took: list[float | None] = []
    gone: float | None = None
    while len(took) < handshakes or (attackers and time.monotonic() - began < PATIENCE):
        if len(took) < handshakes:
            took.append(honest_handshake(victim.port))
        time.sleep(pause)
        attackers = _those_still_there(attackers)
        if not attackers and gone is None:
            gone = round(time.monotonic() - began, 2)
    return {
        "honest_handshake_ms": in_ms([one for one in took if one is not None]),
        "honest_sent_away": took.count(None),
        "all_attackers_gone_after_s": gone,
        "counters": victim.status["counters"],
    }


def _those_still_there(attackers: list[socket.socket]) -> list[socket.socket]:
    """Those who were not hung up on."""
    left = [sock for sock in attackers if not is_over(sock)]
    for sock in set(attackers) - set(left):
        sock.close()
    return left


def trickle(victim: Victim, *, every: float = 1.0) -> Figures:
    """One byte now and then, in TLS and in the hello behind it. How long each connection is kept."""
    in_tls = connect(victim.port, next(SOURCES))
    began_tls = time.monotonic()
    in_hello = Peer(victim.port, next(SOURCES), greeting=b"")
    began_hello = time.monotonic()
    first, second = iter(client_hello()), iter(hello() * 100)
    kept: Figures = {}
    while len(kept) < 2 and time.monotonic() - began_tls < 60:
        if "in_tls_s" not in kept and _is_refused(in_tls, lambda: in_tls.send(bytes([next(first)]))):
            kept["in_tls_s"] = round(time.monotonic() - began_tls, 2)
        if "in_hello_s" not in kept and _is_refused(in_hello.sock, lambda: in_hello.tls.send(bytes([next(second)]))):
            kept["in_hello_s"] = round(time.monotonic() - began_hello, 2)
        time.sleep(every)
    in_tls.close()
    in_hello.close()
    return {**kept, "counters": victim.status["counters"]}


def _is_refused(sock: socket.socket, send: Callable[[], Any]) -> bool:
    if is_over(sock):
        return True
    try:
        send()
    except Exception:
        return True
    return False


def dribble(victim: Victim, *, every: float = 1.0, patience: float = 60) -> Figures:
    """A peer, properly introduced, that sends a frame byte by byte. How long its channel is kept."""
    peer = Peer(victim.port, next(SOURCES))
    began = time.monotonic()
    peer.send(varint(100_000))
    with suppress(OSError, ConnectionError):
        while time.monotonic() - began < patience:
            peer.send(b"x")
            time.sleep(every)
            if peer.over:
                break
    kept = round(time.monotonic() - began, 2)
    peer.close()
    return {"kept_s": kept, "counters": victim.status["counters"]}


def no_descriptors(victim: Victim, *, connections: int = 1000, seconds: float = 5, allowed: int = 256) -> Figures:
    """More connections than there are descriptors. The victim must let strangers take all that there are."""
    victim.allow_descriptors(allowed)
    with echoes(victim, SELDOM) as asking:
        load = Load(victim)
        attackers = [connect(victim.port, next(SOURCES)) for _ in range(connections)]
        until_still(lambda: victim.descriptors)
        storm, load = load.share, Load(victim)
        asking.took.clear()
        used = victim.descriptors
        refused_since = _come_back(attackers, victim.port, seconds)
        full, took = load.share, list(asking.took)
        counters = victim.status["counters"]
        for sock in attackers:
            sock.close()
        recovery = _until_served(victim.port)
    return {
        "descriptors_in_use": used,
        "cpu_in_the_storm": round(storm, 3),
        "cpu_while_full": round(full, 4),
        "came_back": refused_since,
        "echo_ms": in_ms(took),
        "channel_lost": asking.broken,
        "recovery_s": recovery,
        "counters": counters,
    }


def _come_back(attackers: list[socket.socket], port: int, seconds: float) -> int:
    """Connect again, twenty times a second, for those who were sent away."""
    ends, tries = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        with suppress(OSError):
            attackers.append(connect(port, next(SOURCES)))
        tries += 1
        time.sleep(0.05)
    return tries


def _until_served(port: int, patience: float = 10) -> float | None:
    """Seconds until an honest peer gets acquainted again."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        if honest_handshake(port) is not None:
            return round(time.monotonic() - began, 3)
        time.sleep(0.01)
    return None


def emfile(victim: Victim, *, seconds: float = 3) -> Figures:
    """The system itself refuses to accept: there are no more descriptors at all."""
    with echoes(victim, SELDOM) as asking:
        before = victim.status["counters"]
        victim.allow_descriptors(victim.descriptors - 5)
        attackers = [connect(victim.port, next(SOURCES)) for _ in range(100)]
        until_still(lambda: victim.descriptors)
        asking.took.clear()
        load = Load(victim)
        time.sleep(seconds)
        full, took = load.share, list(asking.took)
        victim.allow_descriptors(1024)
        for sock in attackers:
            sock.close()
        recovery = _until_served(victim.port)
    counters = victim.status["counters"]
    return {
        "cpu_while_full": round(full, 4),
        "echo_ms": in_ms(took),
        "channel_lost": asking.broken,
        "recovery_s": recovery,
        "accept_failed": counters.get("accept_failed", 0) - before.get("accept_failed", 0),
    }


def churn(victim: Victim, *, connections: int = 10_000, handshakes: int = 2_000) -> Figures:
    """Many who connect and leave, orderly or not, at once or in the middle of TLS."""
    _come_and_go(victim, connections // 10, handshakes // 10)  # what is kept for ever is paid by now
    before = victim.settled()
    began = time.monotonic()
    _come_and_go(victim, connections, handshakes)
    took = time.monotonic() - began
    after = victim.settled()
    return {
        "seconds": round(took, 1),
        "descriptors": after["fds"] - before["fds"],
        "greenlets": after["greenlets"] - before["greenlets"],
        "memory_mb": round((after["rss"] - before["rss"]) / 1e6, 2),
        "counters": after["counters"],
    }


def _come_and_go(victim: Victim, connections: int, handshakes: int) -> None:
    said = client_hello()
    for number in range(connections):
        sock = connect(victim.port, next(SOURCES))
        reset(sock) if number % 2 else sock.close()
    for number in range(handshakes):
        sock = connect(victim.port, next(SOURCES))
        with suppress(OSError):
            sock.sendall(said[: len(said) if number % 2 else 100])
            if number % 2:
                sock.recv(1)  # until it has done its part
        reset(sock) if number % 4 < 2 else sock.close()


def flood(victim: Victim, *, seconds: float = 10) -> Figures:
    """One untrusted peer that sends tiny messages as fast as it can."""
    flooder = Peer(victim.port, next(SOURCES))
    over = threading.Event()
    sent = 0

    def pour() -> None:
        nonlocal sent
        batch = message("x") * 500
        with suppress(OSError, ConnectionError):
            while not over.is_set():
                flooder.send(batch)
                sent += 500

    pouring = threading.Thread(target=pour, daemon=True)
    with victim.read_by_somebody(), echoes(victim) as asking:
        pouring.start()
        until(lambda: victim.status["counters"].get("throttled"))
        asking.took.clear()
        load = Load(victim)
        time.sleep(seconds)
        share, took, status = load.share, list(asking.took), victim.status
        over.set()
        flooder.sock.shutdown(socket.SHUT_RDWR)
        pouring.join()
    flooder.close()
    return {
        "sent": sent,
        "cpu": round(share, 3),
        "echo_ms": in_ms(took),
        "channel_lost": asking.broken,
        "hub_lag_ms": status["hub_lag_ms"],
        "throttled": status["counters"].get("throttled", 0),
        "counters": status["counters"],
    }
