"""LineWriter: nobody waits for a reader who does not read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr

import gevent
import pytest

from peernet.cli import writer as writer_module
from peernet.cli.writer import LineWriter
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
    return LineWriter(descriptor, lambda count: f"{count} dropped")


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
