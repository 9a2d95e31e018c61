"""`init` and `id`."""

from __future__ import annotations

import json
from pathlib import Path

from peernet.node.failures import ExitCode
from peernet.state.home import Home
from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


def test_init_and_id_agree_and_init_keeps_what_is_there(run: Run) -> None:
    made = json.loads(run("init", "-o", "json").output)
    Path(made["settings"]).write_text('[node]\nnetwork = "mine"\n')
    assert json.loads(run("init", "-o", "json").output) == made
    assert run("id").output == made["identifier"] + "\n"
    assert json.loads(run("id", "-o", "jsonl").output) == {"identifier": made["identifier"]}
    assert "mine" in Path(made["settings"]).read_text()


def test_id_without_a_key_says_how_to_make_one(run: Run, tmp_path: Path) -> None:
    result = run("id")
    assert result.exit_code == ExitCode.ERROR
    assert f"`peernet-node --home {tmp_path / 'home'} init` makes one" in result.stderr
    assert result.stdout == ""


def test_init_with_nothing_to_write_succeeds_while_the_home_is_in_use(run: Run, tmp_path: Path) -> None:
    made = run("init").output
    with Home(tmp_path / "home").locked():
        assert run("init").output == made
        (tmp_path / "home" / "config.toml").unlink()
        assert "uses the home folder" in run("init").stderr


def test_a_damaged_key_is_refused_and_kept(run: Run, tmp_path: Path) -> None:
    run("init")
    key = tmp_path / "home" / "key.pem"
    key.write_text("junk")
    for command in (["init"], ["id"], ["run"], ["send", "127.0.0.1:1", "x"]):
        result = run(*command)
        assert result.exit_code == ExitCode.ERROR
        assert "is damaged; restore it" in result.stderr
    assert key.read_text() == "junk"
