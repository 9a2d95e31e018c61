"""Real nodes, real sockets: messages and data between `peernet-node` processes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from peernet.node.control import client
from peernet.node.failures import ExitCode, NodeFailure
from peernet.state.home import Home
from tools.node_process import NodeProcess, command

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Two nodes; the second keeps a connection to the first."""
    folder = tmp_path_factory.mktemp("homes")
    with ExitStack() as stack:
        alice = stack.enter_context(NodeProcess(folder / "alice"))
        bob = stack.enter_context(NodeProcess(folder / "bob", "--connect", alice.address))
        alice.wait_for("peer_added", peer=bob.identifier)
        bob.wait_for("peer_added", peer=alice.identifier)
        yield alice, bob


def test_the_first_line_says_who_and_where(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, _ = nodes
    assert list(alice.ready)[:3] == ["event", "identifier", "addresses"]
    assert alice.address.startswith(f"peer://{alice.identifier}@127.0.0.1:")
    assert alice.command("id").out.strip() == alice.identifier


def test_a_message_each_way_by_identifier_prefix_and_address(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, bob = nodes
    for sender, receiver, peer in (
        (bob, alice, alice.identifier),
        (alice, bob, bob.identifier[:10]),
        (bob, alice, alice.address),
    ):
        done = sender.command("send", peer, "hé, 🦄 \x1b[31m")
        assert done.code == 0, done
        packet = receiver.wait_for("packet", 10, kind="pure_message", body={"message": "hé, 🦄 \x1b[31m"})
        assert packet["from"] == sender.identifier


def test_a_node_for_the_moment(nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path) -> None:
    alice, _ = nodes
    done = command(tmp_path / "carol", "send", alice.address, "passing by", "-o", "json")
    assert done.code == 0, done
    carol = command(tmp_path / "carol", "id").out.strip()
    assert (done.json["peer"], done.json["kind"], done.json["confirmed"]) == (alice.identifier, "pure_message", True)
    assert alice.wait_for("packet", 10, body={"message": "passing by"})["from"] == carol
    assert alice.wait_for("peer_removed", 10, peer=carol)["by_peer"]
    again = command(tmp_path / "carol", "send", alice.identifier[:8], "by prefix, because it is known now")
    assert again.code == 0, again
    assert command(tmp_path / "carol", "status").code == ExitCode.NOT_RUNNING


def test_data_is_refused_until_the_sender_is_trusted(nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path) -> None:
    alice, bob = nodes
    data = bytes(range(256)) * 8
    file = tmp_path / "picture.bin"
    file.write_bytes(data)
    assert bob.command("send", alice.identifier, "--data", str(file)).code == 4
    refused = alice.wait_for("refused", 10, kind="data_transmission", rule="allow_enhanced_packet_exchange")
    assert refused["from"] == bob.identifier
    assert alice.command("trust", bob.identifier).code == 0
    assert alice.wait_for("trust_changed", 10, peer=bob.identifier)["trusted"] is True
    # What is not shown whole is nowhere else, so it is not called delivered.
    too_much = bob.command("send", alice.identifier, "--data", str(file))
    assert (too_much.code, "exceeds the receiver's limit" in too_much.err) == (4, True)
    body = alice.wait_for("packet", 10, kind="data_transmission")["body"]
    assert body == {
        "format": "file",
        "name": "picture.bin",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert bob.command("send", alice.identifier, "--data", "-", stdin=b"small").code == 0
    body = alice.wait_for("packet", 10, kind="data_transmission")["body"]
    assert (base64.b64decode(body["data"]), body["format"], body["name"]) == (b"small", "misc_data", "")
    assert alice.command("status", "-o", "json").json["counters"]["refused"] == 1
    assert alice.command("untrust", bob.identifier).code == 0
    assert alice.wait_for("trust_changed", 10)["trusted"] is False


def test_status_tells_what_scripts_rely_on(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, bob = nodes
    status = alice.command("status", "-o", "json").json
    assert status["channels"] == 1
    for name in ("pending", "known_peers", "blocked", "queued_bytes", "rss", "fds", "greenlets", "hub_lag_ms"):
        assert isinstance(status[name], (int, float)), name
    assert isinstance(status["counters"], dict)
    assert status["rss"] > 0
    assert status["fds"] > 0
    assert f"identifier    {alice.identifier}" in alice.command("status").out
    (row,) = [row for row in alice.command("peers", "-o", "json").json if row["identifier"] == bob.identifier]
    assert (row["connected"], row["trusted"], row["dialled"]) == (True, False, False)
    assert bob.identifier[:12] in alice.command("peers").out


def test_ping(nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path) -> None:
    alice, bob = nodes
    lines = bob.command("ping", alice.identifier, "--count", "3", "-o", "jsonl").out.splitlines()
    assert [0 < json.loads(line)["seconds"] < 10 for line in lines] == [True] * 3
    assert "answered in" in command(tmp_path / "dave", "ping", alice.address).out


def test_listen_tells_the_events_of_the_node(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, _ = nodes
    done = alice.command("listen", "--event", "packet", "--count", "1", "--timeout", "0.01")
    assert done.code == ExitCode.TIMEOUT
    assert "0 of 1 events" in done.err
    assert alice.command("listen", "--timeout", "0.01", "-o", "jsonl").code == 0


def test_explain_names_the_rule(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, bob = nodes
    answer = alice.command("explain", bob.identifier[:10], "-o", "json").json
    assert answer["connected"] is True
    rules = {row["about"]: row["rule"] for row in answer["decisions"]}
    assert rules["pure_message"] == "allow_default_communication"
    assert rules["admitted"] == "no_allowlist"


def test_the_wrong_identity_at_an_address(nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path) -> None:
    alice, bob = nodes
    wrong = alice.address.replace(alice.identifier, bob.identifier)
    done = command(tmp_path, "send", wrong, "hello?")
    assert done.code == ExitCode.REFUSED
    assert f"but {alice.identifier} answered" in done.err


def test_the_wrong_network(nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path) -> None:
    alice, _ = nodes
    done = command(tmp_path, "send", alice.address, "hello?", "--network", "other")
    assert done.code == ExitCode.REFUSED
    assert "compare their network names" in done.err


def test_a_port_in_use(nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path) -> None:
    alice, _ = nodes
    done = command(tmp_path, "run", "--listen", alice.address.rpartition("@")[2])
    assert done.code == ExitCode.ERROR
    assert "the port is in use; choose another" in done.err


def test_two_nodes_on_one_home(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, _ = nodes
    done = alice.command("run")
    assert done.code == ExitCode.ERROR
    assert f"(process {alice.process.pid}) uses the home folder" in done.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("disconnect", "z" * 52), "is not connected"),
        (("accept", "z" * 52), "no pending peer"),
        (("send", "zzz", "hi"), "no known peer"),
        (("send", "z" * 52, "hi"), "no address of zzzzzzzzzzzz is known"),
        (("connect", "127.0.0.1:1"), "nobody listens there"),
        (("trust", "zzz"), "no known peer"),
    ],
    ids=" ".join,
)
def test_what_the_running_node_cannot_do(
    nodes: tuple[NodeProcess, NodeProcess], arguments: tuple[str, ...], complaint: str
) -> None:
    alice, _ = nodes
    done = alice.command(*arguments)
    assert done.code == ExitCode.ERROR
    assert complaint in done.err
    assert "Traceback" not in done.err


def test_a_command_that_the_running_node_is_too_old_for(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, _ = nodes
    with pytest.raises(NodeFailure, match=r"does not know 'frobnicate'.*restart it"):
        client.call(Home(alice.home), "frobnicate")
    with pytest.raises(NodeFailure, match="does not understand"):
        client.call(Home(alice.home), "ping", arguments={"x": 1})


def test_a_list_where_a_text_belongs_is_refused_by_name(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, _ = nodes
    for name, arguments in (("disconnect", {"peer": ["a"]}), ("trust", {"entry": ["a"]}), ("unban", {"who": [1]})):
        with pytest.raises(NodeFailure, match="must be a text") as caught:
            client.call(Home(alice.home), name, arguments=arguments)
        assert caught.value.exit_code == ExitCode.USAGE
    message = {"peer": "abc", "message": {"text": ["a"]}, "timeout": 1, "confirm": True}
    with pytest.raises(NodeFailure, match="'text' must be a text"):
        client.call(Home(alice.home), "send", arguments=message)
    assert "Traceback" not in alice.log


def test_disconnect_is_final_and_connect_undoes_it(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    alice, bob = nodes
    assert bob.command("disconnect", alice.identifier).code == 0
    assert bob.wait_for("peer_removed", 10, peer=alice.identifier)["reason"] == "closed"
    assert alice.wait_for("peer_removed", 10, peer=bob.identifier)["by_peer"] is True
    assert bob.command("connect", alice.identifier).code == 0
    assert bob.wait_for("peer_added", 10, peer=alice.identifier)["dialled"] is True
    assert alice.wait_for("peer_added", 10, peer=bob.identifier)["trusted"] is False


def test_a_peer_that_refuses_a_packet_is_known_afterwards(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "alice") as alice:
        refused = command(tmp_path / "dave", "send", alice.address, "--data", "-", stdin=b"data")
        assert (refused.code, "only from peers that it trusts" in refused.err) == (4, True)
        (known,) = command(tmp_path / "dave", "peers", "-o", "json").json
        assert known["identifier"] == alice.identifier
        assert known["addresses"] == [alice.address.partition("@")[2]]
