"""A program with a network in it, to be attacked: ``python -m tests.hostile.program OPTIONS``.

It prints the port on which it listens, and, when it is told to end, what it has counted. The options are a JSON object:

* ``raises``: whether its callback for messages raises, each time
* ``bans_everybody``: whether nobody is exempt from bans, not even loopback addresses
* ``limits``: what differs from the defaults
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from typing import Any

import gevent
from gevent.event import Event as Flag

from peernet import NetworkConfig, PeerNetwork
from peernet.peers.ip_networks import IpNetworks


def break_down(channel: Any, packet: Any) -> None:
    raise RuntimeError(f"cannot do anything with {packet.pure_message.message!r}")


def main(options: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.INFO)
    network = PeerNetwork(listen=["127.0.0.1:0"], config=NetworkConfig(**options.get("limits", {})))
    if options.get("raises"):
        network.handlers["pure_message"] = break_down
    if options.get("bans_everybody"):
        network.bans.exempt_networks = IpNetworks(())
    asked = Flag()
    gevent.signal_handler(signal.SIGTERM, asked.set)
    with network:
        print(network.addresses[0].rpartition(":")[2], flush=True)
        asked.wait()
        counted = dict(network.counters)
    print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
