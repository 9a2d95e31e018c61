from __future__ import annotations

from typing import Any

import gevent

from peernet.config import NetworkConfig
from peernet.redialler import Redialler
from tests.unit.peers import FakeChannel


def test_a_channel_that_ends_before_it_is_dialled_again_is_not_remembered() -> None:
    redialler = Redialler(NetworkConfig(), lambda address, timeout: None)
    for _ in range(10):
        channel: Any = FakeChannel(dialled=True)
        channel.connected_at = 0.0
        redialler.restore(channel)
        redialler.forget(channel)
    gevent.sleep(0)  # in which the greenlets begin
    assert not redialler._records
    redialler.stop()


def test_channels_that_the_other_side_has_dialled_are_not_remembered() -> None:
    redialler = Redialler(NetworkConfig(), lambda address, timeout: None)
    redialler.restore(FakeChannel(dialled=False))  # type: ignore[arg-type]  # as much of one as is looked at
    assert not redialler._records
