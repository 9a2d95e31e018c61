"""What all channels of a node hold together, in networks of one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from peernet import ChannelState, IncomingPeerTrustPolicy, PeerChannel, PeerNetwork, Reason
from peernet.config import KIB, MIB
from peernet.errors import DeliveryFailed, OutboxFullError, PeerNetError
from peernet.switch import budget
from peernet.v1 import packet_pb2 as pb
from tests.integration import attackers
from tests.integration.attackers import Attacker, beginning
from tests.integration.meetings import Networks, config, text, undisturbed
from tests.support import AssemblyOf, PartsOf, record, scaled, wait_until

OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
PART = pb.DataTransmissionPacket(data=bytes(30 * KIB))
STEP = 64 * KIB


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PATIENCE", 0.2)


def make_node(networks: Networks, **limits: Any) -> PeerNetwork:
    """A node with a budget of 1 MiB that looks often, and waits long for a slow peer."""
    limits = {"buffer_budget": 1 * MIB, "max_frame": 1 * MIB, "heartbeat_interval": 0.4, "write_timeout": 30} | limits
    return networks(policy=OPEN_TO_ALL, config=config(**limits))


def deaf(node: PeerNetwork, session: int) -> tuple[Attacker, PeerChannel]:
    """A peer that reads nothing after its hello, and the node's channel to it."""
    attacker = attackers.dial(node.addresses[0])
    attacker.greet(session_id=session)
    channel: PeerChannel = wait_until(lambda: node.channel_to(attacker.credentials.identifier))
    return attacker, channel


def deaf_ones(node: PeerNetwork, count: int, session: int) -> tuple[list[Attacker], list[PeerChannel]]:
    both = [deaf(node, session) for _ in range(count)]
    return [attacker for attacker, _ in both], [channel for _, channel in both]


def pour(channels: list[PeerChannel]) -> None:
    """Send to all of them in turn until none takes more, neither the system nor the node."""
    before = -1
    while (held := _fill(channels)) != before:  # until the system has taken nothing for a while
        before = held
        gevent.sleep(0.05)


def _fill(channels: list[PeerChannel]) -> int:
    """Send as much as is taken now. Returns how many bytes wait in the node."""
    taking = channels
    while taking:
        taking = [channel for channel in taking if _takes_one(channel)]
    return sum(channel.queued_bytes for channel in channels)


def _takes_one(channel: PeerChannel) -> bool:
    try:
        channel.try_send(PART)
    except OutboxFullError:
        return False
    return True


def leave(guests: list[Attacker]) -> None:
    for guest in guests:
        guest.vanish()


@pytest.mark.parametrize("session", [0, 7], ids=["without a session", "with one"])
class TestSending:
    def test_what_is_sent_to_all_together_stays_within_the_budget(
        self, networks: Networks, parts_of: PartsOf, session: int
    ) -> None:
        node = make_node(networks)
        with undisturbed(networks, node):
            guests, channels = deaf_ones(node, 6, session)
            pour(channels)
            held = sum(parts_of(channel).control.held_bytes for channel in channels)
            assert MIB / 2 < held <= MIB + len(channels) * (STEP + 31 * KIB)
            assert {channel.state for channel in channels} == {ChannelState.OPEN}
            leave(guests)

    def test_what_becomes_free_can_be_held_by_others(self, networks: Networks, parts_of: PartsOf, session: int) -> None:
        node = make_node(networks, session_ttl=300 if session else 0)
        (first, *guests), channels = deaf_ones(node, 2, session)
        one, other = (parts_of(channel).control for channel in channels)
        pour(channels[:1])
        full = other.held_bytes
        pour(channels[1:])
        little = other.held_bytes - full
        one.end(Reason.CLOSED)

        def has_room() -> bool:
            pour(channels[1:])
            return other.held_bytes > little + MIB / 2

        wait_until(has_room)  # what is held is not counted anew at every attempt
        leave([first, *guests])

    def test_one_who_waits_goes_on_when_there_is_room(
        self, networks: Networks, parts_of: PartsOf, session: int
    ) -> None:
        node = make_node(networks)
        guests, channels = deaf_ones(node, 2, session)
        pour(channels)
        waiting = gevent.spawn(channels[1].send, PART, timeout=scaled(20))
        gevent.sleep(0.02)
        assert not waiting.ready()
        parts_of(channels[0]).control.end(Reason.CLOSED)
        assert waiting.get(timeout=scaled(5)) is not None
        leave(guests)


