from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from peernet.channel.link import BYTES_PER_TURN, Link
from peernet.config import KIB, MIB, NetworkConfig
from peernet.errors import LocalProtocolError, RemoteProtocolError, TransportError
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.deadline import Deadline
from peernet.transport.memory import CAPACITY, MemoryTransport, memory_pair
from peernet.v1 import packet_pb2 as pb
from peernet.wire.connection import Connection, ConnectionState
from peernet.wire.framing import encode_varint
from peernet.wire.packets import KINDS, decode, encode_frame
from tests.support import Recorder, scaled, wait_until
from tests.unit.transport.pairs import fill, receive, receive_rest, send_all


class Setup:
    """A link with open gates, and the other end of its transport."""

    def __init__(self, **limits: Any) -> None:
        self.config = NetworkConfig(**limits)
        self.near, self.far = memory_pair()
        connection = Connection(max_handshake_frame=4 * KIB, max_frame=2 * MIB, max_control_packet=64 * KIB)
        connection.sent(KINDS["hello"])
        connection.received(KINDS["hello"], 1)
        self.failures = Recorder()
        self.link = Link(self.near, connection, self.config, self.failures)
        self.frames: list[bytes] = []
        self.told: list[str] = []

    def handle(self, frame: bytes | bytearray) -> bool:
        """Keep every frame, and stop after one that says so."""
        self.frames.append(bytes(frame))
        return frame != b"stop"

    def send_and_finish(self, data: bytes) -> None:
        send_all(self.far, data)
        self.far.finish_writing()

    def rest(self) -> None:
        self.told.append("rest")

    def end_turn(self) -> None:
        self.told.append("end_turn")

    def took_long(self, seconds: float) -> None:
        self.told.append("took_long")


@pytest.fixture
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    made = Setup(**getattr(request, "param", {}))
    yield made
    made.link.abort()
    made.link.release()
    made.far.close()


def framed(*payloads: bytes) -> bytes:
    return b"".join(encode_varint(len(payload)) + payload for payload in payloads)


def test_each_frame_is_handled_in_order_until_the_stream_ends(setup: Setup) -> None:
    payloads = [b"one", b"", bytes(1 * MIB), b"two"]
    sending = gevent.spawn(setup.send_and_finish, framed(*payloads))
    assert setup.link.read(setup, setup.handle) is True
    assert setup.frames == payloads
    sending.get(timeout=scaled(5))


def test_reading_stops_when_the_handler_says_so_and_can_go_on(setup: Setup) -> None:
    setup.far.send(framed(b"one", b"stop", b"two"))
    setup.far.finish_writing()
    assert setup.link.read(setup, setup.handle) is False
    assert setup.frames == [b"one", b"stop"]
    assert setup.link.read(setup, setup.handle) is True
    assert setup.frames == [b"one", b"stop", b"two"]


def test_a_frame_that_is_too_big_ends_the_reading(setup: Setup) -> None:
    setup.far.send(framed(b"one") + encode_varint(2 * MIB + 1))
    with pytest.raises(RemoteProtocolError):
        setup.link.read(setup, setup.handle)
    assert setup.frames == [b"one"]


def test_what_the_handler_raises_passes_through(setup: Setup) -> None:
    def fail(frame: object) -> bool:
        raise RemoteProtocolError("no", Reason.BAD_PACKET)

    setup.far.send(framed(b"one"))
    with pytest.raises(RemoteProtocolError, match="no"):
        setup.link.read(setup, fail)


@pytest.mark.parametrize("setup", [{"frames_per_turn": 5, "seconds_per_turn": 60}], indirect=True)
def test_everybody_else_gets_a_turn_after_some_frames(setup: Setup) -> None:
    seen = []

    def watch() -> None:
        while len(setup.frames) < 20:
            seen.append(len(setup.frames))
            gevent.sleep(0)

    setup.far.send(framed(*[b"x"] * 20, b"stop"))
    watching = gevent.spawn(watch)
    gevent.sleep(0)
    setup.link.read(setup, setup.handle)
    watching.get(timeout=scaled(5))
    assert sorted(set(seen) - {0}) == [5, 10, 15]


