"""`doctor` and `completion`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peernet.node.failures import ExitCode
from peernet.transport.tls import groups_offered
from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


def test_doctor(run: Run, tmp_path: Path) -> None:
    names = {row["name"] for row in json.loads(run("doctor", "-o", "json").stdout)}
    assert {"python", "gevent patches", "TLS 1.3", "open files", "home"} <= names
    run("init")
    key = tmp_path / "home" / "key.pem"
    key.chmod(0o644)
    (tmp_path / "home" / "trust.json").write_text("junk")
    result = run("doctor")
    assert result.exit_code == ExitCode.CHECK_FAILED
    assert "chmod 600" in result.output
    assert "key permissions, trust.json" in result.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[node]\nkey_exchange = "x25519"\n', "x25519: X25519"),
        ("", f"hybrid: {', then '.join(groups_offered('hybrid'))}"),
        ("junk", f"hybrid: {', then '.join(groups_offered('hybrid'))}"),
    ],
    ids=["x25519", "default", "settings that cannot be read"],
)
def test_doctor_tells_what_is_offered_for_the_key_exchange(run: Run, tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "config.toml").write_text(text)
    rows = {row["name"]: row for row in json.loads(run("doctor", "-o", "json").stdout)}
    assert (rows["key exchange"]["ok"], rows["key exchange"]["message"]) == (True, found)


def test_doctor_finds_a_home_that_others_can_change(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    result = run("doctor")
    assert result.exit_code == ExitCode.CHECK_FAILED
    assert "chmod go-w" in result.output
    for command in (["init"], ["trust", SOMEBODY], ["run"]):
        result = run(*command)
        assert result.exit_code == ExitCode.ERROR
        assert "chmod go-w" in result.stderr
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    assert "_PEERNET_NODE_COMPLETE" in run("completion", shell).output
