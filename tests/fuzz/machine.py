"""What the state machines have in common: nodes that are watched, and how it ends."""

from __future__ import annotations

import gevent
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.fuzz.node import watching
from tests.fuzz.switchboard import Node, Switchboard


class Machine(RuleBasedStateMachine):
    """Some nodes on a switchboard. Subclasses call :meth:`prepare` first."""

    def prepare(self, count: int) -> None:
        """Make so many nodes."""
        self.watching = watching()
        self.watch = self.watching.__enter__()
        self.board = Switchboard()
        self.nodes = [Node(self.board, number) for number in range(count)]
        self.number = 0

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        for node in getattr(self, "nodes", ()):
            node.check(self.nodes)

    def teardown(self) -> None:
        if not hasattr(self, "nodes"):
            return
        try:
            gevent.joinall([gevent.spawn(node.network.stop, 2) for node in self.nodes])
            for node in self.nodes:
                node.check(self.nodes)
                node.check_end()
            self.watch.check()
        finally:
            self.watching.__exit__(None, None, None)
