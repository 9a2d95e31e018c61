"""Saving while the node runs: in order, never cut short, never with what was true before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from peernet.config import NetworkConfig
from peernet.errors import HomeError
from peernet.network import PeerNetwork
from peernet.peers.address_book import KnownPeer, KnownPeers
from peernet.peers.identity import Identity
from peernet.state.home import Home
from peernet.state.savers import AddressBookFile, BansFile, KeptFile
from peernet.state.stores import load_bans, load_peers, save_peers
from tests.support import wait_until


class SlowDisk:
    """Writes when it is let go, and notes what."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []
        self.written: list[str] = []

    def write(self, path: Path, content: str) -> None:
        self.begun.append(content)
        assert self.go.wait(10)
        self.written.append(content)


@pytest.fixture
def disk() -> Iterator[SlowDisk]:
    disk = SlowDisk()
    yield disk
    disk.go.set()


def let_go_later(disk: SlowDisk) -> None:
    gevent.spawn_later(0.05, disk.go.set)


def test_a_save_waits_for_the_one_before_it_and_then_reads_the_content(tmp_path: Path, disk: SlowDisk) -> None:
    content = ["old"]
    file = KeptFile(tmp_path / "file", disk.write, lambda: content[0])
    first = gevent.spawn(file.save)
    wait_until(lambda: disk.begun == ["old"], 5, "the first to begin")
    second = gevent.spawn(file.save)
    gevent.sleep(0.02)
    assert disk.begun == ["old"]  # never two at once
    content[0] = "new"
    disk.go.set()
    gevent.joinall([first, second], raise_error=True)
    assert disk.written == ["old", "new"]


def test_a_save_is_not_overtaken_when_whoever_asked_for_it_is_killed(tmp_path: Path, disk: SlowDisk) -> None:
    content = ["old"]
    file = KeptFile(tmp_path / "file", disk.write, lambda: content[0])
    killed = gevent.spawn(file.save)
    wait_until(lambda: disk.begun == ["old"], 5, "the first to begin")
    killed.kill()
    content[0] = "new"
    let_go_later(disk)
    file.save()
    assert disk.written == ["old", "new"]


def test_settling_waits_for_a_save_whose_asker_was_killed(tmp_path: Path, disk: SlowDisk) -> None:
    file = KeptFile(tmp_path / "file", disk.write, lambda: "content")
    killed = gevent.spawn(file.save)
    wait_until(lambda: disk.begun != [], 5, "it to begin")
    killed.kill()
    let_go_later(disk)
    file.settle()
    assert disk.written == ["content"]


def test_an_error_reaches_whoever_asked_and_nothing_else_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path, content: None) -> None:
        raise HomeError("the disk is full")

    with pytest.raises(HomeError, match="the disk is full"):
        KeptFile(tmp_path / "file", fail, lambda: None).save()
    assert capfd.readouterr().err == ""


@pytest.fixture
def network() -> PeerNetwork:
    return PeerNetwork(identity=Identity.generate())


@pytest.fixture
def book(tmp_path: Path, network: PeerNetwork) -> AddressBookFile:
    known = KnownPeers(NetworkConfig())
    known.restore([KnownPeer("a" * 52, True, [], 5.0)])
    book = AddressBookFile(Home(tmp_path), known)
    book.start(network)
    return book


def test_the_address_book_is_written_when_it_has_changed(
    tmp_path: Path, network: PeerNetwork, book: AddressBookFile
) -> None:
    file = tmp_path / "peers.json"
    book.save()
    assert not file.exists()
    network.peer_added.fire(None)
    book.save()
    assert [peer.identifier for peer in load_peers(file)] == ["a" * 52]
    file.unlink()
    book.save()
    assert not file.exists()


def test_an_address_book_that_could_not_be_written_is_written_the_next_time(
    tmp_path: Path, network: PeerNetwork, book: AddressBookFile, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "peers.json"
    file.mkdir()
    network.peer_added.fire(None)
    book.save()
    assert "the known peers are not saved" in caplog.text
    file.rmdir()
    book.save()
    assert file.is_file()


def test_the_last_save_waits_for_that_of_the_routine(
    tmp_path: Path, network: PeerNetwork, book: AddressBookFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = slow_down_saves(monkeypatch, book)
    network.peer_added.fire(None)
    routine = gevent.spawn(book.save)
    gevent.sleep(0.02)
    routine.kill()  # as stopping the network does
    gevent.spawn_later(0.05, go)
    book.save()
    assert load_peers(tmp_path / "peers.json")


def slow_down_saves(monkeypatch: pytest.MonkeyPatch, book: AddressBookFile) -> Callable[[], None]:
    may = threading.Event()

    def slowly(path: Path, peers: list[KnownPeer]) -> None:
        assert may.wait(10)
        save_peers(path, peers)

    monkeypatch.setattr(book, "_write", slowly)
    return may.set


def test_bans_are_written_when_they_have_changed(tmp_path: Path, network: PeerNetwork) -> None:
    home = Home(tmp_path)
    network.bans.ban("a" * 52)
    bans = BansFile(home, network.bans)  # as they were restored
    bans.save()
    assert not home.bans_file.exists()
    network.bans.ban("203.0.113.7")
    bans.save()
    assert [ban.who for ban in load_bans(home.bans_file)] == ["a" * 52, "203.0.113.7"]
    network.bans.clear()
    bans.save_now()
    assert load_bans(home.bans_file) == []


def test_what_changes_during_a_save_is_written_by_the_next_one(
    tmp_path: Path, network: PeerNetwork, book: AddressBookFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = slow_down_saves(monkeypatch, book)
    network.peer_added.fire(None)
    first = gevent.spawn(book.save)
    gevent.sleep(0.02)
    network.peer_added.fire(None)
    go()
    first.join()
    (tmp_path / "peers.json").unlink()
    book.save()
    assert load_peers(tmp_path / "peers.json")
