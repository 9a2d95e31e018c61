"""Shutdown: the end of a network for its peers. Everybody is told, and what does not end by itself is cut off."""

from __future__ import annotations

from functools import partial
from typing import Any

import gevent
from gevent.pool import Group

from peernet.channel.channel import PeerChannel
from peernet.channel.control import ChannelControl
from peernet.reasons import Reason
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.switch.switch import Switch

# How long greenlets get to end by themselves when all goodbyes are said. Seconds.
AFTER_GOODBYE = 0.5


class Shutdown:
    """Opens the switch to peers, and closes it.

    Args:
        switch: where the channels are.
        receiving: the greenlets of those who have dialled us.
    """

    def __init__(self, switch: Switch, receiving: Group) -> None:
        self._switch = switch
        self._groups = (receiving, switch.greenlets)

    def start(self) -> None:
        """Have peers let in. To be called before anybody can connect: until then they are told to go."""
        self._switch.closing = False

    def stop(self, timeout: float) -> None:
        """Let nobody in any more, refuse those who wait, say goodbye to those who talk, and cut off who does not leave.

        Args:
            timeout: seconds for all goodbyes together.
        """
        deadline = Deadline(timeout)
        self._switch.closing = True
        for attempt in self._switch.queue:
            attempt.reject(reason=Reason.SHUTDOWN)
        controls = list(self._switch.channels)
        self._say_goodbye(controls, deadline)
        for group in self._groups:
            group.join(timeout=deadline.cap(AFTER_GOODBYE))
            group.kill()
        for control in controls:
            control.kill_tasks()

    def waits_for(self, greenlet: Any) -> bool:
        """Whether :meth:`stop` waits for that greenlet, which therefore must not wait for it."""
        return any(greenlet in group for group in self._groups) or any(
            control.has_spawned(greenlet) for control in self._switch.channels
        )

    @staticmethod
    def _say_goodbye(controls: list[ChannelControl], deadline: Deadline) -> None:
        say = partial(PeerChannel.close, reason=Reason.SHUTDOWN, timeout=deadline.remaining)
        gevent.joinall([spawn("goodbye", say, control.channel) for control in controls], timeout=deadline.remaining)
