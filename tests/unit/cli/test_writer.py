"""LineWriter: nobody waits for a reader who does not read."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress

import gevent
import pytest

from peernet.cli import writer as writer_module
from peernet.cli.writer import LineWriter
from tests.support import scaled, wait_until
from tests.unit.hostile import HOSTILE, assert_harmless


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


def make_writer(descriptor: int) -> LineWriter:
    return LineWriter(descriptor, "the pipe", lambda count: f"{count} dropped")


def drain(descriptor: int) -> bytes:
    data = b""
    while chunk := os.read(descriptor, 65536):
        data += chunk
    return data


def test_lines_come_out_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    lines = make_writer(descriptor)
    for number in range(100):
        lines.put(f"line {number} \udc80")
    assert lines.close(5)
    os.close(descriptor)
    assert drain(reader).splitlines() == [b"line %d \\udc80" % number for number in range(100)]
    lines.put("too late")


def test_an_unread_pipe_stops_only_those_who_wait_for_it(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    lines = make_writer(descriptor)
    lines.put("x" * (writer_module.SOFT_LIMIT + 1))
    waiting = gevent.spawn(lines.wait_for_room)
    gevent.sleep(0.01)  # this greenlet goes on
    assert not waiting.dead
    for _ in range(5):
        lines.put("y" * writer_module.SOFT_LIMIT)
    assert lines.dropped == 3
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(drain(reader)))
    thread.start()
    waiting.get(timeout=5)
    assert lines.close(5)
    os.close(descriptor)
    thread.join()
    assert [line[:9] for line in received[0].splitlines()] == [b"x" * 9, b"3 dropped", b"y" * 9, b"y" * 9]


def test_the_oldest_lines_are_those_that_are_dropped_and_their_number_stands_in_their_place(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "HARD_LIMIT", 200_000)
    reader, descriptor = pipe
    lines = make_writer(descriptor)
    lines.put("0" * 100_000)  # more than the pipe takes
    gevent.sleep(0.01)  # it is with the thread now, where nothing can be taken back
    for number in range(1, 100):
        lines.put(str(number).zfill(9_999))
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(drain(reader)))
    thread.start()
    assert lines.close(5)
    os.close(descriptor)
    thread.join()
    first, notice, *rest = received[0].decode().splitlines()
    assert (first, notice) == ("0" * 100_000, "90 dropped")
    assert [int(line[-3:]) for line in rest] == list(range(91, 100))
    assert lines.dropped == 90


def test_closing_gives_up_in_time(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    lines = make_writer(descriptor)
    lines.put("x" * 1_000_000)
    assert not lines.close(0.05)
    os.close(reader)  # lets the thread go
    assert lines.close(5)


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]) -> None:
    reader, descriptor = pipe
    os.close(reader)
    lines = make_writer(descriptor)
    lines.put("hello?")
    gevent.sleep(0.01)
    lines.put("anybody?")
    assert lines.close(5)
    assert lines.broken
    assert capfd.readouterr().err == ""


def test_it_serves_as_a_stream_for_logs(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    lines = make_writer(descriptor)
    lines.write("a record\n")
    lines.write("\n")
    lines.write("one\ntwo\nthr")
    lines.write("ee")
    lines.flush()
    assert lines.close(5)
    os.close(descriptor)
    assert drain(reader).splitlines() == [b"a record", b"one", b"two", b"three"]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_log_acts_on_a_terminal(pipe: tuple[int, int], text: str) -> None:
    reader, descriptor = pipe
    lines = make_writer(descriptor)
    lines.write(f"somebody said {text}\n")
    assert lines.close(5)
    os.close(descriptor)
    for line in drain(reader).decode().split("\n")[:-1]:
        assert_harmless(line, writer_module.MAX_LINE)


def test_what_gevent_reports_reaches_it_where_it_stands_for_stderr(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    lines = make_writer(descriptor)

    def fail() -> None:
        raise ValueError("oh\x1b dear")

    with redirect_stderr(lines):
        gevent.get_hub().loop.run_callback(fail)
        gevent.sleep(0.01)
    assert lines.close(5)
    os.close(descriptor)
    assert b"ValueError: oh\\x1b dear" in drain(reader)


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    os.set_blocking(descriptor, False)
    os.set_blocking(reader, False)
    lines = make_writer(descriptor)
    sent = [str(number).zfill(999).encode() for number in range(500)]  # several times what a pipe holds
    for line in sent:
        lines.put(line.decode())
    received = bytearray()
    with gevent.Timeout(scaled(10)):
        while len(received) < 500_000:
            gevent.sleep(0.01)
            with suppress(BlockingIOError):
                received += os.read(reader, 65536)
    assert lines.close(5)
    assert received.splitlines() == sent
    assert (lines.broken, lines.dropped) == (False, 0)


class Disk:
    """A disk that is full until it is not, and takes the beginning of what does not fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.written = b""
        self.attempts = 0
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(writer_module, "FAILURE_PAUSE", 0.01)

    def write(self, descriptor: int, data: memoryview) -> int:
        self.attempts += 1
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = bytes(data[: self.room])
        self.written += taken
        self.room -= len(taken)
        return len(taken)


def test_on_a_full_disk_lines_wait_and_none_is_torn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(monkeypatch, room=7)
    lines = make_writer(7)
    for number in range(3):
        lines.put(f"line {number}")
    wait_until(lambda: disk.attempts > 5, 5, "some attempts")
    assert (disk.written, lines.failing, lines.broken) == (b"line 0\n", True, False)
    assert caplog.text.count("the pipe cannot be written (No space left on device)") == 1
    disk.room = 3
    wait_until(lambda: disk.room == 0, 5, "the room to be taken")
    disk.room = 1000
    assert lines.close(5)
    assert disk.written == b"line 0\nline 1\nline 2\n"
    assert not lines.failing


def test_nobody_waits_for_a_full_disk_and_what_is_dropped_is_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "SOFT_LIMIT", 100)
    monkeypatch.setattr(writer_module, "HARD_LIMIT", 1000)
    disk = Disk(monkeypatch, room=0)
    lines = make_writer(7)
    lines.put("first")
    wait_until(lambda: lines.failing, 5, "the failure")
    for number in range(100):
        lines.put(str(number).zfill(99))
        lines.wait_for_room()
    assert lines.dropped == 91
    disk.room = 10_000
    assert lines.close(5)
    assert [line[-2:] for line in disk.written.decode().splitlines()] == ["st", "ed", *map(str, range(91, 100))]
    assert "91 dropped" in disk.written.decode()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EBADF])
def test_only_a_reader_that_has_gone_for_good_ends_the_attempts(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    attempts: list[int] = []

    def fail(descriptor: int, data: memoryview) -> int:
        attempts.append(descriptor)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    lines = make_writer(7)
    lines.put("hello?")
    wait_until(lambda: lines.broken, 5, "it to be noticed")
    lines.put("anybody?")
    assert lines.close(5)
    assert attempts == [7]
