"""Durable packets and real processes that are killed: nothing accepted is lost, and repetitions can be told."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import gevent
import gevent.subprocess
import pytest

from peernet import PacketHandleProtocol, PeerNetwork
from peernet.node.failures import ExitCode
from tests.integration.meetings import Networks, config
from tests.support import Recorder, stay, wait_until
from tools.node_process import Finished, NodeProcess, clean_environment, command

T = TypeVar("T")

pytestmark = pytest.mark.processes

COUNT = 2000
FAST = "[limits]\nbackoff_base = 0.05\nbackoff_cap = 0.1\n"


class Sender:
    """A program that sends durable packets, and what it has said so far."""

    def __init__(self, home: Path, address: str, count: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.durable_sender", str(home), address, str(count)],
            stdout=subprocess.PIPE,
            env=clean_environment(),
        )
        self.lines: list[str] = []
        self._reader = gevent.spawn(self._read)

    def kill(self) -> None:
        """End it with SIGKILL. What it has said before is in ``lines``."""
        self.process.kill()
        self._reader.join()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def accepted(self) -> dict[str, str]:
        """The id of each text that was accepted."""
        return dict(line.split() for line in self.lines if line != "all")

    def _read(self) -> None:
        assert self.process.stdout is not None
        pool = gevent.get_hub().threadpool
        while line := pool.apply(self.process.stdout.readline):
            self.lines.append(line.decode().strip())


@contextmanager
def sending(home: Path, address: str, count: int) -> Iterator[Sender]:
    sender = Sender(home, address, count)
    try:
        yield sender
    finally:
        if sender.process.poll() is None:
            sender.kill()


def receiver(networks: Networks, got: Recorder, **options: Any) -> PeerNetwork:
    handlers = PacketHandleProtocol()
    handlers["pure_message"] = got
    return networks(handlers=handlers, config=config(), **options)


def check(got: Recorder, accepted: dict[str, str]) -> None:
    """Everything accepted has come, in order apart from repetitions, and each text always under one id."""
    ids: dict[str, str] = {}
    for packet in got.packets:
        text, packet_id = packet.pure_message.message, packet.packet_id.hex()
        assert ids.setdefault(text, packet_id) == packet_id
    assert len(set(ids.values())) == len(ids)
    assert ids.items() >= accepted.items()
    assert list(map(int, ids)) == sorted(map(int, ids))  # of each the first time


@pytest.mark.parametrize("is_there", [True, False], ids=["to a peer that is there", "to a peer that is away"])
def test_a_sender_that_is_killed_among_its_packets_loses_none_that_was_accepted(
    networks: Networks, tmp_path: Path, is_there: bool
) -> None:
    got = Recorder()
    bob = receiver(networks, got)
    address, home = bob.addresses[0], tmp_path / "sender"
    if not is_there:
        bob.stop()
    with sending(home, address, 4 * COUNT) as sender:  # it does not come to the end of them
        wait_until(lambda: len(sender.lines) > COUNT / 3, 20, "some packets to be accepted")
        sender.kill()
        assert "all" not in sender.lines
    if not is_there:
        receiver(networks, got, identity=bob.identity, listen=[address.partition("@")[2]])
    with sending(home, address, 0):
        wait_until(lambda: texts(got) >= set(sender.accepted), 20, "what was accepted")
        wait_until(lambda: no_more_come(got), 20)
    check(got, sender.accepted)


def texts(got: Recorder) -> set[str]:
    return {packet.pure_message.message for packet in got.packets}


def no_more_come(got: Recorder) -> bool:
    """Whether all is delivered: what was stored and not reported any more is not in ``accepted``."""
    before = len(got)
    gevent.sleep(0.05)
    return len(got) == before


def test_what_was_delivered_but_not_acknowledged_comes_again_under_its_id(networks: Networks, tmp_path: Path) -> None:
    got = Recorder()
    bob = receiver(networks, got)

    def hang(channel: Any, packet: Any) -> None:
        got(channel, packet)
        if len(got) == 3:
            stay()

    bob.handlers["pure_message"] = hang
    with sending(tmp_path / "sender", bob.addresses[0], 5) as sender:
        wait_until(lambda: "all" in sender.lines and len(got) == 3, 20)
        sender.kill()
    bob.handlers["pure_message"] = got
    with sending(tmp_path / "sender", bob.addresses[0], 0):
        wait_until(lambda: texts(got) == set("01234"), 20)
        third = [packet.packet_id for packet in got.packets if packet.pure_message.message == "2"]
        assert len(third) == 2
    check(got, sender.accepted)


# The command line.


def test_the_whole_way_with_nodes_that_are_killed(tmp_path: Path) -> None:
    alice_home, bob_home = tmp_path / "alice", tmp_path / "bob"
    for home in (alice_home, bob_home):
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text(FAST)
    with NodeProcess(bob_home) as bob:
        peer, address, endpoint = bob.identifier, bob.address, bob.address.partition("@")[2]
    with NodeProcess(alice_home) as alice:
        stored = alice.command("send", "--durable", address, "one", "-o", "json")
        assert stored.code == 0, stored
        assert alice.command("send", "--durable", peer[:8], "two").out == f"stored for {peer[:12]}\n"
        late = alice.command("send", "--durable", "--wait", "--timeout", "0.2", peer, "three")
        assert (late.code, "stays stored" in late.err) == (ExitCode.TIMEOUT, True)
        alice.terminate(signal.SIGKILL)
    (row,) = command(alice_home, "outbox", "list", "-o", "json").json
    assert (row["peer"], row["packets"]) == (peer, 3)
    with NodeProcess(alice_home) as alice, NodeProcess(bob_home, "--listen", endpoint) as bob:
        first = bob.wait_for("packet", body={"message": "one"})
        assert first["packet_id"] == stored.json["packet_id"]
        for message in ("two", "three"):
            assert bob.wait_for("packet", body={"message": message})["from"] == alice.identifier
        assert alice.command("send", "--durable", "--wait", peer, "four").out == f"sent to {peer[:12]}\n"
        refused = alice.command("send", "--durable", "--wait", peer, "--data", "-", stdin=b"data")
        assert (refused.code, "only from peers that it trusts" in refused.err) == (ExitCode.REFUSED, True)
        wait_until(lambda: alice.command("outbox", "list").out == "nothing is stored\n")
        assert alice.command("status", "-o", "json").json["counters"]["durable_refused"] == 1


def test_what_is_stored_without_a_node_leaves_with_one_for_the_moment(tmp_path: Path) -> None:
    carol = tmp_path / "carol"
    with NodeProcess(tmp_path / "bob") as bob:
        stored = command(carol, "send", "--durable", bob.address, "one", "-o", "json")
        assert (stored.code, stored.json["confirmed"]) == (0, False), stored
        done = command(carol, "send", "--durable", "--wait", bob.identifier, "two")
        assert done.code == 0, done
        for message in ("one", "two"):
            bob.wait_for("packet", body={"message": message})
    assert command(carol, "outbox", "list", "-o", "json").json == []


def test_dropping_with_a_node_and_without(tmp_path: Path) -> None:
    home = tmp_path / "alice"
    one, other = "a" * 52, "b" * 52

    def stored() -> dict[str, int]:
        return {row["peer"]: row["packets"] for row in command(home, "outbox", "list", "-o", "json").json}

    for peer in (one, one, other):
        assert command(home, "send", "--durable", peer, "hello").code == 0
    assert stored() == {one: 2, other: 1}
    assert command(home, "outbox", "drop", "aaa").out == "2 packets for aaaaaaaaaaaa dropped\n"
    with NodeProcess(home) as alice:
        assert stored() == {other: 1}
        waiting = alice.command("send", "--durable", "--wait", "--timeout", "0.1", one, "hello")
        assert waiting.code == ExitCode.TIMEOUT
        (packet,) = alice.command("outbox", "list", "--packets", "-o", "json").json[1:]
        assert (packet["peer"], packet["kind"]) == (one, "pure_message")
        assert alice.command("outbox", "drop", "bbbb", "-o", "json").json == {"dropped": 1, "peers": [other]}
        assert alice.command("outbox", "drop", "--all").out == "1 packets for all peers dropped\n"
        assert stored() == {}


class Failing:
    """A callback that fails as long as it is ``broken``, and notes the ids of all its calls."""

    def __init__(self) -> None:
        self.broken = True
        self.ids: list[str] = []

    def __call__(self, channel: Any, packet: Any) -> None:
        self.ids.append(packet.packet_id.hex())
        if self.broken:
            raise ValueError("oops")


def beside(function: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks, while the networks of this process go on."""
    result: T = gevent.get_hub().threadpool.apply(function, args)
    return result


