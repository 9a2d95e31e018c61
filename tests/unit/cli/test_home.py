"""The home folder: one user at a time, and errors that say what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from peernet.cli.home import Home
from peernet.errors import HomeError, HomeInUseError


def test_a_lock_makes_the_folder_for_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    with home.locked():
        assert home.folder.stat().st_mode & 0o777 == 0o700


def test_two_cannot_use_one_home(tmp_path: Path) -> None:
    refused = pytest.raises(HomeInUseError, match=f"process {os.getpid()}.*stop it")
    with Home(tmp_path).locked(), refused, Home(tmp_path).locked():
        raise AssertionError("both got it")


def test_a_home_is_free_again_after_its_user_has_gone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        assert home.holder() == os.getpid()
    assert home.holder() is None


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(HomeError, match="is not a folder; choose another"), Home(file).locked():
        raise AssertionError("it was used")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="cannot be used"), Home(tmp_path / "file" / "below").locked():
        raise AssertionError("it was used")


def test_the_control_socket_works_however_long_the_path_is(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 100) / ("y" * 100))
    home.create()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with home.socket_address() as address:
            server.bind(address)
        server.listen()
        with home.socket_address() as address:
            client.connect(address)
    assert home.socket_file.is_socket()