def test_what_is_sent_to_many_at_once_counts_once(
    networks: Networks, assembly_of: AssemblyOf, parts_of: PartsOf
) -> None:
    node = make_node(networks, buffer_budget=2 * MIB)
    guests, channels = deaf_ones(node, 5, 7)
    for _ in range(2):
        outcomes = node.broadcast(pb.DataTransmissionPacket(data=bytes(700 * KIB)))
        assert [outcome.error for outcome in outcomes.values()] == [None] * 5
    wait_until(lambda: assembly_of(node).switch.memory.held < 2 * MIB)
    assert sum(parts_of(channel).control.held_bytes for channel in channels) > 6 * MIB
    assert not node.counters["buffers_exceeded"]
    leave(guests)


# When it is too much all the same: callbacks answer out of the reserve, and nobody waits in them.


def answer_much(channel: PeerChannel, packet: object) -> None:
    try:
        channel.send(PART)
    except PeerNetError:
        return  # not even the reserve holds more


@pytest.mark.usefixtures("impatient")
class TestClosing:
    @pytest.fixture
    def node(self, networks: Networks, parts_of: PartsOf) -> Iterator[PeerNetwork]:
        node = make_node(networks)
        yield node
        for channel in node.active_peer_channels:
            parts_of(channel).control.end(Reason.CLOSED)

    def ask(self, guest: Attacker, channel: PeerChannel, times: int) -> None:
        """Have the node answer so often, and read none of it."""
        channel.handlers["pure_message"] = answer_much
        before = channel.received
        for _ in range(times):
            guest.say("?")
        wait_until(lambda: channel.received == before + times or channel.reason is not None, 20)

    def test_the_one_that_holds_most_is_closed_as_slow_peer(self, networks: Networks, node: PeerNetwork) -> None:
        removed = record(node.peer_removed)
        with undisturbed(networks, node):
            (small, large), (to_small, to_large) = deaf_ones(node, 2, 7)
            self.ask(small, to_small, 20)
            receipt = to_large.send(text("first"))
            self.ask(large, to_large, 160)
            ((channel, reason),) = removed.wait_for(1)
            assert (channel, reason) == (to_large, Reason.SLOW_PEER)
            assert to_small.state is ChannelState.OPEN
            with pytest.raises(DeliveryFailed) as failed:
                receipt.wait(5)
            assert failed.value.reason is Reason.SLOW_PEER
            assert node.counters["closed_for_buffers"] == node.counters["buffers_exceeded"] == 1
            assert not len(node.bans)
            leave([small, large])

    def test_a_trusted_one_is_spared_if_that_helps(self, assembly_of: AssemblyOf, node: PeerNetwork) -> None:
        memory = assembly_of(node).switch.memory
        removed = record(node.peer_removed)
        (friend, stranger), (to_friend, to_stranger) = deaf_ones(node, 2, 7)
        to_friend.trust()
        self.ask(friend, to_friend, 25)
        self.ask(stranger, to_stranger, 20)
        removed.wait_for(1, 10)
        wait_until(lambda: memory.held < MIB, what="the budget to be kept, which ends the search for whom to close")
        assert [channel for channel, _ in removed.calls] == [to_stranger]
        leave([friend, stranger])

    def test_a_session_that_waits_for_its_peer_is_closed_as_expired(
        self, node: PeerNetwork, parts_of: PartsOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(budget, "PATIENCE", 1.0)
        removed = record(node.peer_removed)
        (guest,), (channel,) = deaf_ones(node, 1, 7)
        self.ask(guest, channel, 60)
        guest.vanish()
        wait_until(lambda: channel.state is ChannelState.RECONNECTING)
        ((_, reason),) = removed.wait_for(1)
        assert reason is Reason.EXPIRED
        assert parts_of(channel).control.held_bytes < MIB / 4

    def test_frames_that_are_not_complete_count_too(self, node: PeerNetwork) -> None:
        guests, channels = deaf_ones(node, 3, 7)
        for guest in guests:
            guest.send_bytes(beginning(1 * MIB - 10) + bytes(900 * KIB))
        wait_until(lambda: node.counters["closed_for_buffers"] >= 2, 10)
        wait_until(lambda: node.counters["busy"] >= 2)
        assert sum(channel.state is ChannelState.OPEN for channel in channels) == 1
        leave(guests)