def test_what_keeps_failing_is_set_aside_over_kills_until_outbox_retry(networks: Networks, tmp_path: Path) -> None:
    callback, home = Failing(), tmp_path / "alice"
    bob = networks(config=config())
    bob.handlers["pure_message"] = callback
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'[node]\nnetwork = "test"\n{FAST}durable_attempts = 3\n')

    def ask(*arguments: str) -> Finished:
        return command(home, *arguments, run=gevent.subprocess.run)

    with NodeProcess(home) as alice:
        stored = ask("send", "--durable", bob.addresses[0], "poison", "-o", "json")
        wait_until(lambda: callback.ids)
        alice.terminate(signal.SIGKILL)
    packet_id = stored.json["packet_id"]
    with NodeProcess(home) as alice:
        told = beside(alice.wait_for, "set_aside")
        assert (told["peer"], told["packet_id"], told["attempts"]) == (bob.identifier, packet_id, 3)
        before = len(callback.ids)
        assert before in (3, 4)  # the call is not counted of which the node was told when it was killed
        retried = ask("outbox", "retry", bob.identifier[:8])
        assert retried.out == f"1 packets for {bob.identifier[:12]} are to be sent again\n"
        beside(alice.wait_for, "set_aside")
        assert len(callback.ids) == before + 3
        alice.terminate(signal.SIGKILL)
    (packet,) = ask("outbox", "list", "--packets", "-o", "json").json
    assert (packet["packet_id"], packet["aside"], packet["attempts"]) == (packet_id, True, 3)
    callback.broken = False
    assert ask("outbox", "retry", "-o", "json").json == {"retried": 1, "peer": None}  # by the next node
    with NodeProcess(home):
        wait_until(lambda: len(callback.ids) == before + 4)
        wait_until(lambda: ask("outbox", "list").out == "nothing is stored\n")
    assert set(callback.ids) == {packet_id}


def test_a_damaged_outbox_is_set_aside_and_the_node_starts(tmp_path: Path) -> None:
    home = tmp_path / "alice"
    assert command(home, "send", "--durable", "a" * 52, "hello").code == 0
    (home / "outbox.db").write_bytes(b"damaged" * 1000)
    with NodeProcess(home) as alice:
        assert "is damaged (file is not a database) and was set aside" in alice.log
        assert alice.command("send", "--durable", "a" * 52, "hello").code == 0
    assert len(list(home.glob("outbox.db.damaged-*"))) == 1
    assert (home / "outbox.db").stat().st_mode & 0o777 == 0o600


def test_a_full_outbox_is_an_error_with_a_node_and_without(tmp_path: Path) -> None:
    home = tmp_path / "alice"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("[limits]\ndurable_packets_per_peer = 1\n")
    assert command(home, "send", "--durable", "a" * 52, "hello").code == 0
    full = command(home, "send", "--durable", "a" * 52, "hello")
    assert (full.code, "is full (1 packets" in full.err) == (ExitCode.ERROR, True)
    with NodeProcess(home) as alice:
        full = alice.command("send", "--durable", "a" * 52, "hello")
        assert (full.code, "is full (1 packets" in full.err) == (ExitCode.ERROR, True)
