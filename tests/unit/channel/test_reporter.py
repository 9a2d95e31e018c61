"""What a network is told, and what is counted."""

from __future__ import annotations

from collections import Counter

from peernet.channel.reporter import Reporter
from peernet.config import NetworkConfig
from tests.unit.channels import Owner


def test_what_happens_is_counted_on_the_channel_and_in_the_network() -> None:
    owner = Owner(NetworkConfig())
    one, other = Reporter(owner), Reporter(owner)
    one.count("refused")
    one.count("refused")
    other.count("refused")
    assert (one.counters, other.counters) == (Counter(refused=2), Counter(refused=1))
    assert owner.counters == Counter(refused=3)


def test_the_network_is_told_of_the_channel_that_programs_see() -> None:
    owner, told = Owner(NetworkConfig()), list[object]()
    reporter = Reporter(owner)
    reporter.channel = channel = object()
    for what in ("reconnecting", "trust changed", "failing", "closed"):
        owner.hooks[what] = told.append
    reporter.reconnecting()
    reporter.trust_changed()
    reporter.handler_failing("pure_message", ValueError())
    reporter.closed()
    assert owner.events() == ["reconnecting", "trust changed", "failing", "closed"]
    assert told == [channel] * 4
