"""What is kept of a network: whole or not at all, and never lost silently."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.errors import HomeError
from peernet.network import PeerNetwork
from peernet.peers.address_book import KnownPeer, KnownPeers
from peernet.peers.identity import Identity
from peernet.peers.peer import GenericPeer
from peernet.state.files import VERSION
from peernet.state.home import Home
from peernet.switch.stores import BANS, PEERS, TRUST, address_book_file, bans_file
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


def test_a_file_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    file.write_text(json.dumps({"version": VERSION + 1}))
    with pytest.raises(HomeError, match="newer peernet"):
        TRUST.load(file)
    assert file.exists()


@pytest.fixture
def network() -> PeerNetwork:
    return PeerNetwork(identity=Identity.generate())


def test_bans_are_written_when_they_have_changed(tmp_path: Path, network: PeerNetwork) -> None:
    home = Home(tmp_path)
    network.bans.ban("a" * 52)
    bans = bans_file(home, network.bans)  # as they were restored
    bans.save()
    assert not home.bans_file.exists()
    network.bans.ban("203.0.113.7")
    bans.save()
    assert [ban.who for ban in BANS.load(home.bans_file)] == ["a" * 52, "203.0.113.7"]
    network.bans.clear()
    bans.save_now()
    assert BANS.load(home.bans_file) == []


def test_a_peer_that_was_asked_for_is_saved_although_it_was_there_before(tmp_path: Path) -> None:
    home, known = Home(tmp_path), KnownPeers(NetworkConfig())
    peer = GenericPeer("a" * 52, "192.0.2.1", 4000)
    known.note(peer, dialled=True)
    book = address_book_file(home, known)
    known.note(peer, dialled=True, kept=True)  # as connect() does, when the channel is there
    book.save()
    assert [one.kept for one in PEERS.load(home.peers_file)] == [True]
