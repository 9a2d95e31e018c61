"""How much the durable outbox takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from peernet.config import NetworkConfig
from peernet.durable.packet import Backlog, NewPacket
from peernet.durable.quota import Quota, store_checked
from peernet.durable.store import DurableStore
from peernet.errors import OutboxFullError

KIB = 1024
CONFIG = NetworkConfig(
    durable_packets=3,
    durable_packets_per_peer=2,
    durable_bytes=100 * KIB,
    durable_bytes_per_peer=64 * KIB,
)


def test_a_peer_takes_no_more_than_its_share_of_packets() -> None:
    quota = Quota(CONFIG, {})
    quota.take("a", 1)
    quota.take("a", 1)
    with pytest.raises(OutboxFullError, match=r"for a is full \(2 packets, 2 bytes\)"):
        quota.take("a", 1)
    quota.take("b", 1)


def test_a_peer_takes_no_more_than_its_share_of_bytes() -> None:
    quota = Quota(CONFIG, {})
    quota.take("a", 64 * KIB)
    with pytest.raises(OutboxFullError, match="for a is full"):
        quota.take("a", 1)


def test_all_peers_together_take_no_more_than_there_is() -> None:
    quota = Quota(CONFIG, {})
    for peer in "abc":
        quota.take(peer, 1)
    with pytest.raises(OutboxFullError, match="for all peers is full"):
        quota.take("d", 1)
    quota.give_back("a", 1, 1)
    quota.take("d", 1)
    with pytest.raises(OutboxFullError, match="for all peers is full"):
        quota.take("e", 1)


def test_bytes_count_for_all_peers_too() -> None:
    quota = Quota(CONFIG, {"a": Backlog(1, 60 * KIB, 0.0, set())})
    with pytest.raises(OutboxFullError, match="for all peers is full"):
        quota.take("b", 41 * KIB)
    quota.take("b", 40 * KIB)


def test_what_is_refused_is_not_counted_and_what_is_given_back_is_gone() -> None:
    quota = Quota(CONFIG, {"a": Backlog(2, 10, 0.0, set())})
    with pytest.raises(OutboxFullError):
        quota.take("a", 1)
    assert (quota.packets, quota.bytes, quota.peers) == (2, 10, ["a"])
    quota.give_back("a", 2, 10)
    assert (quota.packets, quota.bytes, quota.peers) == (0, 0, [])
    assert "a" not in quota
    quota.give_back("a", 0, 0)
    assert quota.peers == []


def test_a_file_that_no_node_uses_has_the_same_limits(tmp_path: Path) -> None:
    store = DurableStore(tmp_path / "outbox.db")
    packet = NewPacket("a", "", b"id", "pure_message", b"body", 0.0)
    with store.transaction():
        store_checked(store, CONFIG, packet)
        store_checked(store, CONFIG, packet)
    with pytest.raises(OutboxFullError), store.transaction():
        store_checked(store, CONFIG, packet)
    assert len(store.numbers("a")) == 2
    store.close()


def test_what_is_set_aside_counts_for_the_limits_and_waits_for_nothing() -> None:
    quota = Quota(CONFIG, {"a": Backlog(2, 2, 0.0, set(), aside=1)})
    assert (quota.aside, quota.is_waiting("a"), quota.is_waiting("b")) == (1, True, False)
    quota.set_aside("a", 1)
    assert (quota.aside, quota.is_waiting("a"), quota.peers) == (2, False, ["a"])
    with pytest.raises(OutboxFullError, match="for a is full"):
        quota.take("a", 1)
    quota.set_aside("a", -2)
    quota.give_back("a", 2, 2)
    assert (quota.aside, quota.is_waiting("a"), quota.peers) == (0, False, [])
