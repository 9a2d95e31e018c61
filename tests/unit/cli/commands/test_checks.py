"""`doctor` and `completion`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peernet.node.failures import ExitCode
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
