"""Many nodes in simulated time: what happens is the same for the same seed, and peernet keeps its promises."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from peernet.channel.channel import PeerChannel
from peernet.channel.receipts import Receipt
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.errors import ConnectError, ConnectTimeout, DeliveryFailed
from peernet.reasons import Reason
from peernet.testing import Ledger, SimulatedNetwork
from tests.integration.meetings import text
from tests.support import Recorder
from tools.chaos import partitions

QUICK = NetworkConfig(backoff_cap=2.0)


def _open(world: SimulatedNetwork, node: int, peer: int) -> PeerChannel:
    channel = world.channel(node, peer)
    assert channel is not None
    assert channel.state is ChannelState.OPEN
    return channel


def _failure(receipt: Receipt) -> Reason:
    with pytest.raises(DeliveryFailed) as failed:
        receipt.wait(60)
    return failed.value.reason


def _story(seed: int) -> list[str]:
    with SimulatedNetwork(5, seed=seed, config=QUICK) as world:
        world.connect_all()
        world.random_partitions(120)
        return list(map(str, world.log))


def test_the_same_seed_tells_the_same_story_and_another_one_another() -> None:
    story = _story(seed=1)
    assert any("resumed" in line for line in story)
    assert _story(seed=1) == story
    assert _story(seed=2) != story


def test_no_packet_is_lost_and_all_find_together_after_random_partitions() -> None:
    figures = partitions.run(**partitions.SHORT, seed=1)
    assert figures["simulated seconds"] > partitions.SHORT["seconds"]
    assert figures["channels that lost their connection"] > 2 * 16  # the last partition alone parts 16 pairs
    assert figures["packets acknowledged"] == figures["packets accepted"] > 1000
    assert figures["seconds until all were connected, at most"] <= partitions.LIMIT


def test_nodes_prove_who_they_are_and_packets_take_their_time() -> None:
    with SimulatedNetwork(2, latency=(0.2, 0.2)) as world:
        heard = world.nodes[1].handlers["pure_message"] = Recorder()
        channel = world.connect(0, 1)
        assert channel.peer.proven
        assert world.number_of(channel.peer.identifier) == 1
        assert channel.ping() == pytest.approx(0.4, abs=0.01)
        channel.send(text("hello")).wait(5)
        assert [packet.pure_message.message for packet in heard.packets] == ["hello"]


def test_a_pair_that_is_cut_off_notices_and_comes_back() -> None:
    with SimulatedNetwork(3, config=QUICK) as world:
        world.connect_all()
        world.cut(0, 1)
        world.run(60)
        assert world.channel(0, 1).state is world.channel(1, 0).state is ChannelState.RECONNECTING  # type: ignore[union-attr]
        assert _open(world, 0, 2).ping() > 0
        with pytest.raises(ConnectError, match=r"1 pairs of nodes, \[\(0, 1\)\]"):
            world.wait_connected(5)
        world.mend(0, 1)
        assert world.wait_connected(10) <= 10


def test_groups_are_parted_and_those_in_none_are_one_more() -> None:
    with SimulatedNetwork(5, config=QUICK) as world:
        world.connect_all()
        world.partition([0, 1], [2])
        for one, other, connected in ((0, 1, True), (3, 4, True), (0, 2, False), (2, 3, False), (1, 4, False)):
            if connected:
                assert _open(world, one, other).ping(1) < 1
            else:
                receipt = _open(world, one, other).send(text("are you there?"))
                assert receipt.wait(1) is False
        world.heal()
        world.wait_connected(10)


def test_a_dial_across_a_partition_times_out() -> None:
    with SimulatedNetwork(2) as world:
        world.partition([0])
        with pytest.raises(ConnectTimeout):
            world.connect(0, 1)
        assert world.now == pytest.approx(10, abs=1)


def test_a_node_that_crashes_has_lost_its_sessions_when_it_is_back() -> None:
    with SimulatedNetwork(3, config=QUICK) as world:
        world.connect_all()
        ledger = Ledger()
        for node in world.nodes:
            node.handlers["pure_message"] = Recorder()
            ledger.watch(node)
        world.crash(2)
        lost = ledger.send(_open(world, 0, 2), text("nobody hears this"))
        assert _open(world, 0, 1).ping() > 0
        world.run(5)
        ledger.watch(world.restart(2))
        heard = world.nodes[2].handlers["pure_message"] = Recorder()
        for peer in (0, 1):
            world.connect(2, peer)
        world.wait_connected(10)
        assert _failure(lost) is Reason.SESSION_LOST
        ledger.send(_open(world, 0, 2), text("this one arrives")).wait(5)
        assert [packet.pure_message.message for packet in heard.packets] == ["this one arrives"]
        ledger.check()


def test_what_a_function_of_the_scenario_raises_is_raised() -> None:
    def fail() -> None:
        gevent.sleep(1)
        raise ZeroDivisionError

    with SimulatedNetwork(1) as world:
        world.spawn(fail)
        with pytest.raises(ZeroDivisionError):
            world.run(2)
    with pytest.raises(ZeroDivisionError), SimulatedNetwork(1) as world:
        world.spawn(fail).join()


def test_a_simulation_that_ends_leaves_nobody_behind() -> None:
    def stay(*args: Any) -> None:
        gevent.sleep(1e9)

    with SimulatedNetwork(3, seed=4) as world:
        world.connect_all()
        world.spawn(stay)
        world.nodes[0].handlers["pure_message"] = stay
        _open(world, 1, 0).send(text("be busy"))
        world.run(1)
        world.partition([0])
    assert not any(node.running for node in world.nodes)
    gevent.sleep(0.001)  # in the time of the machine again
