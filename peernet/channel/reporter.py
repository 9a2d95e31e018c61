"""Reporter: what the parts of a channel tell the network that it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from peernet.channel.acknowledger import AcknowledgeTimer
from peernet.channel.handlers import PacketHandleProtocol
from peernet.config import NetworkConfig
from peernet.runtime.events import Event
from peernet.runtime.greenlets import OwnedGroup
from peernet.runtime.threads import CallbackThreads, HomeThread
from peernet.trust.policy import CONTROL, Decision, IncomingPeerTrustPolicy
from peernet.v1.packet_pb2 import Packet


class ChannelOwner(Protocol):
    """What a channel needs of its network. The ``channel`` that it tells of is the one that programs see."""

    config: NetworkConfig
    handlers: PacketHandleProtocol
    counters: Counter[str]
    packet_received: Event[[Any, Packet]]
    acknowledge_timer: AcknowledgeTimer
    threads: CallbackThreads
    greenlets: OwnedGroup
    home: HomeThread

    @property
    def policy(self) -> IncomingPeerTrustPolicy: ...

    def may_hold(self, size: int, contents: Sequence[bytes]) -> bool:
        """Whether a channel may hold so many bytes more in memory, among them what others may hold as well."""

    def on_refused(self, channel: Any, kind: str, decision: Decision) -> None: ...

    def on_handler_failing(self, channel: Any, kind: str, error: BaseException) -> None: ...

    def on_trust_changed(self, channel: Any) -> None: ...

    def on_reconnecting(self, channel: Any) -> None: ...

    def on_closed(self, channel: Any) -> None: ...


class Reporter:
    """Speaks for one channel to its network, and counts.

    Args:
        owner: the network.

    Attributes:
        channel: the channel as programs see it, for callbacks and listeners. The parts pass it on, and never
            look into it. Set once, when the parts are put together.
    """

    __slots__ = ("_counters", "_owner", "channel")

    channel: Any

    def __init__(self, owner: ChannelOwner) -> None:
        self._owner = owner
        self._counters: Counter[str] | None = None  # most channels have nothing to count

    @property
    def counters(self) -> Counter[str]:
        """How many of what has happened on this channel."""
        if self._counters is None:
            self._counters = Counter()
        return self._counters

    def count(self, what: str) -> None:
        """Count something that has happened, here and in the network."""
        self.counters[what] += 1
        self._owner.counters[what] += 1

    def permitted_kinds(self) -> frozenset[str]:
        """The kinds of packets that the policy permits now, without those of the protocol itself."""
        return _without_control(self._owner.policy.permitted_kinds(self.channel))

    def refused(self, kind: str) -> None:
        """A packet was refused, because the policy does not permit its kind."""
        self._owner.on_refused(self.channel, kind, self._owner.policy.permits(kind, self.channel))

    def handler_failing(self, kind: str, error: BaseException) -> None:
        """A callback fails again and again."""
        self._owner.on_handler_failing(self.channel, kind, error)

    def trust_changed(self) -> None:
        """The peer is trusted now, or is no longer."""
        self._owner.on_trust_changed(self.channel)

    def reconnecting(self) -> None:
        """The connection is lost, and the channel waits for another one."""
        self._owner.on_reconnecting(self.channel)

    def closed(self) -> None:
        """The channel has ended."""
        self._owner.on_closed(self.channel)


@lru_cache(maxsize=64)
def _without_control(kinds: frozenset[str]) -> frozenset[str]:
    """Kinds but those of the protocol; most channels share one set."""
    return kinds - CONTROL
