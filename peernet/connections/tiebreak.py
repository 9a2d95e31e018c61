"""TieBreak: which of several connections that are being made with one peer may go on.

Two peers that dial each other at the same moment must end with one channel, the same
on both sides, and without one having opened what the other closes. Therefore the one
with the smaller identifier decides. As soon as it says hello on its own dial, it refuses
the other's dial until its own has ended; and once it answers the other's, it gives up its
own before it has said hello there. The one with the larger identifier answers in any case.
"""

from __future__ import annotations


class TieBreak:
    """The connections of one node that are past their hello, and not yet open or given up.

    Args:
        identifier: the node's own.
    """

    def __init__(self, identifier: str) -> None:
        self._identifier = identifier
        self._dialled: set[str] = set()
        self._answered: set[str] = set()

    @property
    def answered(self) -> int:
        """How many connections that others have dialled are neither open nor given up."""
        return len(self._answered)

    def dial(self, peer: str) -> Claim | None:
        """Before our hello on our own dial; ``None``: give that dial up."""
        if peer in self._dialled or peer in self._answered:
            return None
        return Claim(self._dialled, peer)

    def answer(self, peer: str) -> Claim | None:
        """Before our hello on a connection that the peer has dialled; ``None``: refuse it as a duplicate."""
        decides = self._identifier < peer
        if peer in self._answered or (decides and peer in self._dialled):
            return None
        return Claim(self._answered, peer)


class Claim:
    """One connection that may go on. Release it when it is open or given up."""

    def __init__(self, claimed: set[str], peer: str) -> None:
        self._claimed = claimed
        self._peer = peer
        self._held = True
        claimed.add(peer)

    def release(self) -> None:
        """Let others go on. Idempotent."""
        if self._held:
            self._held = False
            self._claimed.discard(self._peer)
