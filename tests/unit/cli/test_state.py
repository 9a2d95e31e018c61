"""State files: whole or not at all, and never lost silently."""

from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peernet.cli.state import load_peers, load_trust, save_peers, save_trust, write_atomically
from peernet.errors import HomeError
from peernet.known_peers import KnownPeer
from peernet.trust import IncomingPeerTrustPolicy

SOMEBODY = "a" * 52


def test_lists_are_kept(tmp_path: Path) -> None:
    policy = IncomingPeerTrustPolicy(
        trusted_identifiers=frozenset({SOMEBODY}), blocked_networks=frozenset({"10.0.0.0/8"})
    )
    save_trust(tmp_path / "trust.json", policy)
    assert load_trust(tmp_path / "trust.json") == policy


def test_known_peers_are_kept_in_order(tmp_path: Path) -> None:
    peers = [KnownPeer("b" * 52, True, ["[::1]:7400"], 5.0), KnownPeer(SOMEBODY, False, [], 6.5)]
    save_peers(tmp_path / "peers.json", peers)
    assert load_peers(tmp_path / "peers.json") == peers


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert load_trust(tmp_path / "trust.json") == IncomingPeerTrustPolicy()
    assert load_peers(tmp_path / "peers.json") == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"version": 1, "trusted_identifiers": ["nobody"]}',
        b'{"version": 1, "trusted_identifiers": 5}',
        b'{"version": "1"}',
        b'{"version": 0}',
        b'{"version": true}',
        b'{"version": 1, "trusted": []}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_set_aside_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "trust.json"
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load_trust(file) == IncomingPeerTrustPolicy()
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("trust.json.damaged-")
    assert kept.read_bytes() == content
    assert "damaged" in caplog.text


@pytest.mark.parametrize("entry", [{}, 5, {"identifier": "x", "proven": True, "addresses": [], "last_seen": 0}])
def test_a_damaged_address_book_is_set_aside(tmp_path: Path, entry: object) -> None:
    file = tmp_path / "peers.json"
    file.write_text(json.dumps({"version": 1, "peers": [entry]}))
    assert load_peers(file) == []
    assert not file.exists()


def test_a_file_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    file.write_text('{"version": 2}')
    with pytest.raises(HomeError, match="newer peernet"):
        load_trust(file)
    assert file.exists()


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
