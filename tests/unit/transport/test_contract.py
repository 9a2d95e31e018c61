"""What every transport promises, asked of each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from peernet.errors import TransportError
from peernet.transport.base import Transport
from peernet.wire.framing import FrameDecoder, encode_varint
from tests.support import scaled, wait_until
from tests.unit.transport.pairs import PAIRS, fill, receive, receive_rest, send_all

Ends = tuple[Transport, Transport]


@pytest.fixture(
    params=[(sort, turned) for sort in PAIRS for turned in (False, True)], ids=lambda way: f"{way[0]}-{way[1]}"
)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Two connected transports; once the dialling end first, once the listening one."""
    sort, turned = request.param
    pair: Ends = PAIRS[sort]()
    one, other = reversed(pair) if turned else pair
    yield one, other
    for end in (one, other):
        end.abort()
        end.close()


def test_bytes_arrive_as_they_were_sent(ends: Ends) -> None:
    one, other = ends
    send_all(one, b"hello")
    assert receive(other, 5) == b"hello"
    send_all(other, b"good day")
    assert receive(one, 8) == b"good day"


def test_bytes_that_came_before_the_reading_are_not_lost(ends: Ends) -> None:
    one, other = ends
    send_all(one, b"a")
    send_all(one, b"b")
    gevent.sleep(0)
    assert receive(other, 2) == b"ab"


def test_reading_waits_for_bytes(ends: Ends) -> None:
    one, other = ends
    reader = gevent.spawn(other.recv)
    gevent.sleep(0.01)
    assert not reader.dead
    send_all(one, b"now")
    assert reader.get(timeout=scaled(5)) == b"now"


def test_much_data_goes_both_ways_at_once(ends: Ends) -> None:
    data = [os.urandom(3 * 1024 * 1024) for _ in ends]
    senders = [gevent.spawn(send_all, end, content) for end, content in zip(ends, data, strict=True)]
    readers = [gevent.spawn(receive, end, len(data[0])) for end in ends]
    gevent.joinall(senders, timeout=scaled(20), raise_error=True)
    gevent.joinall(readers, timeout=scaled(20), raise_error=True)
    assert [reader.value for reader in readers] == data[::-1]


@pytest.mark.parametrize("sizes", [[1, 5, 100], [300_000, 1, 1_000_000, 16_384]])
def test_frames_are_received_straight_into_the_decoders_buffer(ends: Ends, sizes: list[int]) -> None:
    one, other = ends
    payloads = [os.urandom(size) for size in sizes]
    decoder = FrameDecoder(2_000_000)
    sender = gevent.spawn(send_all, one, b"".join(encode_varint(len(one)) + one for one in payloads))
    frames: list[bytes] = []
    with gevent.Timeout(scaled(20)):
        while len(frames) < len(payloads):
            buffer = decoder.get_buffer()
            if buffer is None:
                data = other.recv()
                assert data
                decoder.receive_data(data)
            else:
                with buffer:
                    count = other.recv_into(buffer)
                assert count
                decoder.buffer_updated(count)
            frames += [bytes(frame) for frame in decoder.frames()]
    sender.get(timeout=scaled(5))
    assert frames == payloads


def test_a_full_transport_takes_nothing_and_says_when_it_does_again(ends: Ends) -> None:
    one, other = ends
    sent = fill(one)
    calls: list[int] = []
    one.when_writable(lambda: calls.append(1))
    gevent.sleep(0.01)
    assert calls == []
    receive(other, sent)
    wait_until(lambda: calls, what="room")
    assert calls == [1]
    assert one.send(b"x" * 64 * 1024) > 0


def test_a_writing_that_was_refused_goes_on_where_it_stopped(ends: Ends) -> None:
    one, other = ends
    content = os.urandom(8 * 1024 * 1024)
    sender = gevent.spawn(send_all, one, content)
    gevent.sleep(0.01)
    assert not sender.dead
    assert receive(other, len(content)) == content
    sender.get(timeout=scaled(5))


def test_after_the_end_of_writing_the_reader_sees_the_rest_and_then_the_end(ends: Ends) -> None:
    one, other = ends
    send_all(one, b"last words")
    one.finish_writing()
    assert receive_rest(other) == b"last words"
    assert other.recv() == b""
    assert other.recv_into(memoryview(bytearray(10))) == 0


