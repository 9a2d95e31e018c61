from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from peernet.peers.address import PeerAddress
from peernet.testing import Direction, FaultProxy, Faults
from peernet.transport.tcp import listen
from tests.support import scaled, wait_until

UPSTREAM, DOWNSTREAM = Direction.UPSTREAM, Direction.DOWNSTREAM


class Line:
    """A bare connection through a proxy: ``near`` has dialled, and ``far`` was reached."""

    def __init__(self, faults: Faults | None = None, seed: int = 0) -> None:
        self.listener = listen(PeerAddress("127.0.0.1", 0))
        self.proxy = FaultProxy("127.0.0.1:" + str(self.listener.getsockname()[1]), faults, seed=seed)
        self.near, self.far = self.connect()

    def connect(self) -> tuple[Any, Any]:
        near = self.dial()
        far, _ = self.listener.accept()
        for sock in (near, far):
            sock.settimeout(scaled(5))
        wait_until(lambda: self.proxy.connections)
        return near, far

    def dial(self) -> Any:
        host, port = self.proxy.endpoint.split(":")
        return socket.create_connection((host, int(port)))

    @property
    def connection(self) -> Any:
        return self.proxy.connections[0]

    def close(self) -> None:
        self.proxy.stop()
        for sock in (self.near, self.far, self.listener):
            sock.close()


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(*args: Any, **options: Any) -> Line:
        made.append(Line(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def receive(sock: Any, count: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, f"the stream ended after {len(data)} of {count} bytes"
        data += more
    return data


def is_silent(sock: Any, seconds: float = 0.1) -> bool:
    """Whether neither bytes nor an end come for a while."""
    sock.settimeout(seconds)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(scaled(5))
    return False


def drain(sock: Any) -> tuple[bytes, bool]:
    """What comes until the end, and whether that was a reset."""
    data = b""
    try:
        while more := sock.recv(1 << 20):
            data += more
    except ConnectionResetError:
        return data, True
    return data, False


class TestWithoutFaults:
    def test_bytes_pass_in_both_directions_and_are_counted(self, line: Callable[..., Line]) -> None:
        one = line()
        data = bytes(range(256)) * 4096
        sending = gevent.spawn(one.near.sendall, data)
        assert receive(one.far, len(data)) == data
        sending.get()
        one.far.sendall(b"thanks")
        assert receive(one.near, 6) == b"thanks"
        assert one.proxy.counters["bytes_upstream"] == len(data)
        assert one.proxy.counters["bytes_downstream"] == 6
        assert one.proxy.counters["accepted"] == 1

    def test_an_end_passes_and_the_other_direction_goes_on(self, line: Callable[..., Line]) -> None:
        one = line()
        one.near.shutdown(socket.SHUT_WR)
        assert one.far.recv(1) == b""
        one.far.sendall(b"still here")
        assert receive(one.near, 10) == b"still here"
        one.far.close()
        assert one.near.recv(1) == b""
        wait_until(lambda: not one.proxy.connections)

    def test_a_reset_passes(self, line: Callable[..., Line]) -> None:
        one, other = line(), line()
        other.near.close()
        one.far.sendall(b"unread")
        gevent.sleep(0.05)
        one.near.close()  # with something unread: the system makes a reset of it
        assert drain(one.far)[1]

    def test_a_target_that_is_away_resets_the_dialler(self, line: Callable[..., Line]) -> None:
        one = line()
        one.listener.close()
        dialled = one.dial()
        with pytest.raises(ConnectionResetError):
            dialled.recv(1)
        dialled.close()
        assert one.proxy.counters["unreachable"] == 1

    def test_the_address_keeps_the_identifier_of_the_target(self) -> None:
        with FaultProxy(f"peer://{'a' * 52}@127.0.0.1:1") as proxy:
            assert proxy.address == f"peer://{'a' * 52}@{proxy.endpoint}"

    def test_stopping_twice_is_no_error(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.stop()
        one.proxy.stop()
        assert one.proxy.connections == []


class TestSlowness:
    def test_latency_delays_and_keeps_the_order(self, line: Callable[..., Line]) -> None:
        one = line(Faults(latency=0.1, jitter=0.05))
        began = time.monotonic()
        for number in range(10):
            one.near.sendall(bytes([number]))
            gevent.sleep(0.002)
        assert receive(one.far, 10) == bytes(range(10))
        assert time.monotonic() - began >= 0.1

    def test_bandwidth_is_limited_in_one_direction_only(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.set_faults(Faults(bandwidth=100_000), UPSTREAM)
        began = time.monotonic()
        sending = gevent.spawn(one.near.sendall, bytes(20_000))
        one.far.sendall(bytes(20_000))
        receive(one.near, 20_000)
        back = time.monotonic() - began
        receive(one.far, 20_000)
        sending.get()
        assert time.monotonic() - began >= max(0.15, back)

    def test_dribbling_writes_single_bytes(self, line: Callable[..., Line]) -> None:
        one = line(Faults(dribble=0.005))
        began = time.monotonic()
        one.near.sendall(b"slowly")
        assert [one.far.recv(100) for _ in range(6)] == [bytes([byte]) for byte in b"slowly"]
        assert time.monotonic() - began >= 0.02

    def test_a_reader_that_does_not_read_holds_up_the_writer(self, line: Callable[..., Line]) -> None:
        one = line()
        one.near.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.near.sendall(bytes(100_000_000))


class TestStalling:
    def test_nothing_passes_while_frozen_and_everything_after(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.freeze()
        one.near.sendall(b"up")
        one.far.sendall(b"down")
        assert is_silent(one.far)
        assert is_silent(one.near)
        one.proxy.thaw()
        assert receive(one.far, 2) == b"up"
        assert receive(one.near, 4) == b"down"

    def test_one_direction_alone(self, line: Callable[..., Line]) -> None:
        one = line()
        one.connection.freeze(UPSTREAM)
        one.near.sendall(b"up")
        one.far.sendall(b"down")
        assert receive(one.near, 4) == b"down"
        assert is_silent(one.far)

    def test_the_end_of_a_frozen_connection_is_not_told_before_it_thaws(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.freeze()
        one.near.close()
        assert is_silent(one.far)
        one.proxy.thaw()
        assert one.far.recv(1) == b""

    def test_connections_that_are_made_meanwhile_are_not_frozen(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.freeze()
        near, far = one.connect()
        near.sendall(b"new")
        assert receive(far, 3) == b"new"
        near.close()
        far.close()


class TestCutting:
    def test_a_reset_reaches_both_sides(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.reset()
        assert drain(one.near) == (b"", True)
        assert drain(one.far) == (b"", True)
        assert one.proxy.connections == []
        assert one.proxy.counters["resets"] == 1

    @pytest.mark.parametrize("direction", [UPSTREAM, DOWNSTREAM])
    def test_a_reset_that_reaches_one_side_leaves_the_other_half_open(
        self, line: Callable[..., Line], direction: Direction
    ) -> None:
        one = line()
        told, untold = (one.far, one.near) if direction is UPSTREAM else (one.near, one.far)
        one.connection.reset(direction)
        assert drain(told) == (b"", True)
        untold.sendall(bytes(100_000))  # goes nowhere
        assert is_silent(untold)
        untold.close()
        wait_until(lambda: not one.proxy.connections)

    @pytest.mark.parametrize("count", [0, 1, 1000, 99_999])
    def test_a_cut_comes_after_so_many_bytes(self, line: Callable[..., Line], count: int) -> None:
        one = line(Faults(cut_at=count))
        one.near.sendall(bytes(100_000))
        data, was_reset = drain(one.far)
        assert was_reset
        assert len(data) == one.proxy.counters["bytes_upstream"] == count
        assert one.proxy.counters["cuts"] == 1

    def test_the_bytes_to_a_cut_can_be_counted_from_now(self, line: Callable[..., Line]) -> None:
        one = line()
        one.near.sendall(b"before")
        receive(one.far, 6)
        one.proxy.cut_after(3, UPSTREAM)
        one.near.sendall(b"after")
        assert drain(one.far) == (b"aft", True)

    def test_an_orderly_end_reaches_both_sides(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.end()
        assert drain(one.near) == drain(one.far) == (b"", False)

    def test_a_swallowed_end_is_not_told(self, line: Callable[..., Line]) -> None:
        one = line()
        one.connection.set_faults(Faults(swallow_fin=True), UPSTREAM)
        one.near.close()
        one.far.sendall(bytes(1000))
        one.far.sendall(bytes(1000))
        assert is_silent(one.far)
        assert one.proxy.counters["swallowed"] == 1
        one.proxy.reset()
        assert drain(one.far)[1]

    def test_a_reset_may_be_swallowed_too(self, line: Callable[..., Line]) -> None:
        one = line()
        one.connection.set_faults(Faults(swallow_fin=True), UPSTREAM)
        one.far.sendall(b"unread")
        gevent.sleep(0.05)
        one.near.close()  # with something unread: the system makes a reset of it
        wait_until(lambda: one.proxy.counters["swallowed"])
        assert is_silent(one.far)
        one.far.close()
        wait_until(lambda: not one.proxy.connections)

    def test_new_connections_are_refused_while_it_says_so(self, line: Callable[..., Line]) -> None:
        one = line()
        one.proxy.refuses = True
        dialled = one.dial()
        with pytest.raises(ConnectionResetError):
            dialled.recv(1)
        dialled.close()
        assert one.proxy.counters["refused"] == 1
        one.proxy.refuses = False
        near, far = one.connect()
        near.close()
        far.close()


class TestFlips:
    def test_one_bit_of_one_byte(self, line: Callable[..., Line]) -> None:
        one = line(Faults(flip_at=1000))
        one.near.sendall(bytes(3000))
        data = receive(one.far, 3000)
        assert [place for place, byte in enumerate(data) if byte] == [1000]
        assert bin(data[1000]).count("1") == 1
        assert one.proxy.counters["flips"] == 1

    def test_a_share_of_all_bytes_the_same_with_the_same_seed(self, line: Callable[..., Line]) -> None:
        def flipped(seed: int, *, pieces: int) -> list[int]:
            one = line(Faults(flip_probability=0.01), seed=seed)
            for _ in range(pieces):
                one.near.sendall(bytes(20_000 // pieces))
                gevent.sleep(0)
            return [place for place, byte in enumerate(receive(one.far, 20_000)) if byte]

        first = flipped(1, pieces=1)
        assert 120 < len(first) < 280
        assert flipped(1, pieces=10) == first
        assert flipped(2, pieces=1) != first

    def test_every_byte(self, line: Callable[..., Line]) -> None:
        one = line(Faults(flip_probability=1))
        one.near.sendall(bytes(100))
        assert all(receive(one.far, 100))