@pytest.mark.parametrize("setup", [{"frames_per_turn": 1000, "seconds_per_turn": 0.001}], indirect=True)
def test_everybody_else_gets_a_turn_after_some_time(setup: Setup) -> None:
    turns = []

    def watch() -> None:
        while len(setup.frames) < 5:
            turns.append(len(setup.frames))
            gevent.sleep(0)

    def handle(frame: bytes | bytearray) -> bool:
        ready = time.monotonic() + 0.002
        while time.monotonic() < ready:
            continue
        return setup.handle(frame)

    setup.far.send(framed(*[b"x"] * 5, b"stop"))
    watching = gevent.spawn(watch)
    gevent.sleep(0)
    setup.link.read(setup, handle)
    watching.get(timeout=scaled(5))
    assert sorted(set(turns) - {0}) == [1, 2, 3, 4]


class Hurried:
    """A transport whose other end sends so fast that the reader never has to wait."""

    remote, drained = ("192.0.2.1", 4000), False

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self) -> bytes:
        data, self._data = self._data[:4096], self._data[4096:]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data, self._data = self._data[: len(buffer)], self._data[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return lambda *args: 0


@pytest.mark.parametrize("setup", [{"seconds_per_turn": 60}], indirect=True)
def test_everybody_else_gets_a_turn_in_the_middle_of_a_large_frame(setup: Setup) -> None:
    link = Link(Hurried(framed(bytes(2 * MIB - 1), b"stop")), setup.link.connection, setup.config)
    seen: set[int] = set()

    def watch() -> None:
        while not setup.frames:
            seen.add(link.received_bytes)
            gevent.sleep(0)

    watching = gevent.spawn(watch)
    gevent.sleep(0)
    assert link.read(setup, setup.handle) is False
    watching.get(timeout=scaled(5))
    assert len(seen) >= 2 * MIB // (2 * BYTES_PER_TURN)


@pytest.mark.parametrize("setup", [{"frames_per_turn": 3, "seconds_per_turn": 60}], indirect=True)
def test_who_has_waited_for_bytes_has_given_everybody_else_a_turn(setup: Setup) -> None:
    reading = gevent.spawn(setup.link.read, setup, setup.handle)
    for number in range(9):
        setup.far.send(framed(b"x"))
        wait_until(lambda: len(setup.frames) == number + 1)  # noqa: B023  # is asked at once
    setup.far.send(framed(b"stop"))
    assert reading.get(timeout=scaled(5)) is False
    assert "end_turn" not in setup.told


@pytest.mark.parametrize("setup", [{"frames_per_turn": 1, "outbox_packets": 1}], indirect=True)
def test_reading_pauses_while_the_outbox_is_full_and_goes_on_when_it_has_drained(setup: Setup) -> None:
    filled = fill(setup.near)

    def answer(frame: bytes | bytearray) -> bool:
        setup.link.put_control(pb.HeartbeatPacket())
        setup.link.put_control(pb.HeartbeatPacket())
        setup.link.outbox.flush()
        setup.link.put_control(pb.HeartbeatPacket())
        return setup.handle(frame)

    setup.far.send(framed(b"one", b"stop"))
    reading = gevent.spawn(setup.link.read, setup, answer)
    gevent.sleep(0.01)
    assert setup.frames == [b"one"]
    receive(setup.far, filled)
    assert reading.get(timeout=scaled(5)) is False


@pytest.mark.parametrize("setup", [{"frames_per_turn": 1, "outbox_packets": 1}], indirect=True)
def test_reading_goes_on_after_a_while_even_if_the_outbox_does_not_drain(setup: Setup) -> None:
    fill(setup.near)

    def answer(frame: bytes | bytearray) -> bool:
        setup.link.put_control(pb.HeartbeatPacket())
        setup.link.outbox.flush()
        return setup.handle(frame)

    setup.far.send(framed(b"one", b"two", b"stop"))
    assert gevent.spawn(setup.link.read, setup, answer).get(timeout=scaled(5)) is False
    assert setup.link.outbox.full


@pytest.mark.parametrize("setup", [{"frames_per_turn": 1}], indirect=True)
def test_reading_is_slow_but_goes_on_while_the_node_holds_too_much(setup: Setup) -> None:
    setup.link.crowding = True
    setup.far.send(framed(b"one", b"two", b"stop"))
    reading = gevent.spawn(setup.link.read, setup, setup.handle)
    gevent.sleep(0.01)
    assert setup.frames == [b"one"]
    assert reading.get(timeout=scaled(5)) is False
    assert setup.frames[1:] == [b"two", b"stop"]


def test_received_bytes_are_a_sign_of_life(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.monotonic() + 60
    setup.far.send(framed(b"stop"))
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    setup.link.read(setup, setup.handle)
    assert setup.link.last_received == later


def test_bytes_that_come_while_nobody_reads_are_a_sign_of_life(setup: Setup) -> None:
    before = setup.link.last_received
    setup.link.look_for_news(before + 1)
    assert setup.link.last_received == before
    for later in (2, 4):
        setup.far.send(b"x")
        setup.link.look_for_news(before + later)
        setup.link.look_for_news(before + later + 1)
        assert setup.link.last_received == before + later


def test_a_peer_may_be_kept_from_sending_by_what_nobody_reads(setup: Setup) -> None:
    setup.far.send(b"x")
    assert not setup.link.crowded
    fill(setup.far)
    assert setup.link.crowded


def test_a_control_packet_is_queued_and_moves_the_state(setup: Setup) -> None:
    setup.link.put_control(pb.DisconnectPacket(message="bye"), pb.Packet(reply_to=5).SerializeToString())
    setup.link.outbox.flush()
    data = receive(setup.far, setup.far.unread())
    packet = decode(data[1:])
    assert (packet.disconnect.message, packet.reply_to) == ("bye", 5)
    assert setup.link.connection.state is ConnectionState.LEAVING


def test_a_control_packet_that_the_state_forbids_is_not_queued(setup: Setup) -> None:
    with pytest.raises(LocalProtocolError):
        setup.link.put_control(pb.HelloPacket())
    assert setup.link.outbox.bytes == 0


def test_finishing_writes_what_is_queued_and_waits_for_the_other_side(setup: Setup) -> None:
    content = bytes(2 * CAPACITY)
    setup.link.outbox.put(b"", content)
    ended = Flag()
    finishing = gevent.spawn(setup.link.finish, Deadline(60), ended)
    assert receive_rest(setup.far) == content
    gevent.sleep(0.01)
    assert not finishing.dead
    ended.set()
    finishing.get(timeout=scaled(5))
    assert setup.link.ended()


def test_finishing_cuts_a_peer_that_does_not_read(setup: Setup) -> None:
    setup.link.outbox.put(b"", bytes(2 * CAPACITY))
    setup.link.finish(Deadline(0.02), Flag())
    assert setup.link.ended()
    with pytest.raises(TransportError):
        setup.far.send(b"x")


def test_what_still_comes_is_dropped_until_the_end(setup: Setup) -> None:
    sending = gevent.spawn(setup.send_and_finish, bytes(MIB))
    setup.link.discard_until_end()
    sending.get(timeout=scaled(5))
    assert setup.link.ended()


@pytest.mark.parametrize("setup", [{"close_timeout": 0.01}], indirect=True)
def test_dropping_ends_with_its_time(setup: Setup) -> None:
    setup.link.discard_until_end()
    assert not setup.link.ended()


def test_dropping_ends_with_a_broken_connection(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: MemoryTransport) -> bytes:
        raise TransportError("the connection broke")

    monkeypatch.setattr(MemoryTransport, "recv", fail)
    setup.link.discard_until_end()  # does not raise


def test_a_broken_transport_is_told_to_the_owner(setup: Setup) -> None:
    setup.far.close()
    setup.link.put_control(pb.HeartbeatPacket())
    wait_until(lambda: len(setup.failures) == 1)


def test_a_released_link_keeps_nothing(setup: Setup) -> None:
    fill(setup.near)
    setup.link.outbox.put(b"", encode_frame(pb.PureMessagePacket(message="x")))
    setup.link.release()
    assert setup.link.outbox.bytes == 0
    assert set(receive_rest(setup.far)) == {0}  # no byte of what was queued
    assert setup.far.ended()


# A peer's share.


class Counting:
    """A throttle that only notes what it is told."""

    def __init__(self) -> None:
        self.paced: list[int] = []
        self.bytes = 0

    def pace(self, frames: int, size: int, goes_on: Any) -> None:
        assert goes_on()
        self.paced.append(frames)
        self.bytes += size


@pytest.mark.parametrize("setup", [{"frames_per_turn": 5, "seconds_per_turn": 60}], indirect=True)
def test_what_was_read_is_counted_once_a_turn(setup: Setup) -> None:
    throttle = setup.link.throttle = Counting()  # type: ignore[assignment]  # as much of one as is needed
    setup.far.send(framed(*[b"x"] * 12, b"stop"))
    setup.link.read(setup, setup.handle)
    assert throttle.paced == [5, 5]


def test_a_peer_that_sends_now_and_then_is_counted_with_the_next_bytes(setup: Setup) -> None:
    throttle = setup.link.throttle = Counting()  # type: ignore[assignment]  # as much of one as is needed
    reading = gevent.spawn(setup.link.read, setup, setup.handle)
    for number in range(1, 4):
        setup.far.send(framed(b"x"))
        wait_until(lambda: len(setup.frames) == number)  # noqa: B023  # is asked at once
        assert sum(throttle.paced) == number - 1
    setup.far.finish_writing()
    reading.get(timeout=scaled(5))


def test_large_frames_of_a_stranger_count_by_their_bytes(setup: Setup) -> None:
    throttle = setup.link.throttle = Counting()  # type: ignore[assignment]  # as much of one as is needed
    sent = framed(b"one", bytes(1 * MIB), *[b"x"] * 200)
    sending = gevent.spawn(lambda: send_all(setup.far, sent))
    reading = gevent.spawn(setup.link.read, setup, setup.handle)
    sending.get(timeout=scaled(5))
    wait_until(lambda: len(setup.frames) == 202)
    setup.far.send(framed(b"stop"))  # with these bytes the last turn is counted
    reading.get(timeout=scaled(5))
    assert sum(throttle.paced) == 202
    assert throttle.bytes >= len(sent)


# Frames that do not end.


@pytest.fixture
def slow(setup: Setup) -> Iterator[tuple[Setup, Any]]:
    """A link that is read from, and a function that has it take in some bytes."""
    reading = gevent.spawn(setup.link.read, setup, setup.handle)

    def give(data: bytes) -> None:
        setup.far.send(data)
        wait_until(lambda: not setup.near.unread())
        gevent.sleep(0.001)

    yield setup, give
    setup.far.finish_writing()
    reading.join(timeout=scaled(5))


def test_a_frame_that_does_not_end_in_time_is_noticed(slow: Any) -> None:
    setup, give = slow
    give(encode_varint(100) + b"x")
    assert not setup.link.dribbles(1000)
    give(b"x")
    assert not setup.link.dribbles(1029.9)
    assert setup.link.dribbles(1030.1)


def test_a_large_frame_that_does_not_end_in_time_is_noticed(slow: Any) -> None:
    setup, give = slow
    give(encode_varint(MIB) + b"x")
    assert not setup.link.dribbles(1000)
    give(bytes(1000))
    assert setup.link.dribbles(1030.1)


def test_a_frame_may_take_its_time_as_long_as_it_comes_on(slow: Any) -> None:
    """One mebibyte over a link of 10 kB/s takes 105 seconds."""
    setup, give = slow
    give(encode_varint(MIB) + b"x")
    for now in range(1000, 1100, 5):
        assert not setup.link.dribbles(now)
        give(bytes(50_000))


def test_a_link_may_freeze_in_the_middle_of_a_frame(slow: Any) -> None:
    setup, give = slow
    give(encode_varint(MIB) + b"x")
    assert not setup.link.dribbles(1000)
    give(bytes(200_000))
    assert not setup.link.dribbles(1020)  # frozen for 20 s
    give(bytes(200_000))
    assert not setup.link.dribbles(1031)


def test_a_peer_between_two_frames_may_be_silent(slow: Any) -> None:
    setup, give = slow
    give(framed(b"x"))
    assert not setup.link.dribbles(1000)
    assert not setup.link.dribbles(9999)


def test_every_frame_has_its_own_time(slow: Any) -> None:
    setup, give = slow
    give(encode_varint(2) + b"x")
    for now in range(1000, 1200, 20):
        assert not setup.link.dribbles(now)
        give(b"x" + encode_varint(2) + b"x")


def test_the_time_in_which_this_process_stood_still_does_not_count(slow: Any) -> None:
    setup, give = slow
    give(encode_varint(100) + b"x")
    setup.link.dribbles(1000)
    setup.link.forgive(20)
    assert not setup.link.dribbles(1049)
    assert setup.link.dribbles(1051)


def test_a_callback_that_takes_its_time_is_not_the_peers_fault(setup: Setup) -> None:
    begun, go_on = Flag(), Flag()

    def take_your_time(frame: bytes | bytearray) -> bool:
        begun.set()
        return go_on.wait()

    setup.far.send(framed(b"one") + encode_varint(100) + b"x")
    reading = gevent.spawn(setup.link.read, setup, take_your_time)
    assert begun.wait(scaled(5))
    assert not setup.link.dribbles(1000)
    assert not setup.link.dribbles(1100)
    go_on.set()
    setup.far.finish_writing()
    reading.get(timeout=scaled(5))


def test_what_came_with_the_handshake_does_not_count_before_anybody_reads(setup: Setup) -> None:
    setup.link.connection.decoder.receive_data(encode_varint(100) + b"x")
    assert not setup.link.dribbles(1000)
    assert not setup.link.dribbles(1100)
