"""What programs see of a channel."""

from __future__ import annotations

from typing import Any

import gevent

from peernet.channel.state import ChannelState
from peernet.errors import ChannelClosedError, PingTimeout
from peernet.reasons import Reason
from tests.support import scaled
from tests.unit.channels import Setup

OPEN, RECONNECTING, CLOSED = ChannelState.OPEN, ChannelState.RECONNECTING, ChannelState.CLOSED


def test_a_ping_ends_with_the_connection(setup: Setup) -> None:
    def ping() -> Any:
        try:
            return setup.channel.ping(scaled(60))
        except (PingTimeout, ChannelClosedError) as error:
            return error

    asking = gevent.spawn(ping)
    gevent.sleep(0)
    setup.lose()
    assert isinstance(asking.get(timeout=scaled(5)), PingTimeout)
    setup.reconnect()
    asking = gevent.spawn(ping)
    gevent.sleep(0)
    setup.control.end(Reason.SHUTDOWN)
    assert isinstance(asking.get(timeout=scaled(5)), ChannelClosedError)
