from __future__ import annotations

from peernet.transport.memory import CAPACITY, memory_pair
from tests.unit.sample_peers import ALICE, BOB
from tests.unit.transport.pairs import fill, receive


def test_a_memory_transport_proves_nothing_unless_told_to() -> None:
    one, other = memory_pair()
    assert (one.identifier, other.identifier) == (None, None)


def test_each_end_takes_the_other_for_whom_it_was_told() -> None:
    dialler, listener = memory_pair(dialler=ALICE, listener=BOB)
    assert (dialler.identifier, listener.identifier) == (BOB, ALICE)


def test_it_holds_as_much_as_a_loopback_socket_and_no_more() -> None:
    one, other = memory_pair()
    assert fill(one) == CAPACITY
    assert other.unread() == CAPACITY
    receive(other, CAPACITY)
    assert other.unread() == 0


def test_bytes_that_were_not_read_hide_the_end() -> None:
    one, other = memory_pair()
    one.send(b"last words")
    one.finish_writing()
    assert not other.ended()
    receive(other, 10)
    assert other.ended()
