"""The end of a network for its peers: everybody is told, and what does not end by itself is cut off."""

from __future__ import annotations

from functools import partial

import gevent
from gevent.pool import Group

from peernet.channel.channel import PeerChannel
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.switch.switch import Switch

# How long greenlets get to end by themselves when all goodbyes are said. Seconds.
AFTER_GOODBYE = 0.5


def take_leave(switch: Switch, receiving: Group, deadline: Deadline) -> None:
    """Refuse those who wait, say goodbye to those who talk, and cut off what does not leave by itself.

    Args:
        switch: where the channels are; it lets nobody in any more.
        receiving: the greenlets of those who have dialled us.
        deadline: for all goodbyes together.
    """
    for attempt in switch.queue:
        attempt.reject(reason=Reason.SHUTDOWN)
    controls = list(switch.channels)
    say = partial(PeerChannel.close, reason=Reason.SHUTDOWN, timeout=deadline.remaining)
    gevent.joinall([spawn("goodbye", say, control.channel) for control in controls], timeout=deadline.remaining)
    for group in (receiving, switch.greenlets):
        group.join(timeout=deadline.cap(AFTER_GOODBYE))
        group.kill()
    for control in controls:
        control.kill_tasks()
