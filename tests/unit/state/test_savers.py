"""Saving while the node runs: in order, never cut short, never with what was true before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from peernet.config import NetworkConfig
from peernet.errors import HomeError
from peernet.peers.address_book import KnownPeer, KnownPeers
from peernet.peers.peer import GenericPeer
from peernet.state.savers import FollowingFile, KeptFile
from peernet.switch.stores import PEERS
from tests.support import FAILURES, scaled, wait_until


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


class Book:
    """An address book with one peer, and the file that follows it."""

    def __init__(self, folder: Path) -> None:
        self.known = KnownPeers(NetworkConfig())
        self.known.restore([KnownPeer("a" * 52, True, [], 5.0)])
        self.write = PEERS.save
        self.file: FollowingFile[list[KnownPeer]] = FollowingFile(
            "known peers",
            folder / "peers.json",
            lambda path, peers: self.write(path, peers),
            lambda: list(self.known),
            lambda: self.known.revision,
        )
        self.save = self.file.save

    def change(self) -> None:
        """The same peer is met again."""
        self.known.note(GenericPeer("a" * 52, "192.0.2.1", 4000), dialled=False)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def test_the_address_book_is_written_when_it_has_changed(tmp_path: Path, book: Book) -> None:
    file = tmp_path / "peers.json"
    book.save()
    assert not file.exists()
    book.change()
    book.save()
    assert [peer.identifier for peer in PEERS.load(file)] == ["a" * 52]
    file.unlink()
    book.save()
    assert not file.exists()


def test_an_address_book_that_could_not_be_written_is_written_the_next_time(
    tmp_path: Path, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "peers.json"
    file.mkdir()
    book.change()
    book.save()
    assert "the known peers are not saved" in caplog.text
    file.rmdir()
    book.save()
    assert file.is_file()


def test_the_last_save_waits_for_that_of_the_routine(
    tmp_path: Path, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = slow_down_saves(monkeypatch, book)
    book.change()
    routine = gevent.spawn(book.save)
    gevent.sleep(0.02)
    routine.kill()  # as stopping the network does
    gevent.spawn_later(0.05, go)
    book.save()
    assert PEERS.load(tmp_path / "peers.json")


def slow_down_saves(monkeypatch: pytest.MonkeyPatch, book: Book) -> Callable[[], None]:
    may = threading.Event()

    def slowly(path: Path, peers: list[KnownPeer]) -> None:
        assert may.wait(10)
        PEERS.save(path, peers)

    monkeypatch.setattr(book, "write", slowly)
    return may.set


def test_what_changes_during_a_save_is_written_by_the_next_one(
    tmp_path: Path, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = slow_down_saves(monkeypatch, book)
    book.change()
    first = gevent.spawn(book.save)
    gevent.sleep(0.02)
    book.change()
    go()
    first.join()
    (tmp_path / "peers.json").unlink()
    book.save()
    assert PEERS.load(tmp_path / "peers.json")


def test_a_file_can_be_saved_in_one_native_thread_after_the_other(tmp_path: Path) -> None:
    written: list[str] = []
    file = KeptFile(tmp_path / "file", lambda path, content: written.append(content), lambda: "content")

    def save() -> None:
        saving = gevent.spawn(file.save)
        gevent.sleep(0)
        file.settle()  # waits
        saving.get()

    def save_and_leave() -> None:
        try:
            save()
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    for _ in range(2):
        thread = threading.Thread(target=save_and_leave)
        thread.start()
        gevent.get_hub().threadpool.apply(thread.join, (10,))
        assert not thread.is_alive()
        save()
    assert written == ["content"] * 4


def outcome_of(function: Callable[[], None]) -> BaseException | None:
    try:
        function()
    except BaseException as error:
        return error
    return None


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_writing_raises_reaches_whoever_saves(tmp_path: Path, failure: Callable[[], BaseException]) -> None:
    def write(path: Path, content: str) -> None:
        raise failure()

    saving = gevent.spawn(outcome_of, KeptFile(tmp_path / "file", write, lambda: "content").save)
    assert type(saving.get(timeout=scaled(5))) is type(failure())
