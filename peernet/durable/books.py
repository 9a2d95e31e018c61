"""Books: what the durable outbox knows of its file without reading it, and who waits for what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from peernet.config import NetworkConfig
from peernet.durable.delivery import Verdict
from peernet.durable.packet import Backlog, NewPacket, Setback
from peernet.durable.quota import Quota
from peernet.durable.receipt import DurableReceipt
from peernet.durable.retries import Retries
from peernet.reasons import Reason

Settled = tuple[tuple[int, int], dict[int, bytes]]
"""How many packets were removed, and their bytes; and the ids of those that were set back, by their numbers."""
Dropped = tuple[list[int], int, int]
"""The numbers of packets that were removed, their bytes, and how many of them were set aside."""


class Books:
    """Notes what the file has done. Nothing here waits, and nothing is noted before it is in the file.

    Args:
        config: the limits.
        backlogs: what is stored now, by peer.

    Attributes:
        quota: how much is stored for whom.
        retries: the packets whose callback has failed and that are sent again.
    """

    def __init__(self, config: NetworkConfig, backlogs: Mapping[str, Backlog]) -> None:
        self.quota = Quota(config, dict(backlogs))
        self.retries = Retries(config)
        # Given by whoever sends; in order, each once.
        self._addresses = {peer: dict.fromkeys(sorted(found.addresses)) for peer, found in backlogs.items()}
        self._receipts: dict[int, DurableReceipt] = {}

    @property
    def awaited(self) -> bool:
        """Whether somebody's receipt is open."""
        return bool(self._receipts)

    def addresses(self, peer: str) -> Iterable[str]:
        """Where whoever has sent to a peer says that it can be dialled."""
        return self._addresses.get(peer, ())

    def stored(self, packet: NewPacket, receipt: DurableReceipt) -> None:
        """A packet is in the file; its receipt has its number."""
        self._receipts[receipt.number] = receipt
        if packet.address:
            self._addresses.setdefault(packet.peer, {})[packet.address] = None

    def dropped(self, peer: str, dropped: Dropped) -> None:
        """All packets for a peer are removed, because somebody wanted it."""
        numbers, size, aside = dropped
        self.quota.set_aside(peer, -aside)
        self.retries.discard(peer, numbers)
        self._forget(peer, len(numbers), size)
        self._settle_receipts((number, Reason.DROPPED) for number in numbers)

    def put_back(self, peer: str, numbers: Sequence[int]) -> None:
        """Packets are not set aside any more. Their attempts begin anew."""
        self.quota.set_aside(peer, -len(numbers))
        for number in numbers:
            self.retries.add(peer, number, attempts=0, pause=0.0)

    def settled(self, peer: str, final: Sequence[Verdict], setbacks: Sequence[Setback], settled: Settled) -> None:
        """What the peer has said of packets is in the file.

        Whoever waits for a receipt learns of it now: what he knows to be done is neither stored nor counted.
        """
        (packets, size), found = settled
        self.retries.discard(peer, (number for number, _ in final))
        for setback in setbacks:
            if setback.number in found:
                self._set_back(peer, setback)
        self._forget(peer, packets, size)
        self._settle_receipts(final)

    def close(self) -> None:
        """The network stops: what is stored stays so, and whoever waits for it is told."""
        receipts, self._receipts = self._receipts, {}
        for receipt in receipts.values():
            receipt.settle(Reason.SHUTDOWN)

    def _set_back(self, peer: str, setback: Setback) -> None:
        if setback.pause is not None:
            return self.retries.add(peer, setback.number, setback.attempts, setback.pause)
        self.quota.set_aside(peer, 1)
        self.retries.discard(peer, [setback.number])
        return self._settle_receipts([(setback.number, Reason.HANDLER_FAILED)])

    def _forget(self, peer: str, packets: int, size: int) -> None:
        self.quota.give_back(peer, packets, size)
        if peer not in self.quota:
            self._addresses.pop(peer, None)

    def _settle_receipts(self, verdicts: Iterable[Verdict]) -> None:
        for number, reason in verdicts:
            receipt = self._receipts.pop(number, None)
            if receipt is not None:
                receipt.settle(reason)
