"""`send` and `listen`, as far as they need no node."""

from __future__ import annotations

from pathlib import Path

import pytest

from peernet.node.failures import ExitCode
from tests.unit.cli.conftest import Run

SOMEBODY = "s" * 52


@pytest.mark.parametrize(
    "command",
    [
        ("send", "abc", "\udcff"),
        ("send", "abc", "--data", "-", "--name", "\udcff"),
        ("send", "abc", "text", "--network", "\udcff"),
        ("reject", "abc", "--message", "\udcff"),
        ("run", "--network", "\udcff"),
    ],
)
def test_text_that_is_no_utf_8_is_refused(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command)
    assert result.exit_code == ExitCode.USAGE
    assert "it is not UTF-8 text" in result.stderr


def test_a_file_whose_name_is_no_utf_8_needs_another_name(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "data\udcff"
    file.write_bytes(b"x")
    result = run("send", "127.0.0.1:1", "--data", str(file))
    assert result.exit_code == ExitCode.USAGE
    assert "give the data another with --name" in result.stderr
    assert "not UTF-8" not in run("send", "127.0.0.1:1", "--data", str(file), "--name", "data").stderr


def test_data_that_fits_into_no_packet(run: Run) -> None:
    result = run("send", "127.0.0.1:1", "--data", "-", stdin=b"x" * (1024 * 1024 + 1))
    assert result.exit_code == ExitCode.ERROR
    assert "does not fit into one packet" in result.stderr
