"""Files that are replaced as a whole, whatever happens."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peernet.errors import HomeError
from peernet.state.files import remove_leftovers, write_atomically


def test_what_saves_have_left_that_were_ended_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".trust.json.x1y2", ".trust.json.zzz", "trust.json", "trust.json.damaged-1", ".peers.json.abc"):
        (tmp_path / name).touch()
    (tmp_path / ".trust.json.folder").mkdir()
    remove_leftovers([tmp_path / "trust.json"])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".peers.json.abc",
        ".trust.json.folder",
        "trust.json",
        "trust.json.damaged-1",
    ]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(HomeError, match="cannot write"):
        write_atomically(target, b"new")  # a file cannot replace a folder
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_in_place_of_the_file_is_replaced_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("trust.json", f".trust.json.{os.getpid()}"):
        (tmp_path / name).symlink_to(victim)
    write_atomically(tmp_path / "trust.json", b"new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "trust.json").read_bytes() == b"new"
    assert not (tmp_path / "trust.json").is_symlink()


@pytest.mark.parametrize("umask", [0, 0o777])
def test_a_file_can_be_read_by_its_owner_only_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        write_atomically(tmp_path / "trust.json", b"new")
    finally:
        os.umask(previous)
    assert (tmp_path / "trust.json").stat().st_mode & 0o777 == 0o600


def test_saves_from_several_threads_at_once_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    contents = [bytes([65 + number]) * 100_000 for number in range(4)]

    def save(content: bytes) -> None:
        for _ in range(20):
            write_atomically(file, content)
            assert file.read_bytes() in contents

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(save, contents))
    assert list(tmp_path.iterdir()) == [file]
