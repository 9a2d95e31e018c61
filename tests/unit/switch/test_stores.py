"""State files: whole or not at all, and never lost silently."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from peernet.errors import HomeError
from peernet.peers.address_book import KnownPeer
from peernet.state.files import VERSION, remove_leftovers, write_atomically
from peernet.switch.stores import BANS, PEERS, TRUST
from peernet.trust.bans import Ban
from peernet.trust.policy import IncomingPeerTrustPolicy

SOMEBODY = "a" * 52


def test_lists_are_kept(tmp_path: Path) -> None:
    policy = IncomingPeerTrustPolicy(
        trusted_identifiers=frozenset({SOMEBODY}), blocked_networks=frozenset({"10.0.0.0/8"})
    )
    TRUST.save(tmp_path / "trust.json", policy)
    assert TRUST.load(tmp_path / "trust.json") == policy


def test_known_peers_are_kept_in_order(tmp_path: Path) -> None:
    peers = [KnownPeer("b" * 52, True, ["[::1]:7400"], 5.0), KnownPeer(SOMEBODY, False, [], 6.5)]
    PEERS.save(tmp_path / "peers.json", peers)
    assert PEERS.load(tmp_path / "peers.json") == peers


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert TRUST.load(tmp_path / "trust.json") == IncomingPeerTrustPolicy()
    assert PEERS.load(tmp_path / "peers.json") == []
    assert BANS.load(tmp_path / "bans.json") == []


def test_bans_are_kept(tmp_path: Path) -> None:
    bans = [Ban(SOMEBODY, "bad_packet", 100.0, 5.0, 6.5), Ban("2001:db8::/56", "noise", 0.0, 5.0, 6.5, manual=True)]
    BANS.save(tmp_path / "bans.json", bans)
    assert BANS.load(tmp_path / "bans.json") == bans


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
        assert TRUST.load(file) == IncomingPeerTrustPolicy()
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("trust.json.damaged-")
    assert kept.read_bytes() == content
    assert "damaged" in caplog.text


PEER = {"identifier": SOMEBODY, "proven": True, "addresses": ["[::1]:7400"], "last_seen": 0}
BAN = {"who": SOMEBODY, "reason": "", "score": 0, "since": 0, "expires": 1, "manual": False}
NO_TIMES: list[object] = ["x", None, [], 10**400, float("nan"), float("inf")]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        5,
        PEER | {"identifier": "x"},
        PEER | {"addresses": "[::1]:7400"},
        PEER | {"addresses": 5},
        *(PEER | {"last_seen": wrong} for wrong in NO_TIMES),
    ],
)
def test_a_damaged_address_book_is_set_aside(tmp_path: Path, entry: object) -> None:
    file = tmp_path / "peers.json"
    file.write_text(json.dumps({"version": 1, "peers": [PEER, entry]}))
    assert PEERS.load(file) == []
    assert not file.exists()


@pytest.mark.parametrize(
    "entry",
    [{}, 5, *(BAN | {"who": wrong} for wrong in ("x", 5, "10.0.0.0/8")), *(BAN | {"since": no} for no in NO_TIMES)],
)
def test_damaged_bans_are_set_aside(tmp_path: Path, entry: object) -> None:
    file = tmp_path / "bans.json"
    file.write_text(json.dumps({"version": 1, "bans": [BAN, entry]}))
    assert BANS.load(file) == []
    assert not file.exists()


@dataclass
class Kind:
    """A kind of state file."""

    save: Callable[[Path, Any], None]
    load: Callable[[Path], Any]
    content: Any
    empty: Any


SOME_PEERS = [
    KnownPeer("b" * 52, True, ["[::1]:7400"], 5.0, "2001:db8::/32", True),
    KnownPeer(SOMEBODY, False, [], 6.5),
]
KINDS = {
    "trust": Kind(
        TRUST.save,
        TRUST.load,
        IncomingPeerTrustPolicy(trusted_identifiers=frozenset({SOMEBODY}), blocked_networks=frozenset({"10.0.0.0/8"})),
        IncomingPeerTrustPolicy(),
    ),
    "peers": Kind(PEERS.save, PEERS.load, SOME_PEERS, []),
    "bans": Kind(BANS.save, BANS.load, [Ban(SOMEBODY, "bad_packet", 100.0, 5.0, 6.5)], []),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every_kind
def test_a_file_cut_short_anywhere_is_all_or_nothing(tmp_path: Path, kind: Kind) -> None:
    file = tmp_path / "file"
    kind.save(file, kind.content)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        complete = length == len(whole) - 1  # but for the end of the line
        assert kind.load(file) == (kind.content if complete else kind.empty)
        assert file.exists() == complete
    assert len(list(tmp_path.glob("file.damaged-*"))) == len(whole) - 1  # nothing is lost


@every_kind
def test_a_file_with_a_bit_turned_over_anywhere_is_all_or_nothing(tmp_path: Path, kind: Kind) -> None:
    file = tmp_path / "file"
    kind.save(file, kind.content)
    whole = file.read_bytes()
    harmless = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 7  # which stays ASCII
        file.write_bytes(damaged)
        loaded = kind.load(file)
        assert loaded in (kind.content, kind.empty)
        harmless += loaded == kind.content
    assert harmless < len(whole) / 4  # in the white space


@every_kind
def test_zeros_as_a_power_cut_may_leave_them_are_damage(tmp_path: Path, kind: Kind) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(4096))
    assert kind.load(file) == kind.empty


@every_kind
def test_a_file_that_was_changed_by_hand_is_set_aside_unless_its_checksum_is_removed(
    tmp_path: Path, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    kind.save(file, kind.content)
    changed = file.read_text().replace(SOMEBODY, "c" * 52)
    file.write_text(changed)
    assert kind.load(file) == kind.empty
    (kept,) = tmp_path.iterdir()
    assert f"{file} is damaged (its checksum is wrong; if you have changed it by hand, remove the line" in caplog.text
    assert kept.name in caplog.text
    lines = kept.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if '"checksum"' not in line))
    assert "c" * 52 in repr(kind.load(file))


@every_kind
def test_the_layout_of_a_file_does_not_matter(tmp_path: Path, kind: Kind) -> None:
    file = tmp_path / "file"
    kind.save(file, kind.content)
    file.write_text(json.dumps(json.loads(file.read_text()), sort_keys=True))
    assert kind.load(file) == kind.content


def test_files_from_before_there_were_checksums_are_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(json.dumps({"version": 1, "trusted_identifiers": [SOMEBODY]}))
    assert TRUST.load(file).trusted_identifiers == {SOMEBODY}
    file.write_text(json.dumps({"version": 1, "peers": [PEER]}))
    assert PEERS.load(file) == [KnownPeer(SOMEBODY, True, ["[::1]:7400"], 0.0, "", False)]


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


def test_a_file_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    file.write_text(json.dumps({"version": VERSION + 1}))
    with pytest.raises(HomeError, match="newer peernet"):
        TRUST.load(file)
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
