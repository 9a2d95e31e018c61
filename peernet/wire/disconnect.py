"""The packet that says why."""

from __future__ import annotations

from peernet.reasons import Reason
from peernet.runtime.text import printable
from peernet.v1 import packet_pb2 as pb

MAX_RETRY_AFTER = 2**32 - 1  # what the field holds; milliseconds


def disconnect_packet(reason: Reason, message: str = "", retry_after: float = 0.0) -> pb.DisconnectPacket:
    """A disconnect packet; ``retry_after`` in seconds. A reason without a number is told as a sentence."""
    if not reason.number and reason is not Reason.UNSPECIFIED:
        message = message or reason.sentence
    retry_after_ms = min(max(0, round(retry_after * 1000)), MAX_RETRY_AFTER)
    return pb.DisconnectPacket(reason=reason.number, message=printable(message), retry_after_ms=retry_after_ms)
