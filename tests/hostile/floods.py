"""Peers that say what may be said, far too often, or do not listen."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import repeat

from tests.hostile.honest import SOURCES, Figures
from tests.hostile.node import Load, Program, Victim
from tests.hostile.raw import Peer, identity
from tests.hostile.reasons import name_of
from tests.hostile.watching import watching
from tests.hostile.wire import (
    acknowledge,
    content,
    disconnect,
    frame,
    heartbeat,
    hello,
    message,
    reason_of,
    session,
)

DATA_TRANSMISSION = 23  # the field of its body
BATCH = 200  # frames in one write


def batches(frames: Iterable[bytes], size: int = BATCH) -> Iterator[bytes]:
    """Frames, many at a time."""
    one = iter(frames)
    while batch := b"".join(frame for frame, _ in zip(one, range(size), strict=False)):
        yield batch


def acknowledgements(victim: Victim, *, packets: int = 1_000_000) -> Figures:
    """A storm of acknowledgements, by a peer with a session and with nothing to acknowledge."""
    return _storm(victim, repeat(acknowledge(), packets))


def heartbeats(victim: Victim, *, packets: int = 1_000_000) -> Figures:
    """A storm of heartbeats that ask for nothing."""
    return _storm(victim, repeat(heartbeat(), packets))


def _storm(victim: Victim, frames: Iterable[bytes]) -> Figures:
    with victim.read_by_somebody(), watching(victim) as watch:
        peer = Peer(victim.port, next(SOURCES), None, hello("peernet", session(1)))
        load, began = Load(victim), time.monotonic()
        for batch in batches(frames):
            peer.send(batch)
        peer.echo()
        share, took = load.share, time.monotonic() - began
        answers = len(peer.pending())
        figures = watch.figures
        peer.say_goodbye()
    return {**figures, "seconds": round(took, 1), "cpu": round(share, 2), "answers": answers}


def unwanted(victim: Victim, *, peers: int = 50, packets: int = 64, size: int = 1_000_000) -> Figures:
    """Strangers who send, all at once, large packets of a kind that is refused: what is held of them?"""
    data = frame(content(DATA_TRANSMISSION, content(2, bytes(size))))
    strangers = [Peer(victim.port, next(SOURCES), None, hello("peernet", session(1))) for _ in range(peers)]
    with watching(victim) as watch:
        sending = [threading.Thread(target=_send_often, args=(one, data, packets)) for one in strangers]
        for thread in sending:
            thread.start()
        for thread in sending:
            thread.join()
        for one in strangers:
            one.echo()
        figures = {**watch.figures, "counters": victim.status["counters"]}
    for one in strangers:
        one.say_goodbye()
    return figures


def _send_often(peer: Peer, data: bytes, times: int) -> None:
    for _ in range(times):
        peer.send(data)
        peer.pending()


def questions(victim: Victim, *, packets: int = 20_000) -> Figures:
    """Heartbeats that ask for answers, which are read: how many answers come, and to what."""
    with watching(victim) as watch:
        peer = Peer(victim.port, next(SOURCES))
        answers = Counter[bytes]()
        for batch in batches(map(heartbeat, range(1, packets + 1))):
            peer.send(batch)
            answers.update(peer.pending())
        peer.echo()
        answers.update(peer.pending())
        figures = watch.figures
        peer.say_goodbye()
    return {
        **figures,
        "questions": packets,
        "answers": sum(answers.values()),
        "most_answers_to_one": max(answers.values()),
        "bytes_for_each_byte": round(sum(map(len, answers.elements())) / (packets * len(heartbeat(packets))), 2),
    }


def deaf(victim: Victim, *, peers: int = 8, patience: float = 60) -> Figures:
    """Peers that ask for answers all the time and never read one. When they are cut off, and what they cost.

    The victim must not limit their frames, or the answers would take long to fill what the system holds.
    """
    with watching(victim) as watch:
        asking = [Peer(victim.port, next(SOURCES), buffer=4096) for _ in range(peers)]
        began, kept = time.monotonic(), list[float]()
        ask = b"".join(heartbeat(1 << 60 | one) for one in range(BATCH))
        while asking and time.monotonic() - began < patience:
            for peer in list(asking):
                if not _asks(peer, ask):
                    kept.append(round(time.monotonic() - began, 1))
                    asking.remove(peer)
            time.sleep(0.001)
        figures = watch.figures
        for peer in asking:
            peer.close()
        return {**figures, **watch.left(), "cut_after_s": kept, "counters": victim.status["counters"]}


def _asks(peer: Peer, data: bytes) -> bool:
    """Send what can be sent now. Returns whether the connection lives."""
    from OpenSSL import SSL

    try:
        peer.tls.send(data)
    except (SSL.WantWriteError, SSL.WantReadError):
        return True
    except SSL.Error:
        return False
    return True


def silent(victim: Victim, *, peers: int = 20, patience: float = 90) -> Figures:
    """Peers that say hello and never anything more, as one whose machine has died."""
    with watching(victim, 0.05) as watch:
        quiet = [Peer(victim.port, next(SOURCES)) for _ in range(peers)]
        began = time.monotonic()
        reasons = Counter(name_of(_last_words(peer, patience)) for peer in quiet)
        took, figures = time.monotonic() - began, watch.figures
        for peer in quiet:
            peer.close()
        return {**figures, **watch.left(), "reasons": dict(reasons), "noticed_after_s": round(took, 1)}


def _last_words(peer: Peer, patience: float) -> int | None:
    """The reason in the goodbye that will come; meanwhile nothing is said."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        for packet in peer.pending():
            reason = reason_of(packet)
            if reason is not None:
                return reason
        if peer.over:
            return None
        time.sleep(0.05)
    raise TimeoutError("the node did not notice that nobody is there")


