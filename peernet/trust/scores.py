"""Misbehaviour: how much each kind of it counts, and the scores of those who did it. Times are passed in."""

from __future__ import annotations

from collections import OrderedDict

from peernet.peers.address import prefix_of
from peernet.reasons import Reason

# What no correct program does, and what a correct one may do once in a while (Bitcoin Core's scale:
# a peer is discouraged at 100 points).
MALFORMED = 100
RATE = 10

# How a connection ended -> points for it. Every other end may be nobody's fault: a peer that hangs up or falls
# silent in the middle of a stream has perhaps lost its network.
POINTS: dict[str, int] = {
    Reason.BAD_PACKET: MALFORMED,
    Reason.FRAME_TOO_BIG: MALFORMED,
    Reason.UNEXPECTED_PACKET: MALFORMED,
    Reason.ORIGIN_MISMATCH: MALFORMED,
    Reason.RATE_LIMITED: RATE,
    Reason.HANDSHAKE_FAILED: RATE,
    Reason.HANDSHAKE_TIMEOUT: RATE,
}

# One customer of a provider usually has a whole /56 of IPv6 (RIPE-690), and one IPv4 address.
IPV6_PREFIX = 56


def address_key(host: str) -> str | None:
    """What stands for an IP address: an IPv4 address itself, or an IPv6 /56; ``None`` if the text is none."""
    return prefix_of(host, 32, IPV6_PREFIX)


class Scores:
    """Points by culprit. They wear off evenly, and the culprit not heard of for longest is forgotten first.

    Args:
        size: how many culprits are remembered.
        decay: points that wear off in a minute.
    """

    def __init__(self, size: int, decay: float) -> None:
        self._size = size
        self._decay = decay / 60
        self._scores: OrderedDict[str, tuple[float, float]] = OrderedDict()  # culprit -> points, and when

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, culprit: str, now: float) -> float:
        """The points of a culprit at ``now``, in monotonic seconds."""
        points, since = self._scores.get(culprit, (0.0, now))
        return max(0.0, points - self._decay * max(0.0, now - since))

    def add(self, culprit: str, points: float, now: float, *, apart: float = 0.0) -> float:
        """Count something. Returns the points of the culprit after it.

        Args:
            culprit: who did it.
            points: how much it counts.
            now: monotonic seconds.
            apart: seconds after something was counted in which nothing more counts.
        """
        known = self._scores.get(culprit)
        if known is not None and now - known[1] < apart:
            return self.get(culprit, now)
        score = self.get(culprit, now) + points
        self._scores[culprit] = score, now
        self._scores.move_to_end(culprit)
        if len(self._scores) > self._size:
            self._scores.popitem(last=False)
        return score

    def forget(self, culprit: str) -> None:
        """Let a culprit start again; one that is not known is no error."""
        self._scores.pop(culprit, None)
