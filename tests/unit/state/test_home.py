"""The home folder: one user at a time, and errors that say what to do."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from peernet.errors import HomeError, HomeInUseError
from peernet.state.home import PATIENCE, Home
from tests.unit.denial import deny_access_below


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


def test_whoever_means_to_stay_waits_for_one_that_only_looks(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with ExitStack() as looking:
        looking.enter_context(home.locked())
        end = threading.Timer(0.1, looking.close)
        end.start()
        with home.locked(PATIENCE):
            assert home.holder() == os.getpid()
        end.join()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    home = Home(tmp_path / "home")
    home.create()
    home.folder.chmod(mode)
    with pytest.raises(HomeError, match=r"chmod go-w .*home`, or choose another"), home.locked():
        raise AssertionError("it was used")
    assert not home.lock_file.exists()
    home.folder.chmod(0o755)
    home.create()


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(HomeError, match="belongs to another user"):
        Home(tmp_path).create()


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    home.lock_file.symlink_to(victim)
    with pytest.raises(HomeError, match="symbolic link; remove it"), home.locked():
        raise AssertionError("it was used")
    assert victim.read_text() == "precious"


def test_a_home_of_nobody_is_refused() -> None:
    with pytest.raises(HomeError, match="choose another with --home"):
        Home("~no-such-user/home")


def test_a_folder_in_one_that_cannot_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny_access_below(tmp_path / "closed", monkeypatch)
    with (
        pytest.raises(HomeError, match=r"cannot be used .Permission denied"),
        Home(tmp_path / "closed" / "home").locked(),
    ):
        raise AssertionError("it was used")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(HomeError, match="is a file, not a folder; choose another"), Home(file).locked():
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
