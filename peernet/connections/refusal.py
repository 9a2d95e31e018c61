"""Refusal: this side does not want a connection; what it says to the other side, and why."""

from __future__ import annotations

from peernet.errors import PeerNetError
from peernet.reasons import Reason
from peernet.wire.disconnect import refusal_packet


class Refusal(PeerNetError):
    """This side refuses the other; ``goodbye`` is what the other is told, the error's text what this side is.

    ``identifier`` is who it claims to be, ``culprit`` who TLS had proven it to be by then, if it had.
    """

    culprit = ""

    def __init__(
        self, reason: Reason, message: str = "", *, rule: str = "", why: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(why or message or reason.sentence)
        self.identifier = ""
        self.reason = reason
        self.rule = rule or reason.value
        self.goodbye = refusal_packet(reason, message, retry_after)
