"""DurableReporter: tells what becomes of stored packets that are not delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from peernet.durable.delivery import Verdict
from peernet.durable.owner import DurableOwner
from peernet.durable.packet import Setback
from peernet.runtime.logs import get_logger
from peernet.runtime.text import short

logger = get_logger(__name__)


class DurableReporter:
    """Counts, logs, and has the network fire its event. Listeners may wait, so it is used in a greenlet.

    Args:
        owner: the network.
    """

    def __init__(self, owner: DurableOwner) -> None:
        self._owner = owner

    def tell_refused(self, peer: str, verdicts: Sequence[Verdict]) -> None:
        """Packets were refused, or are acknowledged, which is not told."""
        refused = Counter(reason for _, reason in verdicts if reason is not None)
        for reason, count in refused.items():
            self._owner.counters["durable_refused"] += count
            logger.warning("durable outbox: %s for %s refused: %s", _packets(count), short(peer), reason.sentence)

    def tell_set_back(self, peer: str, setbacks: Sequence[Setback], ids: Mapping[int, bytes]) -> None:
        """Callbacks have failed. Of the packets that are set aside it is told, once.

        Args:
            peer: its identifier.
            setbacks: what has become of each packet.
            ids: of the packets that are still stored, by their numbers.
        """
        aside = [setback for setback in setbacks if setback.pause is None and setback.number in ids]
        if not aside:
            return
        self._owner.counters["durable_aside"] += len(aside)
        logger.warning(
            "durable outbox: %s for %s set aside, because its callback failed %d times; "
            "`peernet-node outbox retry` sends again what is set aside",
            _packets(len(aside)),
            short(peer),
            max(setback.attempts for setback in aside),
        )
        for setback in aside:
            self._owner.on_set_aside(peer, ids[setback.number], setback.attempts)


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count} packets"
