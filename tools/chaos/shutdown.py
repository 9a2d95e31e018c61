"""A node is told to end under traffic: it must take leave in time, and tell what became of every packet."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent

from peernet.channel.channel import PeerChannel
from peernet.config import NetworkConfig
from peernet.network import PeerNetwork
from peernet.peers.address import PeerAddress
from tools.chaos.figures import Figure, all_of, none_of
from tools.chaos.processes import Child, say
from tools.chaos.traffic import LIMITS, Talk, TalkChecker
from tools.node_process import NodeProcess

LONG: dict[str, Any] = {"times": 10, "clients": 10, "seconds": 2.0, "command": True}
# What the command does has tests of its own.
SHORT: dict[str, Any] = {"times": 1, "clients": 3, "seconds": 0.3, "command": False}

# What the goodbyes may take, and the exit around them. Seconds.
FLUSH = 5.0
LIMIT = 6.0
# From a second signal to the end of the process. Seconds.
AT_ONCE = 1.0


class Talker:
    """A node that talks to whoever connects, until SIGTERM ends it."""

    def __init__(self) -> None:
        self._network = PeerNetwork(listen=["127.0.0.1:0"], network_name="chaos", config=NetworkConfig(**LIMITS))
        self._network.handlers["pure_message"] = lambda channel, packet: None
        self._network.peer_added.add(lambda channel: self._talks.append(Talk(channel)))
        self._talks: list[Talk] = []
        gevent.signal_handler(signal.SIGTERM, self._end)
        self._network.start()

    def address(self) -> str:
        return self._network.addresses[0]

    def _end(self) -> None:
        gevent.spawn(self._stop)

    def _stop(self) -> None:
        self._network.stop(FLUSH)
        settled: Counter[str] = sum((talk.settled for talk in self._talks), Counter())
        say({"open": sum(talk.open for talk in self._talks), "settled": dict(settled)})
        raise SystemExit(0)


class Client:
    """A peer of the talker, in this process."""

    def __init__(self, address: str) -> None:
        self.network = PeerNetwork(network_name="chaos", config=NetworkConfig(**LIMITS))
        self.checker = self.network.handlers["pure_message"] = TalkChecker()
        self.reasons: list[tuple[str, bool]] = []
        self.network.peer_removed.add(self._removed)
        self.network.start()
        self.talk = Talk(self.network.connect(address))

    def _removed(self, channel: PeerChannel, reason: object) -> None:
        self.reasons.append((str(reason), channel.ended_by_peer))


def run(*, seed: int, times: int, clients: int, seconds: float, command: bool) -> list[Figure]:
    results = [_end_under_traffic(clients, seconds) for _ in range(times)]
    total = times * clients
    return [
        all_of("exits with 0", sum(result["code"] == 0 for result in results), times),
        Figure("from SIGTERM to the exit, longest", max(one["took"] for one in results), "s", at_most=LIMIT),
        Figure("from SIGTERM until nobody is accepted, longest", max(one["deaf"] for one in results), "s", at_most=1.0),
        all_of("peers that were told", sum(one["told"] for one in results), total),
        Figure("packets of the node", sum(one["sent"] for one in results)),
        none_of("packets of the node without an end", sum(one["open"] for one in results)),
        none_of("packets of the node called acknowledged that were not handled", sum(one["false"] for one in results)),
        Figure("packets of the peers", sum(one["sent_there"] for one in results)),
        none_of("packets of the peers without an end", sum(one["open_there"] for one in results)),
        none_of("packets that came twice or not in order", sum(one["mistakes"] for one in results)),
        *(_signal_command() if command else []),
    ]


def _end_under_traffic(count: int, seconds: float) -> dict[str, Any]:
    with Child(Talker) as node:
        address = node.ask("address")
        clients = [Client(address) for _ in range(count)]
        gevent.sleep(seconds)
        began = time.monotonic()
        node.send_signal(signal.SIGTERM)
        deaf = gevent.spawn(_wait_until_deaf, address)
        code = node.wait(2 * LIMIT)
        took = time.monotonic() - began
        last = node.said_last or {"open": 0, "settled": {}}
    for client in clients:
        client.network.stop(1)
    accounts = [client.talk.account(timeout=1) for client in clients]
    acknowledged = last["settled"].get("acknowledged", 0)
    return {
        "code": code,
        "took": took,
        "deaf": deaf.get() - began,
        "told": sum(client.reasons[:1] == [("shutdown", True)] for client in clients),
        "sent": sum(last["settled"].values()) + last["open"],
        "open": last["open"],
        "false": max(0, acknowledged - sum(client.checker.received for client in clients)),
        "sent_there": sum(account["sent"] for account in accounts),
        "open_there": sum(account["open"] for account in accounts),
        "mistakes": sum(client.checker.mistakes for client in clients),
    }


def _wait_until_deaf(address: str) -> float:
    """When nobody listened there any more; monotonic seconds."""
    where = PeerAddress.parse(address)
    while _accepts(where):
        gevent.sleep(0.005)
    return time.monotonic()


def _accepts(where: PeerAddress) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((where.host, where.port)) == 0


def _signal_command() -> list[Figure]:
    """``peernet-node`` while a peer does not answer its goodbye: after one signal, and after a second one."""
    with tempfile.TemporaryDirectory() as folder:
        patient, patient_code = _end_command(Path(folder) / "one")
        second, second_code = _end_command(Path(folder) / "two", again=True)
    return [
        Figure("a peer that does not answer: from SIGTERM to the exit", patient, "s", at_most=LIMIT),
        all_of("a peer that does not answer: exits with 0", int(patient_code == 0), 1),
        Figure("a second signal: until the exit", second, "s", at_most=AT_ONCE),
        all_of("a second signal: exits with 128 + 15", int(second_code == 128 + signal.SIGTERM), 1),
    ]


def _end_command(folder: Path, *, again: bool = False) -> tuple[float, int]:
    with NodeProcess(folder / "node") as node, NodeProcess(folder / "peer", "--connect", node.address) as peer:
        node.wait_for("peer_added")
        peer.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        if again:
            _wait_until_deaf(node.address)
            began = time.monotonic()
            node.process.send_signal(signal.SIGTERM)
        code = node.wait(3 * LIMIT)
        return time.monotonic() - began, code
