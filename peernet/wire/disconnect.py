"""Disconnects: what is said in one, and what follows from it.

:data:`OUTCOMES` is the one table of what becomes of a session when a connection ends, and of whether the side that
dialled dials again. :data:`TIMEOUTS` says which reason each timeout of this side is told with. The specification
shows both tables as they stand here.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from peernet.reasons import Reason
from peernet.runtime.text import printable
from peernet.v1 import packet_pb2 as pb

MAX_RETRY_AFTER = 2**32 - 1  # what the field holds; milliseconds


class Phase(Enum):
    """How far a connection has come when it ends."""

    HANDSHAKE = "handshake"
    """Before both hellos, and no session was to be resumed."""
    REDIAL = "redial"
    """Before both hellos, when the side that has dialled wanted to resume a session."""
    OPEN = "open"
    """After both hellos."""


class Outcome(Enum):
    """What follows for the session, and for the side that has dialled."""

    KEPT = "session kept"
    """The session waits for another connection. The side that has dialled dials again soon."""
    REDIAL = "redial"
    """The side that has dialled may dial again, after a pause. A session that was to be resumed is kept."""
    END = "end"
    """The session ends, if there is one. Nobody dials again on his own account."""


_KEPT, _REDIAL, _END = Outcome

# reason -> what follows in each phase. A reason of the others, a number that only newer peers know among them, counts
# as UNSPECIFIED. CONNECTION_LOST is no disconnect at all: the connection breaks, or ends without a word.
OUTCOMES: dict[Reason, tuple[Outcome, Outcome, Outcome]] = {
    # reason                     handshake redial   open
    Reason.UNSPECIFIED: (_END, _REDIAL, _END),
    Reason.CLOSED: (_END, _REDIAL, _END),
    Reason.SHUTDOWN: (_END, _REDIAL, _END),
    Reason.WRONG_VERSION: (_END, _END, _END),
    Reason.WRONG_NETWORK: (_END, _END, _END),
    Reason.BLOCKED: (_END, _END, _END),
    Reason.NOT_ALLOWED: (_END, _END, _END),
    Reason.REJECTED: (_END, _END, _END),
    Reason.DECISION_TIMEOUT: (_END, _REDIAL, _END),
    Reason.BUSY: (_REDIAL, _REDIAL, _END),
    Reason.DUPLICATE: (_END, _REDIAL, _KEPT),
    Reason.SELF_CONNECTION: (_END, _END, _END),
    Reason.BAD_PACKET: (_END, _REDIAL, _END),
    Reason.FRAME_TOO_BIG: (_END, _REDIAL, _END),
    Reason.UNEXPECTED_PACKET: (_END, _REDIAL, _END),
    Reason.SLOW_PEER: (_END, _REDIAL, _END),
    Reason.TIMEOUT: (_END, _REDIAL, _KEPT),
    Reason.HANDSHAKE_TIMEOUT: (_END, _REDIAL, _END),
    Reason.ORIGIN_MISMATCH: (_END, _REDIAL, _END),
    Reason.RATE_LIMITED: (_END, _REDIAL, _END),
    Reason.BANNED: (_END, _END, _END),
    Reason.INTERNAL_ERROR: (_END, _REDIAL, _END),
    Reason.CONNECTION_LOST: (_REDIAL, _REDIAL, _KEPT),
}


def outcome(reason: Reason, phase: Phase, *, do_not_redial: bool = False) -> Outcome:
    """What follows from the end of a connection.

    Args:
        reason: what the disconnect said; ``CONNECTION_LOST`` if there was none.
        phase: how far the connection had come.
        do_not_redial: what the disconnect asked for. It ends what a redial would go on with; an open session that the
            reason keeps stays.
    """
    row = OUTCOMES.get(reason, OUTCOMES[Reason.UNSPECIFIED])
    found = row[list(Phase).index(phase)]
    return Outcome.END if do_not_redial and found is Outcome.REDIAL else found


def keeps_session(reason: Reason) -> bool:
    """Whether the end of an open connection for this reason leaves the session over it alive."""
    return outcome(reason, Phase.OPEN) is Outcome.KEPT


class Timeout(NamedTuple):
    """What happens when one of this side's times is over.

    Attributes:
        phase: in which it runs.
        reason: what the other side is told; ``None`` if there is nobody to tell.
        passed: what has not happened in time.
    """

    phase: Phase
    reason: Reason | None
    passed: str

    @property
    def outcome(self) -> Outcome:
        """What follows."""
        return Outcome.END if self.reason is None else outcome(self.reason, self.phase)


# name of the limit in NetworkConfig -> what happens there.
TIMEOUTS: dict[str, Timeout] = {
    "handshake_timeout": Timeout(Phase.HANDSHAKE, Reason.HANDSHAKE_TIMEOUT, "both hellos are exchanged"),
    "decision_timeout": Timeout(Phase.OPEN, Reason.DECISION_TIMEOUT, "somebody accepts or rejects a pending peer"),
    "dead_after": Timeout(Phase.OPEN, Reason.TIMEOUT, "a byte comes from the peer"),
    "frame_timeout": Timeout(Phase.OPEN, Reason.TIMEOUT, "a frame that was begun comes as fast as it must"),
    "write_timeout": Timeout(Phase.OPEN, Reason.TIMEOUT, "the peer takes something of what is sent to it"),
    "session_ttl": Timeout(Phase.REDIAL, None, "a connection that was lost is replaced"),
}


def disconnect_packet(reason: Reason, message: str = "", retry_after: float = 0.0) -> pb.DisconnectPacket:
    """A disconnect packet; ``retry_after`` in seconds. A reason without a number is told as a sentence."""
    if not reason.number and reason is not Reason.UNSPECIFIED:
        message = message or reason.sentence
    retry_after_ms = min(max(0, round(retry_after * 1000)), MAX_RETRY_AFTER)
    return pb.DisconnectPacket(reason=reason.number, message=printable(message), retry_after_ms=retry_after_ms)


def refusal_packet(reason: Reason, message: str = "", retry_after: float = 0.0) -> pb.DisconnectPacket:
    """:func:`disconnect_packet` for a connection that is not wanted: without a message it says the reason's sentence.

    Whoever wrote the other side's client may know no reasons by number, and has nothing else to go by.
    """
    return disconnect_packet(reason, message or reason.sentence, retry_after)
