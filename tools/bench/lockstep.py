"""A relay that makes the turns of two processes the same in every run.

Whether an answer is there already when a side looks for it depends on the scheduler: a read that finds nothing, and
the wait after it, take a bare echo a fifth of its instructions. On a machine where both sides have a processor each,
no answer is so fast. The relay makes sure of that on every machine, without an instruction in either side.
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from typing import Any

import psutil

HOST = "127.0.0.1"
PIECE = 64 * 1024
LOOK_AGAIN = 0.0005  # seconds; a round trip under callgrind takes some ten times as long


class Relay:
    """Carries bytes between a dialling and a listening process. Each piece waits until its receiver sleeps.

    Args:
        address: where the listening side listens on 127.0.0.1, as it tells it: ``[host, port]``, or a text with
            ``host:port`` in it.
        listener: its process.
        dialler: the other one.
    """

    def __init__(self, address: Any, *, listener: int, dialler: int) -> None:
        self._sides = psutil.Process(listener), psutil.Process(dialler)
        self._server = socket.create_server((HOST, 0))
        self._target, self.address = redirect(address, self._server.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        listener, dialler = self._sides
        with self._server, self._server.accept()[0] as near, socket.create_connection((HOST, self._target)) as far:
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            to = {near: (far, listener), far: (near, dialler)}
            while True:
                for source in select.select([near, far], [], [])[0]:
                    target, receiver = to[source]
                    if not _pass_on(source, target, receiver):
                        return  # a side has ended, and with it the other one


def redirect(address: Any, port: int) -> tuple[int, Any]:
    """The port in an address, and the address with another one in its place."""
    if isinstance(address, str):  # host:port, and an identifier around it
        there = re.search(rf"(?<={re.escape(HOST)}:)\d+", address)
        assert there is not None
        return int(there[0]), address[: there.start()] + str(port) + address[there.end() :]
    return address[1], [HOST, port]


def _pass_on(source: socket.socket, target: socket.socket, receiver: psutil.Process) -> bool:
    """Carry one piece. Returns whether there was one."""
    try:
        piece = source.recv(PIECE)
        while piece and receiver.status() != psutil.STATUS_SLEEPING:
            time.sleep(LOOK_AGAIN)
        target.sendall(piece)
    except (OSError, psutil.NoSuchProcess):
        return False
    return bool(piece)
