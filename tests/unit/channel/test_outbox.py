from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from peernet.channel.outbox import EAGER, LARGE, Outbox
from peernet.config import KIB, MIB, NetworkConfig
from peernet.errors import TransportError
from peernet.runtime import clock
from peernet.transport.memory import CAPACITY, MemoryTransport, memory_pair
from tests.support import Recorder, scaled, wait_until
from tests.unit.transport.pairs import receive


class Spy:
    """A transport that notes every write on its way to a real one."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.writes: list[int] = []
        self.broken = False

    def send(self, data: bytes | memoryview) -> int:
        if self.broken:
            raise TransportError("the connection broke")
        count = self.transport.send(data)
        self.writes.append(count)
        return count

    def when_writable(self, callback: Any) -> None:
        self.transport.when_writable(callback)


class Setup:
    """An outbox with both ends of its transport."""

    def __init__(self, **limits: Any) -> None:
        near, self.far = memory_pair()
        self.spy = Spy(near)
        self.failures = Recorder()
        self.outbox = Outbox(self.spy, NetworkConfig(**limits), self.failures)  # type: ignore[arg-type]


SMALL = {"outbox_packets": 4, "outbox_reserve_packets": 2}


@pytest.fixture
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    made = Setup(**getattr(request, "param", {}))
    yield made
    made.outbox.close()
    made.far.close()


def fill(setup: Setup) -> bytes:
    """Put so much that the transport takes no more. Returns it."""
    content = bytes(CAPACITY + LARGE + 1)
    setup.outbox.put(b"h", content)
    assert setup.outbox.bytes > 0
    return b"h" + content


def test_packets_leave_in_the_order_they_came(setup: Setup) -> None:
    contents = [os.urandom(size) for size in (5, 0, LARGE, 3, LARGE + 1, LARGE + 1, 7, 100_000, 1)]
    expected = b""
    for index, content in enumerate(contents):
        header = b"%d:" % index
        setup.outbox.put(header, content)
        expected += header + content
    assert receive(setup.far, len(expected)) == expected
    assert (setup.outbox.packets, setup.outbox.bytes) == (0, 0)


def test_the_first_packet_leaves_at_once_and_those_that_follow_in_one_write(setup: Setup) -> None:
    for _ in range(101):
        setup.outbox.put(b"h", b"content")
    assert setup.spy.writes == [8]
    assert (setup.outbox.packets, setup.outbox.bytes) == (100, 800)
    receive(setup.far, 808)
    assert setup.spy.writes == [8, 800]


def test_much_is_written_before_the_sender_pauses(setup: Setup) -> None:
    setup.outbox.put(b"", b"x")
    setup.outbox.put(b"", bytes(LARGE))
    assert setup.spy.writes == [1]
    setup.outbox.put(b"", bytes(EAGER - LARGE))
    assert sum(setup.spy.writes) == 1 + EAGER


def test_what_does_not_fit_is_written_when_there_is_room(setup: Setup) -> None:
    sent = fill(setup)
    assert receive(setup.far, len(sent)) == sent
    wait_until(lambda: not setup.outbox.bytes)
    assert setup.outbox.packets == 0


@pytest.mark.parametrize("setup", [SMALL], indirect=True)
def test_the_outbox_is_full_at_its_limit_of_packets(setup: Setup) -> None:
    setup.outbox.put(b"", b"leaves at once")
    for _ in range(4):
        assert not setup.outbox.full
        setup.outbox.put(b"", b"x")
    assert setup.outbox.full
    setup.outbox.flush()
    assert not setup.outbox.full


@pytest.mark.parametrize("setup", [{"outbox_bytes": 1 * MIB}], indirect=True)
def test_the_outbox_is_full_at_its_limit_of_bytes(setup: Setup) -> None:
    fill(setup)
    assert not setup.outbox.full
    setup.outbox.put(b"", bytes(1 * MIB))
    assert setup.outbox.full


@pytest.mark.parametrize("setup", [SMALL], indirect=True)
def test_the_reserve_takes_packets_up_to_its_own_limit(setup: Setup) -> None:
    setup.outbox.put(b"", b"leaves at once")
    took = []
    for _ in range(7):
        took.append(setup.outbox.holds_in_reserve(1))
        setup.outbox.put(b"", b"x")
    assert took == [True] * 6 + [False]


@pytest.mark.parametrize("setup", [{"outbox_bytes": 1 * MIB, "outbox_reserve_bytes": 64 * KIB}], indirect=True)
def test_the_reserve_takes_bytes_up_to_its_own_limit(setup: Setup) -> None:
    room = 1 * MIB + 64 * KIB
    assert setup.outbox.holds_in_reserve(room)
    assert not setup.outbox.holds_in_reserve(room + 1)


@pytest.mark.parametrize("setup", [{"outbox_bytes": 1 * MIB}], indirect=True)
def test_who_waits_for_room_waits_until_the_outbox_is_half_empty(setup: Setup) -> None:
    setup.outbox.put(b"", bytes(2 * MIB))
    waiting = gevent.spawn(setup.outbox.wait_for_room, 60)
    gevent.sleep(0.01)
    received = 0
    while setup.outbox.bytes > 512 * KIB:
        assert not waiting.dead
        received += len(setup.far.recv())
        gevent.sleep(0.001)
    assert waiting.get(timeout=scaled(5)) is True
    receive(setup.far, 2 * MIB - received)


@pytest.mark.parametrize("setup", [SMALL], indirect=True)
def test_several_may_wait_for_room(setup: Setup) -> None:
    sent = fill(setup)
    for _ in range(4):
        setup.outbox.put(b"", b"x")
    waiting = [gevent.spawn(setup.outbox.wait_for_room, 60) for _ in range(3)]
    gevent.sleep(0.01)
    receive(setup.far, len(sent) + 4)
    gevent.joinall(waiting, timeout=scaled(5), raise_error=True)
    assert [one.value for one in waiting] == [True] * 3


@pytest.mark.parametrize("setup", [SMALL], indirect=True)
def test_waiting_for_room_ends_with_its_time(setup: Setup) -> None:
    fill(setup)
    for _ in range(4):
        setup.outbox.put(b"", b"x")
    assert setup.outbox.wait_for_room(0.01) is False


def test_nobody_waits_for_room_that_is_there(setup: Setup) -> None:
    setup.outbox.put(b"", b"x")
    assert setup.outbox.wait_for_room(0) is True


def test_waiting_until_it_is_empty_ends_when_all_is_written(setup: Setup) -> None:
    sent = fill(setup)
    waiting = gevent.spawn(setup.outbox.wait_until_empty, 60)
    gevent.sleep(0.01)
    assert not waiting.dead
    receive(setup.far, len(sent))
    assert waiting.get(timeout=scaled(5)) is True


@pytest.mark.parametrize("setup", [{"outbox_bytes": 4 * MIB}], indirect=True)
def test_waiting_until_it_is_empty_takes_no_half_measures(setup: Setup) -> None:
    content = bytes(2 * CAPACITY)
    setup.outbox.put(b"", content)
    waiting = [gevent.spawn(setup.outbox.wait_until_empty, 60) for _ in range(2)]
    gevent.sleep(0.01)
    received = len(setup.far.recv())
    gevent.sleep(0.01)
    # Now it is less than half full, which is all that those wait for who want room.
    assert 0 < setup.outbox.bytes < CAPACITY
    assert not any(one.dead for one in waiting)
    receive(setup.far, len(content) - received)
    gevent.joinall(waiting, timeout=scaled(5))
    assert [one.value for one in waiting] == [True, True]


def test_waiting_until_it_is_empty_ends_with_its_time(setup: Setup) -> None:
    fill(setup)
    assert setup.outbox.wait_until_empty(0.01) is False


def test_an_empty_outbox_is_empty_at_once(setup: Setup) -> None:
    assert setup.outbox.wait_until_empty(0) is True


def test_a_reader_that_stands_still_is_noticed_and_forgiven(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    assert setup.outbox.stalled_for == 0
    sent = fill(setup)
    later = time.monotonic() + 60
    with monkeypatch.context() as patch:
        patch.setattr(clock, "monotonic", lambda: later)
        assert setup.outbox.stalled_for >= 60
    receive(setup.far, len(sent))
    wait_until(lambda: setup.outbox.stalled_for == 0)
    assert setup.outbox.bytes == 0


def test_packets_that_only_wait_for_their_turn_are_no_stall(setup: Setup) -> None:
    setup.outbox.put(b"", b"x")
    assert setup.outbox.stalled_for == 0


def test_every_byte_taken_is_progress(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.monotonic() + 60
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    setup.outbox.put(b"", b"x")
    setup.outbox.flush()
    assert setup.outbox.last_progress == later


def test_a_broken_transport_is_told_once(setup: Setup) -> None:
    setup.spy.broken = True
    setup.outbox.put(b"", b"x")
    setup.outbox.flush()
    setup.outbox.put(b"", b"y")
    setup.outbox.flush()
    gevent.sleep(0)
    ((error,),) = setup.failures.calls
    assert isinstance(error, TransportError)


def test_a_transport_that_breaks_while_it_is_full_is_told_too(setup: Setup) -> None:
    fill(setup)
    setup.far.abort()
    setup.failures.wait_for(1)
    assert len(setup.failures) == 1


@pytest.mark.parametrize("setup", [SMALL], indirect=True)
@pytest.mark.parametrize("wait", ["wait_for_room", "wait_until_empty"])
def test_closing_wakes_who_waits_and_forgets_what_waits(setup: Setup, wait: str) -> None:
    fill(setup)
    for _ in range(4):
        setup.outbox.put(b"", b"x")
    waiting = gevent.spawn(getattr(setup.outbox, wait), 60)
    gevent.sleep(0.01)
    setup.outbox.close()
    waiting.join(timeout=scaled(5))
    assert waiting.successful()
    assert (setup.outbox.packets, setup.outbox.bytes) == (0, 0)


def test_a_closed_outbox_writes_nothing(setup: Setup) -> None:
    for _ in range(2):
        setup.outbox.put(b"", b"x")
    setup.outbox.close()
    setup.outbox.flush()
    gevent.sleep(0)
    assert setup.spy.writes == [1]
    assert setup.far.unread() == 1


def test_a_sender_has_to_ask_when_more_waits_than_is_allowed(setup: Setup) -> None:
    fill(setup)
    setup.outbox.allow(setup.outbox.bytes + 1000)
    setup.outbox.put_frame(bytes(999))
    assert not setup.outbox.needs_leave
    setup.outbox.put_frame(b"x")
    assert setup.outbox.needs_leave
    assert not setup.outbox.full
    setup.outbox.allow(100 * MIB)
    assert setup.outbox.allowed_bytes == setup.outbox.max_bytes


def test_what_is_joined_to_be_written_counts_as_a_copy_and_a_large_content_does_not(setup: Setup) -> None:
    setup.far.send(b"")
    content = bytes(CAPACITY)
    taken = setup.spy.transport.send(content[:-100])  # room for 100 bytes is left
    frames = [bytes([number]) * 60 for number in range(5)]
    for frame in frames:
        setup.outbox.put_frame(frame)
    setup.outbox.flush()
    assert setup.outbox.copied == 240  # the first one left at once
    large = bytes(LARGE + 1)
    setup.outbox.put(b"", large)
    assert setup.outbox.contents[0] is large
    receive(setup.far, taken + 5 * 60 + len(large))
    assert (setup.outbox.copied, setup.outbox.contents) == (0, [])
