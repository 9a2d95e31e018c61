from __future__ import annotations

from typing import Any

import pytest

from peernet.config import NetworkConfig
from peernet.connections.slots import (
    ACCEPT_RATE,
    ADDRESS_LIMIT,
    EARLY_DROP,
    KNOWN_SHARE,
    TOO_MANY_STRANGERS,
    HandshakeSlots,
    Slot,
    source_of,
)

NEVER_DROPPED = 0.999_999
ALWAYS_DROPPED = 0.0


def admission(**limits: Any) -> HandshakeSlots:
    return HandshakeSlots(NetworkConfig(**limits))


def somebody(number: int) -> str:
    """An address that nobody else has."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def crowd(door: HandshakeSlots, count: int, now: float = 0) -> list[Slot]:
    """So many strangers from different addresses, all admitted."""
    places = [door.take(somebody(len(door) + number), now, NEVER_DROPPED).slot for number in range(count)]
    assert all(places)
    return places  # type: ignore[return-value]  # the line above


# One address.


def test_an_address_gets_eight_places_and_no_more() -> None:
    door = admission()
    verdicts = [door.take("192.0.2.1", 0, NEVER_DROPPED) for _ in range(9)]
    assert [verdict.refused for verdict in verdicts] == [""] * 8 + [ADDRESS_LIMIT]
    assert door.take("192.0.2.2", 0, NEVER_DROPPED).slot


def test_a_place_given_back_can_be_taken_again_and_counts_once() -> None:
    door = admission(max_handshakes_per_address=1)
    place = door.take("192.0.2.1", 0, NEVER_DROPPED).slot
    assert place is not None
    for _ in range(3):
        door.free(place)
    assert len(door) == 0
    assert door.take("192.0.2.1", 0, NEVER_DROPPED).slot
    assert door.take("192.0.2.1", 0, NEVER_DROPPED).refused == ADDRESS_LIMIT


def test_an_address_may_come_forty_times_and_then_twenty_times_a_second() -> None:
    door = admission()

    def admitted(now: float) -> int:
        places = [door.take("192.0.2.1", now, NEVER_DROPPED).slot for _ in range(100)]
        for place in filter(None, places):
            door.free(place)
        return sum(place is not None for place in places)

    assert admitted(0) == 8  # at the same time
    door = admission(max_handshakes_per_address=100, max_handshakes=100)
    assert admitted(0) == 40
    assert admitted(1) == 20
    assert door.take("192.0.2.1", 1, NEVER_DROPPED).refused == ACCEPT_RATE


def test_who_is_refused_takes_no_place() -> None:
    door = admission(accept_burst=1)
    for _ in range(5):
        door.take("192.0.2.1", 0, NEVER_DROPPED)
    assert len(door) == 1


@pytest.mark.parametrize(
    ("host", "other", "same"),
    [
        pytest.param("192.0.2.1", "192.0.2.2", False, id="IPv4 neighbours"),
        pytest.param("192.0.2.1", "::ffff:192.0.2.1", True, id="IPv4 within IPv6"),
        pytest.param("::ffff:192.0.2.1", "::ffff:192.0.2.2", False, id="neighbours within IPv6"),
        pytest.param("2001:db8::1", "2001:db8::2", True, id="one machine's IPv6 addresses"),
        pytest.param("2001:db8:0:1::1", "2001:db8:0:ff::1", True, id="one /56"),
        pytest.param("2001:db8:0:1::1", "2001:db8:0:101::1", False, id="two /56"),
        pytest.param("fe80::1%eth0", "fe80::1%eth1", True, id="one link-local address over two interfaces"),
        pytest.param("fe80::1%eth0", "fe80::2%eth0", False, id="two machines on one link"),
        pytest.param("::1", "0.0.0.0", False, id="small numbers"),
        pytest.param("somewhere", "elsewhere", False, id="names"),
    ],
)
def test_what_counts_as_one_source(host: str, other: str, same: bool) -> None:
    assert (source_of(host) == source_of(other)) is same


# Loopback.

LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_not_exempt(host: str) -> None:
    door = admission()
    assert [door.take(host, 0, NEVER_DROPPED).refused for _ in range(9)][-1] == ADDRESS_LIMIT


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_exempt_if_that_is_allowed_but_only_up_to_all_places(host: str) -> None:
    door = admission(allow_loopback_burst=True)
    verdicts = [door.take(host, 0, NEVER_DROPPED) for _ in range(65)]
    assert [verdict.refused for verdict in verdicts] == [""] * 64 + [TOO_MANY_STRANGERS]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "localhost"])
def test_nobody_else_is_exempt_then(host: str) -> None:
    door = admission(allow_loopback_burst=True)
    assert [door.take(host, 0, NEVER_DROPPED).refused for _ in range(9)][-1] == ADDRESS_LIMIT


# All together.


def test_nobody_is_dropped_while_few_are_there() -> None:
    door = admission()
    crowd(door, 31)
    assert door.drop_probability() == 0
    assert door.take(somebody(99), 0, ALWAYS_DROPPED).slot


def test_the_more_are_there_the_more_are_dropped() -> None:
    door = admission()
    crowd(door, 31)
    chances = []
    for _ in range(33):
        crowd(door, 1)
        chances.append(door.drop_probability())
    assert chances == sorted(chances)
    assert chances[0] == pytest.approx(1 / 33)
    assert chances[16] == pytest.approx(17 / 33)
    assert chances[-1] == 1


def test_an_early_drop_is_told_from_a_full_house() -> None:
    door = admission()
    crowd(door, 32)
    assert door.take(somebody(99), 0, ALWAYS_DROPPED).refused == EARLY_DROP
    crowd(door, 32)
    assert door.take(somebody(99), 0, NEVER_DROPPED).refused == TOO_MANY_STRANGERS


def test_a_small_house_drops_nobody_early() -> None:
    door = admission(max_handshakes=3)
    for number in range(3):
        assert door.take(somebody(number), 0, ALWAYS_DROPPED).slot
    assert door.take(somebody(99), 0, NEVER_DROPPED).refused == TOO_MANY_STRANGERS


def test_who_takes_long_gives_way_the_oldest_first() -> None:
    door = admission()
    first, second, *_ = crowd(door, 64)
    for oldest in (first, second):
        verdict = door.take(somebody(1000), 0.5, NEVER_DROPPED)
        assert verdict.slot
        assert verdict.gives_way is oldest
        assert oldest.gave_way
        assert len(door) == 64


def test_who_has_just_come_gives_way_to_nobody() -> None:
    door = admission()
    crowd(door, 64)
    verdict = door.take(somebody(1000), 0.49, NEVER_DROPPED)
    assert (verdict.gives_way, verdict.refused) == (None, TOO_MANY_STRANGERS)


def test_nobody_gives_way_to_an_address_that_has_its_share() -> None:
    door = admission(max_handshakes=8)
    for _ in range(8):
        assert door.take("192.0.2.1", 0, NEVER_DROPPED).slot
    verdict = door.take("192.0.2.1", 5, NEVER_DROPPED)
    assert (verdict.gives_way, verdict.refused) == (None, ADDRESS_LIMIT)


def test_a_place_that_was_given_away_is_not_given_back_again() -> None:
    door = admission()
    first, *_ = crowd(door, 64)
    door.take(somebody(1000), 1, NEVER_DROPPED)
    door.free(first)
    assert len(door) == 64


def test_nothing_is_left_of_those_who_have_gone() -> None:
    door = admission()
    for place in crowd(door, 64):
        door.free(place)
    assert len(door) == 0
    assert not door.by_source


class TestAcquaintances:
    def test_who_was_here_before_does_not_count_for_the_address(self) -> None:
        admission = HandshakeSlots(NetworkConfig(accept_rate=1, accept_burst=2))
        for number in range(10):
            verdict = admission.take("192.0.2.1", 0.0, 1.0)
            assert verdict.slot is not None, verdict.refused
            admission.recognise(verdict.slot, f"known {number}", 0.0)
            admission.free(verdict.slot)

    def test_but_not_more_often_than_a_stranger_may_come(self) -> None:
        admission = HandshakeSlots(NetworkConfig(accept_rate=1, accept_burst=2))
        for _ in range(4):
            place = admission.take("192.0.2.1", 0.0, 1.0).slot
            assert place is not None
            admission.recognise(place, "known", 0.0)
            admission.free(place)
        assert admission.take("192.0.2.1", 0.0, 1.0).refused == "refused_accept_rate"

    def test_nor_from_one_address_without_end(self) -> None:
        admission = HandshakeSlots(NetworkConfig(accept_rate=1, accept_burst=2))
        admitted = 0
        for number in range(100):
            place = admission.take("192.0.2.1", 0.0, 1.0).slot
            if place is not None:
                admitted += 1
                admission.recognise(place, f"known {number}", 0.0)
                admission.free(place)
        assert admitted == 2 + 2 * KNOWN_SHARE
