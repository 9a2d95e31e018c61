"""Refusals: a line for the first packet that is refused, and few for those that follow."""

from __future__ import annotations

from collections.abc import Callable

from peernet.channel.channel import PeerChannel
from peernet.trust.policy import Decision

# There is at most one line about a peer and a kind of packet in that time. Seconds.
INTERVAL = 5.0

# Called with the channel, the kind, why, and how many packets the line is about.
Tell = Callable[[PeerChannel, str, Decision, int], None]


class _Refused:
    """What was refused of one kind on one channel since it was told last."""

    __slots__ = ("count", "decision", "told_at")

    def __init__(self, decision: Decision, told_at: float) -> None:
        self.decision = decision
        self.told_at = told_at
        self.count = 0


class Refusals:
    """Counts refused packets, so that a peer cannot cause a line with each.

    It keeps an entry for each channel that lives and kind that was refused on it lately.

    Args:
        tell: makes the line.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._refused: dict[PeerChannel, dict[str, _Refused]] = {}

    def note(self, channel: PeerChannel, kind: str, decision: Decision, now: float) -> bool:
        """Take note of a refused packet at ``now``, in monotonic seconds. Returns whether a line was made."""
        kinds = self._refused.setdefault(channel, {})
        entry = kinds.get(kind)
        if entry is None:
            kinds[kind] = _Refused(decision, now)
            self._tell(channel, kind, decision, 1)
            return True
        entry.decision = decision
        entry.count += 1
        return False

    def tell_due(self, now: float) -> None:
        """Tell what was counted since the line before, if that is long enough ago; call it now and then."""
        for channel, kinds in list(self._refused.items()):
            due = [(kind, entry) for kind, entry in kinds.items() if now - entry.told_at >= INTERVAL]
            for kind, entry in due:
                if self._tell_rest(channel, kind, entry):
                    entry.told_at = now
                else:
                    del kinds[kind]
            if not kinds:
                del self._refused[channel]

    def close(self, channel: PeerChannel) -> None:
        """Tell the rest about a channel that has ended."""
        for kind, entry in self._refused.pop(channel, {}).items():
            self._tell_rest(channel, kind, entry)

    def _tell_rest(self, channel: PeerChannel, kind: str, entry: _Refused) -> bool:
        count, entry.count = entry.count, 0
        if count:
            self._tell(channel, kind, entry.decision, count)
        return bool(count)
