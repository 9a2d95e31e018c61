"""Networks in processes that gevent has patched by half, or late. This process must not be patched itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from gevent import monkey
{first}
import gevent
from peernet import PeerNetwork
from peernet.v1.packet_pb2 import PureMessagePacket
one = PeerNetwork(listen=["127.0.0.1:0"], network_name="test")
other = PeerNetwork(network_name="test")
heard = []
one.handlers.on("pure_message", threadpool=True)(lambda channel, packet: heard.append(packet.pure_message.message))
one.start()
other.start()
{later}
with gevent.Timeout(10):
    channel = other.connect(one.addresses[0])
    assert channel.send(PureMessagePacket(message="hello")).wait(5)
    channel.ping()
    called = gevent.event.Event()
    other.call_soon(called.set)
    called.wait()
    one.stop()
    other.stop()
print(heard)
"""


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize("patch", ["patch_socket()", "patch_all(thread=False)", "patch_all()"])
def test_a_network_works_whatever_the_program_has_patched(patch: str, when: str) -> None:
    program = PROGRAM.format(**({"first": "", "later": ""} | {when: f"monkey.{patch}"}))
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "['hello']\n"), done.stderr
