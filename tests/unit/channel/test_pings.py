"""Questions over a link, and their answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from peernet.channel.pings import Pings
from peernet.v1 import packet_pb2 as pb
from tests.support import scaled
from tests.unit.channels import Linked
from tests.unit.transport.pairs import fill


class Setup(Linked):
    """Somebody who asks over a link."""

    def __init__(self) -> None:
        super().__init__(outbox_packets=1)
        self.pings = Pings()

    def ask(self, timeout: float | None = None) -> gevent.Greenlet[..., bool | None]:
        asking = gevent.spawn(self.pings.ask, self.link, scaled(5) if timeout is None else timeout)
        gevent.sleep(0)
        return asking

    def take(self, **envelope: Any) -> None:
        self.pings.take(pb.Packet(heartbeat=pb.HeartbeatPacket(), **envelope), self.link)


@pytest.fixture
def setup() -> Iterator[Setup]:
    made = Setup()
    yield made
    made.end()


def test_a_question_is_a_heartbeat_with_a_number_and_the_answer_names_it(setup: Setup) -> None:
    asking = setup.ask()
    (question,) = setup.hear()
    assert question.HasField("heartbeat")
    assert question.request_id > 0
    setup.take(reply_to=question.request_id)
    assert asking.get(timeout=scaled(4)) is True


def test_no_number_is_used_twice(setup: Setup) -> None:
    for _ in range(3):
        setup.pings.ask(setup.link, 0.001)
    numbers = [packet.request_id for packet in setup.hear()]
    assert len(set(numbers)) == len(numbers) == 3


def test_every_answer_ends_its_own_question(setup: Setup) -> None:
    asking = [setup.ask(), setup.ask()]
    first, second = [packet.request_id for packet in setup.hear()]
    setup.take(reply_to=second)
    assert asking[1].get(timeout=scaled(4)) is True
    assert not asking[0].dead
    setup.take(reply_to=first)
    assert asking[0].get(timeout=scaled(4)) is True


def test_no_answer_in_time_is_none(setup: Setup) -> None:
    assert setup.pings.ask(setup.link, 0.001) is False


def test_answers_to_nothing_and_late_ones_change_nothing(setup: Setup) -> None:
    setup.take(reply_to=1)
    setup.pings.ask(setup.link, 0.001)
    (question,) = setup.hear()
    setup.take(reply_to=question.request_id)
    asking = setup.ask(0.01)
    setup.take(reply_to=question.request_id)
    assert asking.get(timeout=scaled(4)) is False


def test_giving_up_tells_all_who_wait(setup: Setup) -> None:
    asking = [setup.ask(), setup.ask()]
    setup.pings.give_up()
    assert [one.get(timeout=scaled(4)) for one in asking] == [None, None]


def test_giving_up_without_questions_does_nothing(setup: Setup) -> None:
    setup.pings.give_up()
    assert setup.hear() == []


def test_an_answer_that_came_before_giving_up_counts(setup: Setup) -> None:
    asking = setup.ask()
    setup.take(reply_to=setup.hear()[0].request_id)
    setup.pings.give_up()
    assert asking.get(timeout=scaled(4)) is True


def test_who_is_killed_while_he_waits_leaves_no_question_behind(setup: Setup) -> None:
    setup.ask().kill()
    assert setup.pings.waiting == 0


def test_a_question_is_answered_with_its_number(setup: Setup) -> None:
    setup.take(request_id=7)
    (answer,) = setup.hear()
    assert answer.HasField("heartbeat")
    assert (answer.reply_to, answer.request_id) == (7, 0)


def test_a_heartbeat_that_asks_nothing_is_not_answered(setup: Setup) -> None:
    setup.take()
    assert setup.hear() == []


def test_who_has_much_to_send_leaves_questions_unanswered(setup: Setup) -> None:
    """Else a peer that asks and does not read could fill the memory."""
    fill(setup.near)
    setup.take(request_id=1)
    waiting = setup.link.outbox.bytes
    assert waiting
    setup.link.outbox.put(b"", b"one more")
    full = setup.link.outbox.bytes
    setup.take(request_id=2)
    assert setup.link.outbox.bytes == full
