"""When handled packets are acknowledged."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from peernet.channel.acknowledger import (
    MANY_BYTES,
    MANY_PACKETS,
    MUCH,
    PACKETS,
    RARELY,
    Acknowledger,
    AcknowledgeTimer,
)
from peernet.reasons import Reason
from peernet.v1 import packet_pb2 as pb
from peernet.wire.packets import KINDS
from peernet.wire.session import ACKNOWLEDGE_NOW, GO_ALONG, REFUSALS_PER_PACKET
from tests.support import wait_until
from tests.unit.channels import Linked, begun_session


class ManualTimer(AcknowledgeTimer):
    """Fires when the test says so."""

    def __init__(self) -> None:
        super().__init__(0)
        self.waiting: list[Acknowledger] = []
        self.waiting_long: list[Acknowledger] = []

    def add(self, acknowledger: Acknowledger) -> None:
        self.waiting.append(acknowledger)

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.on_time()

    def add_rare(self, acknowledger: Acknowledger) -> None:
        self.waiting_long.append(acknowledger)

    def fire_rare(self) -> None:
        waiting, self.waiting_long = self.waiting_long, []
        for one in waiting:
            one.on_rare_time()


class Setup(Linked):
    """An acknowledger with a link."""

    def __init__(self) -> None:
        super().__init__()
        self.session = begun_session()
        self.timer = ManualTimer()
        self.acknowledger = Acknowledger(self.session, self.link, self.timer)

    def handle(self, count: int, refused: Reason | None = None) -> None:
        """Packets arrive, and are handled or refused."""
        for _ in range(count):
            self.session.receive()
            if refused is not None:
                self.session.refuse(refused)
            self.session.handled = self.session.received

    def leave_something_unread(self) -> None:
        self.far.send(b"x")

    def told(self) -> list[int]:
        """The numbers that the far end was told, in order."""
        return [packet.acknowledged for packet in self.hear()]


@pytest.fixture
def setup() -> Iterator[Setup]:
    made = Setup()
    yield made
    made.end()


@pytest.fixture
def asking(setup: Setup) -> Setup:
    """With a peer that asks when it waits, and nothing that is being handled."""
    setup.session.take_hello(pb.HelloPacket(capabilities=[ACKNOWLEDGE_NOW]))
    setup.link.handling = False
    return setup


def test_when_nothing_is_owed_nothing_is_sent_and_nobody_waits(setup: Setup) -> None:
    setup.acknowledger.rest()
    setup.acknowledger.end_turn()
    setup.acknowledger.acknowledge()
    assert setup.told() == []
    assert setup.timer.waiting == []


@pytest.mark.parametrize("count", [1, PACKETS - 1])
def test_a_few_handled_packets_are_acknowledged_when_the_timer_fires(setup: Setup, count: int) -> None:
    setup.handle(count)
    setup.acknowledger.rest()
    assert setup.told() == []
    setup.timer.fire()
    assert setup.told() == [count]


def test_many_are_acknowledged_at_once_if_no_more_is_there(setup: Setup) -> None:
    setup.handle(PACKETS)
    setup.acknowledger.rest()
    assert setup.told() == [PACKETS]
    assert setup.timer.waiting == []


def test_within_a_stream_they_wait_for_more(setup: Setup) -> None:
    setup.leave_something_unread()
    setup.handle(MANY_PACKETS - 1)
    setup.acknowledger.rest()
    assert setup.told() == []
    setup.handle(1)
    setup.acknowledger.rest()
    assert setup.told() == [MANY_PACKETS]


def test_within_a_stream_of_large_packets_the_bytes_count(setup: Setup) -> None:
    setup.leave_something_unread()
    for number in (1, 2):
        setup.handle(1)
        setup.link.received_bytes += MANY_BYTES - 1
        setup.acknowledger.rest()
        assert setup.told() == [*range(1, number)]
        setup.link.received_bytes += 1
        setup.acknowledger.rest()
        assert setup.told() == [*range(1, number + 1)]


def test_bytes_without_packets_are_not_acknowledged(setup: Setup) -> None:
    setup.link.received_bytes += MANY_BYTES
    setup.acknowledger.rest()
    assert setup.told() == []


def test_at_the_end_of_a_turn_only_the_timer_is_set_and_once(setup: Setup) -> None:
    setup.handle(MANY_PACKETS)
    setup.acknowledger.end_turn()
    setup.acknowledger.end_turn()
    assert setup.told() == []
    assert setup.timer.waiting == [setup.acknowledger]
    setup.timer.fire()
    assert setup.told() == [MANY_PACKETS]


def test_the_timer_tells_what_was_handled_while_it_ran(setup: Setup) -> None:
    setup.handle(1)
    setup.acknowledger.rest()
    setup.handle(2)
    setup.timer.fire()
    assert setup.told() == [3]


def test_what_travelled_with_a_packet_is_not_told_again_and_the_next_one_is(setup: Setup) -> None:
    setup.handle(1)
    setup.acknowledger.rest()
    setup.session.take_acknowledgement()
    setup.timer.fire()
    assert setup.told() == []
    setup.handle(1)
    setup.acknowledger.rest()
    setup.timer.fire()
    assert setup.told() == [2]


def test_refusals_come_before_the_number_that_covers_them(setup: Setup) -> None:
    count = 2 * REFUSALS_PER_PACKET + 1
    setup.handle(count, Reason.NOT_PERMITTED)
    setup.acknowledger.acknowledge()
    assert setup.told() == [0, 0, count]
    refusals = [one for packet in setup.hear() for one in packet.acknowledge.refusals]
    assert [one.sequence for one in refusals] == list(range(1, count + 1))
    assert {one.reason for one in refusals} == {pb.REFUSAL_REASON_NOT_PERMITTED}
    assert setup.session.refused == ()


def test_a_refusal_that_is_known_before_its_packet_counts_as_handled_is_told_without_a_number(setup: Setup) -> None:
    setup.session.receive()
    setup.session.refuse(Reason.UNHANDLED)
    setup.acknowledger.end_turn()
    setup.timer.fire()
    (packet,) = setup.hear()
    assert packet.acknowledged == 0
    assert [one.sequence for one in packet.acknowledge.refusals] == [1]


def test_another_link_takes_over_with_what_was_not_told(setup: Setup) -> None:
    other = Setup()
    setup.handle(1)
    setup.acknowledger.rest()
    setup.link.received_bytes = 10 * MANY_BYTES
    setup.acknowledger.take_over(other.link)
    setup.timer.fire()
    assert (setup.told(), other.told()) == ([], [1])
    other.leave_something_unread()
    setup.handle(1)
    other.link.received_bytes = MANY_BYTES
    setup.acknowledger.rest()
    assert other.told() == [1, 2]
    other.end()


def test_bytes_of_the_older_link_do_not_count_on_another(setup: Setup) -> None:
    other = Setup()
    setup.link.received_bytes = 10 * MANY_BYTES
    setup.acknowledger.rest()
    setup.acknowledger.take_over(other.link)
    other.leave_something_unread()
    other.link.received_bytes = MANY_BYTES
    setup.handle(1)
    setup.acknowledger.rest()
    assert other.told() == [1]
    other.end()


def test_over_a_link_that_is_lost_nothing_is_told_and_nothing_counts_as_told(setup: Setup) -> None:
    setup.handle(1)
    setup.link.abort()
    setup.acknowledger.acknowledge()
    assert setup.session.owes
    assert setup.link.outbox.bytes == 0


def test_after_our_goodbye_nothing_is_acknowledged(setup: Setup) -> None:
    setup.handle(1)
    setup.link.put_control(pb.DisconnectPacket())
    setup.acknowledger.acknowledge()
    assert [packet.WhichOneof("body") for packet in setup.hear()] == ["disconnect"]


def test_after_the_peers_goodbye_what_was_handled_is_acknowledged(setup: Setup) -> None:
    setup.handle(1)
    setup.link.connection.received(KINDS["disconnect"], 1)
    setup.acknowledger.acknowledge()
    assert setup.told() == [1]


def test_a_timer_that_fires_after_the_end_sends_nothing(setup: Setup) -> None:
    setup.handle(1)
    setup.acknowledger.rest()
    setup.session.end()
    setup.link.abort()
    setup.link.release()
    setup.timer.fire()
    assert setup.told() == []


def test_the_timer_serves_all_who_owe_once_and_starts_again() -> None:
    setups = [Setup(), Setup()]
    timer = AcknowledgeTimer(0.001)
    acknowledgers = [Acknowledger(one.session, one.link, timer) for one in setups]
    for number in (1, 2):
        for one, acknowledger in zip(setups, acknowledgers, strict=True):
            one.handle(1)
            acknowledger.rest()
        assert [one.told() for one in setups] == [list(range(1, number))] * 2
        wait_until(lambda: sum(len(one.told()) for one in setups) == 2 * number)  # noqa: B023  # is asked at once
        assert [one.told() for one in setups] == [list(range(1, number + 1))] * 2
    gevent.sleep(0.005)
    assert [one.told() for one in setups] == [[1, 2]] * 2
    for one in setups:
        one.end()


class TestRarely:
    """Towards a peer that asks when it waits."""

    def test_what_is_handled_goes_along_with_a_packet_after_a_while_or_leaves_alone_in_the_end(
        self, asking: Setup
    ) -> None:
        asking.handle(1)
        asking.acknowledger.rest()
        assert asking.session.tell_at == GO_ALONG
        asking.timer.fire()
        assert (asking.session.tell_at, asking.told()) == (1, [])
        asking.timer.fire_rare()
        assert asking.told() == [1]
        assert asking.session.tell_at == 1 + GO_ALONG
        assert asking.timer.waiting == asking.timer.waiting_long == []

    def test_it_does_not_leave_alone_if_something_went_along_meanwhile(self, asking: Setup) -> None:
        asking.handle(1)
        asking.acknowledger.rest()
        asking.timer.fire()
        asking.session.take_acknowledgement()
        asking.handle(1)
        asking.acknowledger.rest()
        asking.timer.fire_rare()
        assert asking.told() == []
        assert asking.session.tell_at == 2
        asking.timer.fire()
        asking.timer.fire_rare()
        assert asking.told() == [2]
        assert asking.timer.waiting == asking.timer.waiting_long == []

    def test_the_rare_timer_is_set_once(self, asking: Setup) -> None:
        for _ in range(2):
            asking.handle(1)
            asking.acknowledger.rest()
            asking.timer.fire()
        assert asking.timer.waiting_long == [asking.acknowledger]

    def test_when_nothing_is_owed_by_then_no_timer_is_set_again(self, asking: Setup) -> None:
        asking.handle(1)
        asking.acknowledger.rest()
        asking.session.take_acknowledgement()
        asking.timer.fire()
        assert asking.timer.waiting_long == []
        asking.handle(1)
        asking.acknowledger.rest()
        asking.timer.fire()
        asking.session.take_acknowledgement()
        asking.timer.fire_rare()
        assert asking.timer.waiting == asking.timer.waiting_long == []
        assert asking.told() == []

    def test_a_refusal_does_not_wait(self, asking: Setup) -> None:
        asking.handle(1, Reason.UNHANDLED)
        asking.acknowledger.rest()
        asking.timer.fire()
        assert asking.told() == [1]

    def test_nor_does_anything_while_a_callback_takes_its_time(self, asking: Setup) -> None:
        asking.handle(1)
        asking.link.handling = True
        asking.acknowledger.end_turn()
        asking.timer.fire()
        assert asking.told() == [1]

    def test_many_packets_that_are_handled_wait_for_more(self, asking: Setup) -> None:
        asking.handle(MANY_PACKETS - 1)
        asking.acknowledger.rest()
        assert asking.told() == []
        asking.handle(1)
        asking.acknowledger.rest()
        assert asking.told() == [MANY_PACKETS]

    def test_many_bytes_do_not_unless_more_is_there(self, asking: Setup) -> None:
        asking.handle(1)
        asking.link.received_bytes += MUCH - 1
        asking.acknowledger.rest()
        assert asking.told() == []
        asking.link.received_bytes += 1
        asking.acknowledger.rest()
        assert asking.told() == [1]
        asking.leave_something_unread()
        asking.handle(1)
        asking.link.received_bytes += MANY_BYTES - 1
        asking.acknowledger.rest()
        assert asking.told() == [1]
        asking.link.received_bytes += 1
        asking.acknowledger.rest()
        assert asking.told() == [1, 2]

    def test_an_answer_is_given_at_once(self, asking: Setup) -> None:
        asking.handle(1)
        asking.acknowledger.answer()
        assert asking.told() == [1]
        asking.acknowledger.answer()
        assert asking.told() == [1]

    def test_not_to_whom_reads_nothing(self, asking: Setup) -> None:
        asking.handle(1)
        asking.link.outbox.packets = asking.link.outbox.max_packets
        asking.acknowledger.answer()
        assert asking.told() == []
        assert asking.timer.waiting == [asking.acknowledger]

    def test_a_peer_that_no_longer_asks_is_told_as_any_other(self, asking: Setup) -> None:
        asking.session.take_hello(pb.HelloPacket())
        assert asking.session.tell_at == 1
        asking.handle(PACKETS)
        asking.acknowledger.rest()
        asking.handle(1)
        asking.acknowledger.rest()
        asking.timer.fire()
        assert asking.told() == [PACKETS, PACKETS + 1]

    def test_the_network_s_timer_fires_for_them_too(self, asking: Setup) -> None:
        acknowledger = Acknowledger(asking.session, asking.link, AcknowledgeTimer(0.01 / RARELY))
        asking.handle(1)
        acknowledger.rest()
        wait_until(lambda: asking.told() == [1])
