"""A program with a network that forks, in one way or another, while it talks to a peer; see test_forks.py.

    python -m tests.integration.forking_parent WAY ADDRESS FOLDER

The child lives until the parent has used its network, stopped it, started it again on the same port, and used it again.
"""

from __future__ import annotations

import sys

if "patched" in sys.argv[1]:
    from gevent import monkey

    monkey.patch_all()

import atexit
import contextlib
import json
import logging
import multiprocessing
import os
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import gevent.os

from peernet import NetworkConfig, PeerChannel, PeerNetwork
from peernet.errors import ForkedError
from peernet.v1.packet_pb2 import PureMessagePacket
from tests.support import scaled

CONFIG = NetworkConfig(allow_loopback_burst=True, heartbeat_interval=0.1, close_timeout=0.5)
PATIENCE = scaled(20)


class Parent:
    """The program."""

    def __init__(self, way: str, address: str, folder: Path) -> None:
        self.way, self.address = way, address
        self.begun, self.over = folder / "begun", folder / "over"
        self.home = folder / "home"
        self.network = PeerNetwork(listen=["127.0.0.1:0"], network_name="test", config=CONFIG, home=self.home)
        self.told: list[str] = []
        self.network.peer_removed.add(lambda channel, reason: self.told.append(f"{os.getpid()} removed {reason}"))
        self.network.channel_reconnecting.add(lambda channel: self.told.append(f"{os.getpid()} reconnecting"))

    def run(self) -> None:
        """All of it."""
        child = 0
        with self.network:
            channel = self.network.connect(self.address)
            self.say(channel, "before")
            channel.spawn(self.be_copied)
            child = self.fork(channel)
            self.wait_for(self.begun)
            self.say(channel, "beside")
            assert self.network.send(channel.peer.identifier, text("durable"), durable=True).wait(PATIENCE)
            port = self.network.addresses[0].rpartition(":")[2]
        again = PeerNetwork(listen=[f"127.0.0.1:{port}"], network_name="test", config=CONFIG, home=self.home)
        with again:  # though a child of this process lives
            self.say(again.connect(self.address), "after")
        assert [one for one in self.told if not one.startswith(str(os.getpid()))] == []
        self.over.touch()
        ended = os.waitpid(child, 0)[1] if child else 0
        print(json.dumps({"child": ended, "told": [one.partition(" ")[2] for one in self.told]}), flush=True)

    def be_copied(self) -> None:
        """A task of the channel: its copy in the child ends, and does nothing."""
        mine = os.getpid()
        try:
            while True:
                gevent.sleep(0.01)
                assert os.getpid() == mine
        finally:
            if os.getpid() != mine:
                self.told.append("ended in the child")

    def say(self, channel: PeerChannel, what: str) -> None:
        """Send a message, which is delivered."""
        for number in range(10):
            assert channel.send(text(f"{what} {number}")).wait(PATIENCE)

    def wait_for(self, file: Path) -> None:
        """Wait until somebody has made a file."""
        end = time.monotonic() + PATIENCE
        while not file.exists():
            assert time.monotonic() < end, f"no {file.name}"
            gevent.sleep(0.01)

    def fork(self, channel: PeerChannel) -> int:
        """Make a child, in the way asked for. Returns its number, or 0 if somebody else waits for it."""
        if "callback" in self.way:
            forked: list[int] = []
            channel.handlers["pure_message"] = lambda channel, packet: forked.append(self.plain(os.fork))
            channel.send(text("echo"))
            self.wait_for(self.begun)
            while not forked:  # the copy of this greenlet in the child: it is the callback's that matters there
                gevent.sleep(PATIENCE)
            return forked[0]
        if "multiprocessing" in self.way:
            process: Any = multiprocessing.get_context("fork").Process(target=self.be_child)
            process.start()
            atexit.register(process.join)
            return 0
        return self.plain(gevent.os.fork if "gevent" in self.way else os.fork)

    def plain(self, fork: Callable[[], int]) -> int:
        """Fork, and be the child if this is it."""
        child = fork()
        if child:
            return child
        try:
            self.be_child()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        if "exit" in self.way:
            raise SystemExit(0)  # through `with network:`, and whatever Python does at its end
        os._exit(0)

    def be_child(self) -> None:
        """What a child does: try the network, wait until it is told to end, and perhaps have a network of its own."""
        for act in (self.network.stop, self.network.start, lambda: self.network.call_soon(print)):
            with contextlib.suppress(ForkedError):
                act()
                raise AssertionError("it may be used")
        self.begun.touch()
        if "asleep" in self.way:
            while not self.over.exists():
                time.sleep(0.05)  # not gevent's
            return
        self.wait_for(self.over)
        if "network" in self.way:
            with PeerNetwork(listen=["127.0.0.1:0"], network_name="test", config=CONFIG) as mine:
                self.say(mine.connect(self.address), "child")


def text(message: str) -> PureMessagePacket:
    """A text message."""
    return PureMessagePacket(message=message)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and later: the process has threads
    logging.basicConfig(level=logging.WARNING)
    Parent(sys.argv[1], sys.argv[2], Path(sys.argv[3])).run()