def rude(victim: Victim, *, times: int = 200) -> Figures:
    """Hellos and goodbyes where they do not belong, and many of them at once."""
    again = [hello()] * 50
    cases = {
        "hello twice": again,
        "hello, and a session, in the midst": [message("x"), hello("peernet", session(5)), message("y")],
        "goodbyes": [disconnect()] * 10_000,
        "goodbyes that mean to come back": [disconnect(16)] * 10_000,
        "a goodbye, and then packets": [disconnect(), *[message("late")] * 5000],
        "an acknowledgement of what was never sent": [acknowledge(1 << 50)],
    }
    with victim.read_by_somebody(), watching(victim) as watch:
        outcomes = {name: dict(_tell(victim, frames, times)) for name, frames in cases.items()}
        return {**watch.figures, "outcomes": outcomes, "errors_in_log": victim.log.count("Traceback")}


def _tell(victim: Victim, frames: list[bytes], times: int) -> Counter[str]:
    outcomes, data = Counter[str](), b"".join(frames)
    for one in range(times):
        peer = Peer(victim.port, next(SOURCES), None, hello("peernet", session(one + 1)))
        with suppress(ConnectionError):
            peer.send(data)
        outcomes[name_of(peer.reason())] += 1
        peer.close()
    return outcomes


def impostors(victim: Victim, *, attempts: int = 1000) -> Figures:
    """Hellos that claim the session of somebody else, whose numbers are even known, and ones that lie of their own."""
    owner, mine = identity(), identity()
    peer = Peer(victim.port, next(SOURCES), owner[0], hello("peernet", session(77)))
    theirs = peer.session
    outcomes = Counter[str]()
    with victim.read_by_somebody(), watching(victim) as watch:
        for attempt in range(attempts):
            greeting = hello("peernet", session(77, theirs, attempt, attempt))
            thief = Peer(victim.port, next(SOURCES), None, greeting)
            outcomes["resumed" if thief.resumed else "a session of its own"] += 1
            thief.say_goodbye()
        for number in (1, 1 << 40, (1 << 64) - 1):
            liar = Peer(victim.port, next(SOURCES), mine[0], hello("peernet", session(9)))
            own = liar.session
            liar.close()
            liar = Peer(victim.port, next(SOURCES), mine[0], hello("peernet", session(9, own, number, number)))
            outcomes["a lie: " + name_of(liar.reason())] += 1
            liar.close()
        alive = peer.echo() > 0
        figures = watch.figures
    peer.say_goodbye()
    return {**figures, "outcomes": dict(outcomes), "the_owner_noticed_nothing": alive}


def comebacks(program: Program, *, attempts: int = 50) -> Figures:
    """One identity that comes back each time after it has broken the protocol. The program exempts nobody from bans."""
    context, _ = identity()
    outcomes, first_ban = Counter[str](), 0
    for attempt in range(1, attempts + 1):
        try:
            peer = Peer(program.port, next(SOURCES), context)
        except ConnectionError as error:
            outcomes[str(error)] += 1
            first_ban = first_ban or attempt
            continue
        peer.send(hello())
        outcomes[name_of(peer.reason())] += 1
        peer.close()
    return {"outcomes": dict(outcomes), "first_refused": first_ban, "counters": program.stop()}


def reconnects(victim: Victim, *, attempts: int = 200) -> Figures:
    """One identity that connects again and again, without leaving, each time without a session that is known."""
    context, _ = identity()
    outcomes, peers = Counter[str](), list[Peer]()
    with victim.read_by_somebody(), watching(victim) as watch:
        for attempt in range(attempts):
            try:
                peers.append(Peer(victim.port, next(SOURCES), context, hello("peernet", session(attempt + 1))))
                outcomes["let in"] += 1
            except ConnectionError as error:
                outcomes[str(error)] += 1
        channels, figures = victim.status["channels"], watch.figures
        for peer in peers:
            peer.close()
    return {**figures, "outcomes": dict(outcomes), "channels": channels - 1}
