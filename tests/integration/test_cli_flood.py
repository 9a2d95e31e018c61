"""A node whose output nobody reads, or whose peer sends what is refused for ever, goes on."""

from __future__ import annotations

import array
import fcntl
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import gevent
import gevent.subprocess
import pytest

from peernet import PeerNetwork
from peernet.node.failures import ExitCode
from peernet.v1.packet_pb2 import DataTransmissionPacket
from tests.integration.attackers import Attacker, connect, dial, serving
from tests.support import wait_until
from tests.unit.hostile import SENDABLE, assert_harmless
from tools.node_process import COMMAND, FACTOR, NodeProcess, command, running

pytestmark = pytest.mark.processes

# What a pipe holds on Linux; a full one holds not much less.
PIPE = 65536


def waiting_in(pipe: IO[bytes]) -> int:
    """Bytes that wait to be read."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe.fileno(), termios.FIONREAD, count)
    return count[0]


@contextmanager
def unread_node(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A node of which only the first line is read; yields it and its address."""
    arguments = [*COMMAND, "--home", str(home), "-vv", "run", "-n", "test", "-o", "jsonl"]
    with running(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as node:
        assert node.stdout is not None
        first = node.stdout.readline()
        yield node, first.decode().partition('"addresses":["')[2].partition('"')[0]


def flood(address: str, act: Callable[[Attacker], None]) -> gevent.Greenlet[..., Any]:
    """An attacker that says hello, and then does something again and again until the node hangs up."""
    attacker = dial(address)
    attacker.greet()

    def go_on() -> None:
        try:
            while True:
                act(attacker)
        except OSError:
            return  # the node waits for its reader, and lets the attacker wait; in the end it stops
        finally:
            attacker.sock.close()

    return gevent.spawn(go_on)


def knock(address: str) -> None:
    """A connection that is worth a line in the log and nothing else."""
    with connect(address) as sock, suppress(OSError):
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        sock.recv(100)


def test_a_node_whose_stdout_and_stderr_nobody_reads_goes_on_under_a_flood(
    tmp_path: Path, networks: Callable[..., PeerNetwork]
) -> None:
    home = tmp_path / "home"
    with unread_node(home) as (node, address):
        assert node.stdout is not None
        assert node.stderr is not None
        honest = networks().connect(address)
        flooder = flood(address, lambda attacker: attacker.say("x" * 1000))
        wait_until(lambda: waiting_in(node.stdout) > PIPE / 2, 10, "stdout to be full")  # type: ignore[arg-type]
        unread, grew = 0, 1
        while unread < PIPE / 2 or grew:  # short lines do not fill the last bytes of a page
            gevent.joinall([gevent.spawn(knock, address) for _ in range(20)])
            assert honest.ping(5 * FACTOR) > 0
            grew, unread = waiting_in(node.stderr) - unread, waiting_in(node.stderr)
        for _ in range(10):
            gevent.joinall([gevent.spawn(knock, address) for _ in range(20)])
            assert honest.ping(5 * FACTOR) > 0
        assert command(home, "status", "-o", "json").json["channels"] == 2
        flooder.kill()  # it would not answer the goodbye, which would take its time
        stopped = command(home, "stop", run=gevent.subprocess.run)  # the honest peer has to answer it
        assert stopped.code == 0
        assert node.wait(15 * FACTOR) == 0


def test_a_peer_that_is_refused_for_ever_causes_few_lines_and_all_its_packets_are_counted(
    tmp_path: Path,
) -> None:
    many = 3000
    with NodeProcess(tmp_path / "alice", "-n", "test") as alice:
        attacker = dial(alice.address)
        attacker.greet()
        for _ in range(many):
            attacker.send(data_transmission=DataTransmissionPacket(data=b"x"))
        first = alice.wait_for("refused", kind="data_transmission")
        assert first["count"] == 1
        attacker.leave()
        gone = alice.wait_for("peer_removed", 30)
        alice.command("stop")
        others = [event for event in alice.end_of_output() if event["event"] == "refused"]
        assert sum(event["count"] for event in others) == many - 1
        assert len(others) < 5 + (gone["time"] - first["time"])


def test_what_peers_write_acts_neither_on_the_terminal_nor_on_the_log(tmp_path: Path) -> None:
    arguments = [*COMMAND, "--home", str(tmp_path / "home"), "-vv", "run", "-n", "test"]
    with running(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as node:
        assert node.stdout is not None
        address = next(line for line in node.stdout if b"peer://" in line).decode().split()[-1]
        for text in SENDABLE:
            attacker = dial(address)
            attacker.greet(agent=text[:200], listen_addresses=[text[:200]])
            attacker.say(text)
            attacker.send(source_origin_identifier=text, pure_message={"message": text})
            attacker.farewell()
            attacker.leave()
            other = dial(address)
            other.send_hello(network_name=text[:200])
            other.farewell()
            other.leave()
            other = dial(address)
            other.greet()
            other.send(disconnect={"reason": 7, "message": text})
            other.farewell()
            other.leave()
        command(tmp_path / "home", "stop")
        lines = node.stdout.read().decode().split("\n")
    assert sum("broke the protocol" in line or "claims to be from" in line for line in lines) >= len(SENDABLE)
    for line in lines:
        assert_harmless(line, 1000)
    assert not any(line.startswith("2030") for line in lines)


def test_what_a_peer_says_when_it_refuses_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    messages = iter(SENDABLE)

    def refuse(attacker: Attacker) -> None:
        attacker.receive()
        attacker.send(disconnect={"reason": 7, "message": next(messages)})
        attacker.receive_all()

    with serving(refuse) as address:
        for _ in SENDABLE[:4]:
            asked = ("send", address, "x", "-n", "test")
            done = command(tmp_path / "home", *asked, run=gevent.subprocess.run)
            assert done.code == ExitCode.REFUSED
            assert done.err.startswith("Error: the peer refused the connection")
            assert done.err.count("\n") == 1
            assert_harmless(done.err.removesuffix("\n"), 400)
