"""The packet that says why."""

from __future__ import annotations

from peernet.reasons import Reason
from peernet.text import MAX_TEXT
from peernet.v1 import packet_pb2 as pb


def goodbye_packet(reason: Reason, message: str = "", retry_after: float = 0.0) -> pb.DisconnectPacket:
    """A disconnect packet; ``retry_after`` in seconds."""
    return pb.DisconnectPacket(
        reason=reason.number, message=message[:MAX_TEXT], retry_after_ms=round(retry_after * 1000)
    )