def test_ending_the_writing_of_a_full_transport_does_not_wait_and_loses_nothing(ends: Ends) -> None:
    one, other = ends
    sent = fill(one)
    ending = gevent.spawn(one.finish_writing)
    gevent.sleep(0)
    assert ending.successful()  # at its first turn
    with pytest.raises(TransportError):
        one.send(b"too late")
    assert len(receive_rest(other)) == sent


def test_after_the_end_of_writing_reading_goes_on(ends: Ends) -> None:
    one, other = ends
    one.finish_writing()
    send_all(other, b"still here")
    assert receive(one, 10) == b"still here"


def test_ending_the_writing_again_does_nothing(ends: Ends) -> None:
    one, other = ends
    one.finish_writing()
    one.finish_writing()
    assert receive_rest(other) == b""


def test_abort_wakes_the_reader_with_the_end_of_the_stream(ends: Ends) -> None:
    one, _ = ends
    reader = gevent.spawn(one.recv)
    gevent.sleep(0.01)
    one.abort()
    assert reader.get(timeout=scaled(5)) == b""


def test_a_full_transport_whose_writing_has_ended_can_be_aborted(ends: Ends) -> None:
    one, _ = ends
    fill(one)
    one.finish_writing()
    one.abort()
    with gevent.Timeout(scaled(5)):
        assert one.recv() == b""
    assert one.ended()


def test_abort_ends_the_stream_for_the_other_side(ends: Ends) -> None:
    one, other = ends
    reader = gevent.spawn(other.recv)
    gevent.sleep(0.01)
    one.abort()
    assert reader.get(timeout=scaled(5)) == b""


@pytest.mark.parametrize("end", ["finish_writing", "abort", "close"])
def test_after_an_end_sending_raises(ends: Ends, end: str) -> None:
    one, _ = ends
    getattr(one, end)()
    with pytest.raises(TransportError):
        one.send(b"too late")


def test_sending_to_somebody_who_has_left_raises_in_the_end(ends: Ends) -> None:
    one, other = ends
    other.abort()
    other.close()

    def send() -> bool:
        one.send(b"anybody there?")
        return False

    with pytest.raises(TransportError):
        wait_until(send)


def test_everything_may_be_ended_twice_in_any_order(ends: Ends) -> None:
    for end in ends:
        for how in (end.close, end.abort, end.finish_writing, end.close):
            how()
        assert end.ended()


def test_unread_bytes_are_a_sign_of_life(ends: Ends) -> None:
    one, other = ends
    before = other.unread()
    send_all(one, b"I live")
    wait_until(lambda: other.unread() > before, what="bytes that nobody reads")


def test_whether_the_other_end_can_send_is_seen_from_what_is_unread(ends: Ends) -> None:
    one, other = ends
    send_all(one, b"a little")
    wait_until(other.unread)
    assert not other.crowded()
    fill(one)
    wait_until(other.crowded, what="a closed window")


def test_a_peer_that_has_left_is_noticed_without_reading(ends: Ends) -> None:
    one, other = ends
    send_all(one, b"x")
    receive(other, 1)  # and with it what TLS itself has sent
    assert not other.ended()
    one.abort()
    wait_until(other.ended, what="the end")


def test_a_closed_transport_has_nothing_unread_and_has_ended(ends: Ends) -> None:
    one, _ = ends
    one.close()
    assert (one.unread(), one.ended()) == (0, True)


def test_the_other_end_has_a_host_and_a_port(ends: Ends) -> None:
    host, port = ends[0].remote
    assert host in ("127.0.0.1", "memory")
    assert port > 0


def test_the_reader_may_use_any_buffer_size(ends: Ends) -> None:
    one, other = ends
    send_all(one, bytes(range(100)))
    got: list[Any] = []
    with gevent.Timeout(scaled(5)):
        for size in (1, 7, 64 * 1024):
            buffer = bytearray(size)
            count = other.recv_into(memoryview(buffer))
            got.append(bytes(buffer[:count]))
    assert b"".join(got) == bytes(range(100))
    assert [len(one) for one in got] == [1, 7, 92]
