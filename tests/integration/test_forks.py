"""A process with a network forks: its network goes on as if nothing had happened, and the child leaves it alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from gevent import subprocess

from peernet import Reason
from tests.integration.meetings import Networks, config
from tests.support import record, scaled

ROOT = Path(__file__).resolve().parents[2]

# How the child is made, what it does meanwhile, and how it ends.
WAYS = [
    "os.fork, the hub runs, end",
    "os.fork, asleep, end",
    "os.fork, the hub runs, exit",
    "os.fork, asleep, exit",
    "gevent.os.fork, the hub runs, a network, exit",
    "gevent.os.fork, patched, a network, end",
    "os.fork, patched, the hub runs, exit",
    "multiprocessing",
    "multiprocessing, patched, a network",
    "callback, os.fork, the hub runs, end",
]


@pytest.mark.parametrize("way", WAYS)
def test_the_network_goes_on_in_the_parent_alone(networks: Networks, tmp_path: Path, way: str) -> None:
    bob = networks(config=config())
    heard: list[str] = []

    @bob.handlers.on("pure_message")
    def hear(channel: Any, packet: Any) -> None:
        heard.append(packet.pure_message.message)
        if heard[-1] == "echo":
            channel.send(packet.pure_message)

    added, removed, lost = record(bob.peer_added), record(bob.peer_removed), record(bob.channel_reconnecting)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.integration.forking_parent", way, bob.addresses[0], str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == {"child": 0, "told": ["removed shutdown"]}
    said = ["before", "beside", "after"] + (["child"] if "network" in way else [])
    assert sorted(one for one in heard if one != "echo") == sorted(
        ["durable", *(f"{what} {number}" for what in said for number in range(10))]
    )
    assert len(added) == len(removed) == len(said) - 1
    assert {reason for _, reason in removed.calls} == {Reason.SHUTDOWN}
    assert len(lost) == 0
    assert (bob.counters["resumed"], bob.counters["duplicate"], bob.counters["handshake_failed"]) == (0, 0, 0)
