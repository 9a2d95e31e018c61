"""How `peernet-node run` starts, decides, and ends."""

from __future__ import annotations

import json
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from peernet.node.failures import ExitCode
from tests.support import wait_until
from tools.node_process import COMMAND, NodeProcess, command, running

pytestmark = pytest.mark.processes

FAST = "[limits]\nbackoff_base = 0.05\nbackoff_cap = 0.1\n"
Start = Callable[..., NodeProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a node on a home of the given name; it is ended with the test."""
    with ExitStack() as stack:

        def make(name: str, *arguments: str, config: str = "") -> NodeProcess:
            home = tmp_path / name
            if config:
                home.mkdir(mode=0o700, exist_ok=True)
                (home / "config.toml").write_text(config)
            return stack.enter_context(NodeProcess(home, *arguments))

        yield make


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_node_politely(start: Start, number: int) -> None:
    alice = start("alice")
    bob = start("bob", "--connect", alice.address)
    bob.wait_for("peer_added")
    assert alice.terminate(number) == 0
    gone = bob.wait_for("peer_removed")
    assert (gone["reason"], gone["by_peer"]) == ("shutdown", True)
    assert alice.end_of_output()[-1]["event"] == "peer_removed"
    assert alice.log == ""


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    alice = start("alice")
    bob = start("bob", "--connect", alice.address)
    alice.wait_for("peer_added")
    bob.process.send_signal(signal.SIGSTOP)  # it will not answer the goodbye, which so takes its time
    alice.process.send_signal(signal.SIGTERM)
    host, _, port = alice.address.rpartition("@")[2].rpartition(":")
    wait_until(lambda: not accepts(host, int(port)), 5, "the first signal to be heeded")
    assert alice.terminate() == 128 + signal.SIGTERM


def test_under_nohup_the_end_of_the_terminal_is_no_reason_to_end(tmp_path: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    arguments = [*COMMAND, "--home", str(tmp_path / "home"), "run", "-o", "jsonl"]
    with running([sys.executable, "-c", ignoring, *arguments], stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        assert b"ready" in node.stdout.readline()
        node.send_signal(signal.SIGHUP)
        assert command(tmp_path / "home", "status").code == 0
        assert command(tmp_path / "home", "stop").code == 0
        assert node.wait(10) == 0


def test_many_changes_at_once_are_all_kept(start: Start, tmp_path: Path) -> None:
    alice = start("alice")
    networks = [f"10.{number}.0.0/16" for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        assert {done.code for done in threads.map(lambda entry: alice.command("block", entry), networks)} == {0}
    kept = json.loads((tmp_path / "alice" / "trust.json").read_bytes())
    assert sorted(kept["blocked_networks"]) == sorted(networks)
    assert alice.log == ""


def test_a_save_that_fails_is_one_sentence(start: Start, tmp_path: Path) -> None:
    alice = start("alice")
    (tmp_path / "alice" / "trust.json").mkdir()
    done = alice.command("block", "10.0.0.0/8")
    assert done.code == ExitCode.ERROR
    assert "cannot write" in done.err
    assert "in force until the node stops, but it is not kept" in done.err
    assert alice.command("status", "-o", "json").json["blocked"] == 1
    assert alice.terminate() == 0
    assert "Traceback" not in alice.log


def test_whoever_is_turned_away_is_told_in_the_log(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    assert command(home, "block", "127.0.0.0/8").code == 0
    arguments = [*COMMAND, "--home", str(home), "-v", "run", "-o", "jsonl"]
    with (
        log.open("wb") as stderr,
        running(arguments, stdout=subprocess.PIPE, stderr=stderr) as node,
    ):
        assert node.stdout is not None
        ready = json.loads(node.stdout.readline())
        host, _, port = ready["addresses"][0].rpartition("@")[2].rpartition(":")
        assert accepts(host, int(port))
        wait_until(lambda: "not received: blocked_networks" in log.read_text(), 5, "the log to tell")
        assert command(home, "stop").code == 0
        assert node.stdout.read() == b""  # it is no event


def test_a_peer_whose_packets_wait_for_the_reader_can_be_disconnected(start: Start, tmp_path: Path) -> None:
    alice = start("alice", config="[limits]\nclose_timeout = 0.5\n")
    bob = start("bob", "--connect", alice.address)
    for _ in range(3):  # more than waits for stdout, which nobody reads
        assert bob.command("send", alice.identifier, "-", "--no-wait", stdin=b"x" * 500_000).code == 0
    assert alice.command("disconnect", bob.identifier).code == 0
    assert alice.command("stop").code == 0


def accepts(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_stop_returns_when_the_home_is_free(start: Start, tmp_path: Path) -> None:
    start("alice").command("stop")
    assert command(tmp_path / "alice", "status").code == ExitCode.NOT_RUNNING
    again = start("alice")
    assert again.command("stop", "-o", "json").json == {"stopped": True}
    assert again.wait() == 0
    assert not (tmp_path / "alice" / "control.sock").exists()


def test_a_node_that_was_killed_leaves_nothing_in_the_way(start: Start) -> None:
    alice = start("alice")
    alice.terminate(signal.SIGKILL)
    assert alice.command("status").code == ExitCode.NOT_RUNNING
    assert start("alice").identifier == alice.identifier


def test_trust_and_known_peers_outlive_the_node(start: Start, tmp_path: Path) -> None:
    bob = start("bob")
    alice = start("alice", "--connect", bob.address)
    alice.wait_for("peer_added")
    alice.command("trust", bob.identifier)
    assert alice.terminate() == 0
    alice = start("alice")
    assert alice.command("connect", bob.identifier[:10]).code == 0
    assert alice.wait_for("peer_added", 10, peer=bob.identifier)["trusted"] is True
    (row,) = alice.command("peers", "-o", "json").json
    assert row["address"] == bob.address.rpartition("@")[2]


def test_connect_waits_for_a_peer_that_is_not_up_yet(start: Start) -> None:
    bob = start("bob", "--listen", "127.0.0.1:0")
    address = bob.address
    bob.terminate()
    alice = start("alice", "--connect", address, config=FAST)
    assert alice.wait_for("dial_failed")["retry_in"] <= 0.1
    bob = start("bob", "--listen", address.rpartition("@")[2])
    assert alice.wait_for("peer_added")["peer"] == bob.identifier
    bob.terminate()
    alice.wait_for("peer_removed", 10, reason="shutdown")
    start("bob", "--listen", address.rpartition("@")[2])
    alice.wait_for("peer_added")


def test_an_address_that_leads_back_is_given_up(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
    alice = start("alice", "--listen", endpoint, "--connect", endpoint, config=FAST)
    assert alice.wait_for("dial_failed", 10, retry_in=None)["address"] == endpoint


def test_a_queue_holds_peers_until_somebody_decides(start: Start, tmp_path: Path) -> None:
    alice = start("alice", "--placement", "queue")
    bob = start("bob", "--connect", alice.address, config=FAST)
    pending = alice.wait_for("pending")
    assert (pending["peer"], pending["proven"]) == (bob.identifier, True)
    (row,) = alice.command("pending", "-o", "json").json
    assert row["peer"] == row["identifier"] == bob.identifier
    assert alice.command("explain", bob.identifier, "-o", "json").json["address"] == row["address"]
    assert "is pending; let it in first" in alice.command("send", bob.identifier, "hi").err
    assert alice.command("status", "-o", "json").json["pending"] == 1
    assert alice.command("reject", bob.identifier[:10], "--message", "not today").code == 0
    rejected = bob.wait_for("peer_removed")
    assert (rejected["reason"], rejected["message"]) == ("rejected", "not today")
    alice.wait_for("pending")  # it dials again
    assert alice.command("accept", bob.identifier).code == 0
    alice.wait_for("peer_added", 10, peer=bob.identifier)
    assert bob.command("send", alice.identifier, "thanks").code == 0
    alice.wait_for("packet", 10, body={"message": "thanks"})
    assert "nobody is waiting" in alice.command("pending").out


def test_a_message_to_somebody_who_has_not_accepted_us_is_not_called_delivered(start: Start) -> None:
    alice = start("alice", "--placement", "both")
    bob = start("bob", "--connect", alice.address)
    bob.wait_for("peer_added")
    done = bob.command("send", alice.identifier, "hi", "--timeout", "1")
    assert done.code == ExitCode.TIMEOUT
    assert "still has to accept this node" in done.err


def test_a_rejected_message_is_told_to_its_sender(start: Start, tmp_path: Path) -> None:
    alice = start("alice", "--placement", "queue")
    arguments = [*COMMAND, "--home", str(tmp_path / "carol"), "send", alice.address, "hi"]
    with running(arguments, stderr=subprocess.PIPE) as sending:
        peer = alice.wait_for("pending")["peer"]
        alice.command("reject", peer, "--message", "not today")
        _, err = sending.communicate(timeout=10)
    assert sending.returncode == ExitCode.REFUSED
    assert b"rejected" in err
    assert b"(not today)" in err


def test_a_blocked_peer_is_sent_away_and_stays_away(start: Start) -> None:
    alice = start("alice")
    bob = start("bob", "--connect", alice.address, config=FAST)
    alice.wait_for("peer_added")
    assert alice.command("block", bob.identifier).code == 0
    assert alice.wait_for("peer_removed")["reason"] == "blocked"
    assert bob.wait_for("peer_removed", 10, by_peer=True)["reason"] == "blocked"
    done = bob.command("send", alice.address, "let me in")
    assert done.code == ExitCode.REFUSED
    assert "blocklist" in done.err
    assert alice.log.count(f"{bob.identifier} at 127.0.0.1:") == 1  # although it has knocked many times
    assert "not let in: The identifier is blocked. (blocked_identifiers)" in alice.log
    status = alice.command("status", "-o", "json").json
    assert status["blocked"] == 1
    assert status["counters"]["blocked"] >= 1
    assert alice.command("unblock", bob.identifier).code == 0
    alice.wait_for("peer_added", 10, peer=bob.identifier)


def test_an_allowlist_sends_everybody_else_away(start: Start) -> None:
    alice = start("alice")
    bob = start("bob", "--connect", alice.address, config=FAST)
    alice.wait_for("peer_added")
    assert alice.command("allow", "z" * 52).code == 0
    assert alice.wait_for("peer_removed", 10, peer=bob.identifier)["reason"] == "not_allowed"
    assert alice.command("allow", bob.identifier).code == 0
    alice.wait_for("peer_added", 10, peer=bob.identifier)


def test_without_tls_nobody_can_be_trusted(start: Start) -> None:
    alice = start("alice", "--insecure")
    bob = start("bob", "--insecure", "--connect", alice.address)
    assert alice.wait_for("peer_added")["proven"] is False
    done = alice.command("trust", bob.identifier)
    assert done.code == ExitCode.REFUSED
    assert "only claims its identifier" in done.err
    done = alice.command("trust", "z" * 52)
    assert done.code == ExitCode.REFUSED
    assert "nobody can prove who they are or be trusted" in done.err
    answer = alice.command("explain", "z" * 52, "-o", "json").json
    assert {row["about"]: row["allowed"] for row in answer["decisions"]}["data_transmission"] is False
    assert bob.command("send", alice.identifier, "hi").code == 0
    alice.wait_for("packet", 10, body={"message": "hi"})


def test_a_ping_that_is_not_answered_names_the_peer_and_the_time(start: Start) -> None:
    alice = start("alice", "--placement", "queue")
    bob = start("bob", "--connect", alice.address)
    bob.wait_for("peer_added")
    done = bob.command("ping", alice.identifier, "--timeout", "1")
    assert done.code == ExitCode.TIMEOUT
    assert done.err == f"Error: {alice.identifier[:12]} did not answer within 1 s\n"


def test_a_key_that_others_can_read_is_warned_of(start: Start, tmp_path: Path) -> None:
    command(tmp_path / "alice", "init")
    key = tmp_path / "alice" / "key.pem"
    key.chmod(0o640)
    alice = start("alice")
    assert alice.terminate() == 0
    assert f"others can read the key; run `chmod 600 {key}`" in alice.log


def test_damaged_state_is_set_aside_and_the_node_starts(start: Start, tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir(mode=0o700)
    (tmp_path / "alice" / "peers.json").write_text("junk")
    alice = start("alice")
    assert alice.terminate() == 0
    assert "peers.json is damaged" in alice.log
    assert list((tmp_path / "alice").glob("peers.json.damaged-*"))


def test_a_reader_who_goes_away_or_sleeps_does_not_hurt_the_node(start: Start, tmp_path: Path) -> None:
    alice = start("alice")
    alice.command("listen", "--timeout", "0.01")
    text = "x" * 100_000
    for _ in range(3):  # several times what a pipe holds, and nobody reads
        assert command(tmp_path / "bob", "send", alice.address, text).code == 0
    assert alice.process.stdout is not None
    alice.process.stdout.close()
    assert command(tmp_path / "bob", "send", alice.address, text).code == 0
    assert alice.terminate() == 0
    assert "Traceback" not in alice.log


def test_lines_for_people(tmp_path: Path) -> None:
    with running([*COMMAND, "--home", str(tmp_path), "run"], stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        line = node.stdout.readline().decode()
        node.terminate()
        assert node.wait(10) == 0
        assert node.stdout.read().decode().endswith("  stopped        everybody was told goodbye\n")
    assert "  ready          " in line
    assert "peer://" in line


def test_more_is_logged_if_that_is_asked_for_behind_run(start: Start) -> None:
    alice, bob = start("alice", "-vv"), start("bob", "-q")
    assert alice.command("connect", bob.address).code == 0
    assert "DEBUG peernet.node.node: " in alice.log
    assert "DEBUG peernet.node.requests: asked for connect" in alice.log
    assert bob.log == ""


def test_states_of_channels_are_shown(start: Start) -> None:
    alice, bob = start("alice"), start("bob", "--placement", "queue")
    carol = start("carol", "--connect", alice.address, "--connect", bob.address)
    alice.wait_for("peer_added")
    bob.wait_for("pending")
    (row,) = bob.command("peers", "-o", "json").json
    assert (row["identifier"], row["state"], row["connected"]) == (carol.identifier, "pending", False)
    (row,) = alice.command("peers", "-o", "json").json
    assert (row["state"], row["connected"], row["seconds_reconnecting"]) == ("connected", True, 0.0)
    carol.terminate(signal.SIGKILL)
    alice.wait_for("reconnecting")
    (row,) = alice.command("peers", "-o", "json").json
    assert (row["state"], row["connected"]) == ("reconnecting", False)
    assert "reconnecting for " in alice.command("peers").out
    status = alice.command("status", "-o", "json").json
    assert (status["channels"], status["connected"], status["reconnecting"]) == (1, 0, 1)


def test_the_version_needs_no_home_and_little_time(tmp_path: Path) -> None:
    def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*COMMAND, "--version"], capture_output=True, env={"HOME": "/nonexistent"}, check=True)
        assert done.stdout.startswith(b"peernet-node ")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime  # however busy the machine is

    assert min(measure() for _ in range(3)) < 1.0


def test_quick_commands_import_nothing_slow() -> None:
    script = "import sys; import peernet.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"gevent", "google.protobuf", "OpenSSL", "cryptography", "rich", "psutil", "ssl"} & set(loaded)


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)], ids=str)
def test_events_are_written_into_no_file_that_took_the_place_of_stdout(tmp_path: Path, closed: tuple[int, ...]) -> None:
    home = tmp_path / "home"
    closing = "import os, sys; [os.close(int(number)) for number in sys.argv[1]]; os.execv(sys.argv[2], sys.argv[2:])"
    numbers = "".join(map(str, closed))
    arguments = [sys.executable, "-c", closing, numbers, *COMMAND, "--home", str(home), "run"]
    with running(arguments, stderr=subprocess.PIPE) as node:
        wait_until(lambda: command(home, "status").code == 0, 30, "the node to run")
        address = command(home, "status", "-o", "json").json["addresses"][0]
        assert command(tmp_path / "bob", "send", address, "words of a stranger").code == 0
        assert (home / "lock").read_bytes() == str(node.pid).encode()
        assert command(home, "stop").code == 0
        assert node.wait(10) == 0


def test_a_full_disk_under_stdout_tears_no_line_and_loses_none_when_there_is_room_again(tmp_path: Path) -> None:
    home, output = tmp_path / "home", tmp_path / "events"
    arguments = [*COMMAND, "--home", str(home), "run", "-o", "jsonl"]
    with (
        output.open("wb") as stdout,
        running(arguments, stdout=stdout, stderr=subprocess.PIPE) as node,
    ):
        wait_until(lambda: output.stat().st_size, 10, "the node to be ready")
        address = json.loads(output.read_bytes())["addresses"][0]
        full = output.stat().st_size + 10
        unlimited = resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        for text in ("one", "two", "three"):
            assert command(tmp_path / "bob", "send", address, text).code == 0
        assert output.stat().st_size == full  # in the middle of a line
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, unlimited)
        assert command(home, "stop").code == 0
        assert node.wait(10) == 0
    events = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert [event["body"]["message"] for event in events if event["event"] == "packet"] == ["one", "two", "three"]


@pytest.mark.parametrize("arguments", [("send", "ADDRESS", "hi"), ("ping", "ADDRESS")], ids=" ".join)
def test_ctrl_c_ends_a_momentary_node_quietly(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        words = [address if word == "ADDRESS" else word for word in arguments]
        with watched(tmp_path / "home", *words) as waiting:
            visitor, _ = silent.accept()
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=10) == (b"", b"")
            visitor.close()
    assert waiting.returncode == ExitCode.INTERRUPTED


def test_ctrl_c_ends_listen_quietly(start: Start, tmp_path: Path) -> None:
    alice = start("alice")
    with watched(tmp_path / "alice", "listen", "-o", "jsonl") as listening:
        assert listening.stdout is not None
        while not select.select([listening.stdout], [], [], 0)[0]:
            assert command(tmp_path / "bob", "send", alice.address, "hi").code == 0
        listening.send_signal(signal.SIGINT)
        assert listening.communicate(timeout=10)[1] == b""
    assert listening.returncode == ExitCode.INTERRUPTED


def watched(home: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return running([*COMMAND, "--home", str(home), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
