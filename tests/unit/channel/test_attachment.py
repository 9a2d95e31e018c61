"""Which links are freed when, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest

from peernet.channel.attachment import Attachment
from tests.support import scaled
from tests.unit.channels import Linked

Links = Callable[[], Linked]


@pytest.fixture
def links() -> Iterator[Links]:
    made: list[Linked] = []

    def make() -> Linked:
        made.append(Linked())
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_the_link_that_is_read_is_left_to_its_reader_when_another_comes(links: Links) -> None:
    first, second = links(), links()
    attachment = Attachment(first.link)
    attachment.hold(first.link)
    attachment.replace(second.link)
    assert attachment.link is second.link
    assert (first.link.alive, second.link.alive) == (True, True)


def test_a_link_that_nobody_has_read_is_freed_when_another_comes(links: Links) -> None:
    first, second, third = links(), links(), links()
    attachment = Attachment(first.link)
    attachment.replace(second.link)
    attachment.replace(third.link)
    assert [one.link.alive for one in (first, second, third)] == [True, False, True]


def test_the_end_frees_the_present_one_and_the_one_that_is_read(links: Links) -> None:
    first, second = links(), links()
    attachment = Attachment(first.link)
    attachment.replace(second.link)
    assert not attachment.released
    attachment.release()
    assert attachment.released
    assert (first.link.alive, second.link.alive) == (False, False)


def test_who_waits_for_the_end_is_woken(links: Links) -> None:
    attachment = Attachment(links().link)
    waiting = gevent.spawn(attachment.wait_released, scaled(60))
    gevent.sleep(0)
    attachment.release()
    assert waiting.get(timeout=scaled(5)) is True


def test_or_told_that_it_did_not_come_in_time(links: Links) -> None:
    assert Attachment(links().link).wait_released(0.01) is False


def test_one_who_waits_is_enough(links: Links) -> None:
    attachment = Attachment(links().link)
    waiting = gevent.spawn(attachment.wait_released, scaled(60))
    gevent.sleep(0)
    assert attachment.wait_released(scaled(60)) is True
    assert not waiting.dead
    attachment.release()
    waiting.join(timeout=scaled(5))
    assert attachment.wait_released(scaled(60)) is True


def test_a_connection_has_the_moment_when_it_was_made(links: Links) -> None:
    attachment = Attachment(links().link)
    before = attachment.connected_at
    gevent.sleep(0.001)
    attachment.replace(links().link)
    assert attachment.connected_at > before
