"""The private key never leaves its file: not into a log, not into an event, not onto a terminal."""

from __future__ import annotations

import base64
import logging
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from peernet import Identity
from peernet.errors import DeliveryFailed, PeerNetError
from tests.integration.attackers import dial
from tests.integration.meetings import Networks, meet, text
from tests.support import PartsOf, wait_until
from tools.node_process import COMMAND, FACTOR, command, running


def forms(identity: Identity) -> dict[str, str]:
    """The key as somebody could have written it down."""
    key = identity.private_key
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "hexadecimal": raw.hex(),
        "escaped": repr(raw)[2:-1],
        "base64": base64.b64encode(raw).decode().rstrip("="),
        "base64 for addresses": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        "PEM": pem.splitlines()[1],
    }


def written_in(shown: str, identity: Identity) -> list[str]:
    """The forms in which a text holds the key."""
    return [name for name, form in forms(identity).items() if form.lower() in shown.lower()]


def test_a_key_would_be_found() -> None:
    identity = Identity.generate()
    for name, form in forms(identity).items():
        assert name in written_in(f"... {form} ...", identity)


def test_a_whole_session_at_the_level_debug_logs_no_key(
    networks: Networks, parts_of: PartsOf, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, ""):
        meeting = meet(networks)
        meeting.bob.handlers["pure_message"] = lambda channel, packet: dict[object, object]()[meeting.bob.identity]
        with pytest.raises(DeliveryFailed):
            meeting.to_bob.send(text("hello")).wait(5)
        parts_of(meeting.to_bob).control.detach("a test cuts it")
        wait_until(lambda: meeting.bob.counters["resumed"])
        with pytest.raises(PeerNetError):
            meeting.bob.connect(meeting.bob.addresses[0])
        attacker = dial(meeting.bob.addresses[0])
        attacker.greet()
        attacker.send_frame(b"nonsense")
        assert attacker.farewell() == "bad_packet"
        attacker.leave()
        meeting.alice.stop()
        meeting.bob.stop()
    shown = caplog.text + repr([vars(network) for network in (meeting.alice, meeting.bob)])
    assert "KeyError" in caplog.text
    assert "broke the protocol" in caplog.text
    for network in (meeting.alice, meeting.bob):
        assert written_in(shown, network.identity) == []


def test_a_node_and_its_commands_show_no_key(tmp_path: Path) -> None:
    home = tmp_path / "home"
    arguments = [*COMMAND, "--home", str(home), "-vv", "run", "-o", "jsonl"]
    with running(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as node:
        assert node.stdout is not None
        shown = node.stdout.readline()
        for arguments in (["id"], ["status"], ["doctor"], ["config", "show"], ["send", "127.0.0.1:1", "x"], ["stop"]):
            done = command(home, "-vv", *arguments)
            shown += (done.out + done.err).encode()
        shown += node.stdout.read()
        assert node.wait(10 * FACTOR) == 0
    identity = Identity(load_pem_private_key((home / "key.pem").read_bytes(), None))  # type: ignore[arg-type]
    assert identity.identifier.encode() in shown
    assert written_in(shown.decode(), identity) == []
