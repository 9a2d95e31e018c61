"""What both halves of the fuzzing of sessions need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire import session as sessions
from peernet.wire.session import Session
from tests.fuzz.fates import ACKNOWLEDGED

WAITS = "waits"  # what becomes of a packet whose callback takes its time
VERDICTS: tuple[str | Reason, ...] = (ACKNOWLEDGED, Reason.UNHANDLED, Reason.NOT_PERMITTED, WAITS)
LOOK_EVERY = 4  # steps: at every packet that there was
MAX_PACKETS, MAX_BYTES = 8, 100
REFUSALS_PER_PACKET = 3  # so that some refusals need several packets
LARGE = 12  # and more: in two parts


@contextmanager
def small_packets() -> Iterator[None]:
    """Let few refusals fit into a packet."""
    kept = sessions.REFUSALS_PER_PACKET
    try:
        sessions.REFUSALS_PER_PACKET = REFUSALS_PER_PACKET
        yield
    finally:
        sessions.REFUSALS_PER_PACKET = kept


def session(session_id: int, peer: int) -> Session:
    made = Session(session_id, max_packets=MAX_PACKETS, max_bytes=MAX_BYTES)
    made.begin(peer)
    return made


def told(one: Session) -> pb.HelloPacket:
    hello = pb.HelloPacket()
    one.introduce(hello)
    return hello


def check_kept(one: Session, frames: list[bytes]) -> None:
    """What is kept is what was sent and not acknowledged, and nothing of it is forgotten or counted twice."""
    kept = frames[one.acknowledged :]
    contents = iter(one.contents)
    assert [
        begin if begin == frame else begin + next(contents) for begin, frame in zip(one.kept, kept, strict=True)
    ] == kept
    assert list(contents) == []
    assert one.kept_bytes == sum(map(len, kept))
    assert one.full is (len(kept) >= MAX_PACKETS or one.kept_bytes >= MAX_BYTES)
    assert one.half_empty is (2 * len(kept) <= MAX_PACKETS and 2 * one.kept_bytes <= MAX_BYTES)
