"""A program with a durable outbox, to be killed: ``python -m tests.integration.durable_sender HOME ADDRESS COUNT``.

Sends so many numbered texts from several greenlets, and prints the number and the id of each as soon as
it is accepted. Then it stays.
"""

from __future__ import annotations

import os
import sys

from gevent.pool import Pool

from peernet import Identity, PeerNetwork
from peernet.v1.packet_pb2 import PureMessagePacket


def main(home: str, address: str, count: str) -> None:
    network = PeerNetwork(Identity.load_or_create(home), network_name="test", durable_outbox=f"{home}/outbox.db")

    def send(number: int) -> None:
        receipt = network.send(address, PureMessagePacket(message=str(number)), durable=True)
        os.write(1, f"{number} {receipt.packet_id.hex()}\n".encode())

    with network:
        senders = Pool(32)
        for number in range(int(count)):
            senders.spawn(send, number)
        senders.join()
        os.write(1, b"all\n")
        network.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
