"""Short forms of the attacks. How fast the node stays meanwhile is for ``python -m tests.hostile`` to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import attacks
from tests.hostile.conftest import Victims
from tests.hostile.raw import connect
from tools.node_process import NodeProcess

pytestmark = pytest.mark.stress

MB = 1.0


@pytest.mark.parametrize(
    ("flags", "refused"), [([], 5), (["--allow-loopback-burst"], None)], ids=["by default", "if it is allowed"]
)
def test_the_profile_and_the_burst_can_be_chosen_when_a_node_is_run(
    tmp_path: Path, flags: list[str], refused: int | None
) -> None:
    with NodeProcess(tmp_path / "home", "--profile", "tiny", *flags) as node:
        port = int(node.address.rpartition(":")[2])
        strangers = [connect(port) for _ in range(9)]
        counters = node.command("status", "-o", "json").json["counters"]
        for stranger in strangers:
            stranger.close()
    assert counters.get("refused_address_limit") == refused  # tiny lets four in


def test_a_crowd_of_silent_strangers_shuts_nobody_out(victims: Victims) -> None:
    figures = attacks.crowd(victims(handshake_timeout=3), silent=200, half=20, handshakes=25)
    assert figures["all_attackers_gone_after_s"] is not None
    assert figures["counters"]["handshake_gave_way"] > 0
    assert figures["honest_sent_away"] <= 12  # in the first half second
    # Everybody who was sent away is counted, once.
    assert sum(figures["counters"].values()) == 220 + figures["honest_sent_away"]


def test_a_handshake_in_drops_ends_at_its_deadline(victims: Victims) -> None:
    figures = attacks.trickle(victims(handshake_timeout=1), every=0.1)
    assert figures["counters"] == {"handshake_timeout": 2}
    assert min(figures["in_tls_s"], figures["in_hello_s"]) > 0.9


def test_a_frame_in_drops_ends_at_its_deadline(victims: Victims) -> None:
    figures = attacks.dribble(victims(frame_timeout=0.5), every=0.1)
    assert figures["counters"] == {"frame_timeout": 1}


def test_more_connections_than_descriptors_hurt_no_channel(victims: Victims) -> None:
    victim = victims(max_handshakes=4096, early_drop_from=4096, handshake_timeout=60)
    figures = attacks.no_descriptors(victim, connections=300, seconds=1, allowed=200)
    assert figures["descriptors_in_use"] <= 200 - 200 // 4
    assert figures["counters"]["refused_no_descriptors"] > 100
    assert figures["cpu_while_full"] < 0.5  # a loop that only tried again would need all
    assert not figures["channel_lost"]
    assert figures["recovery_s"] is not None


def test_a_system_without_descriptors_is_asked_now_and_then(victims: Victims) -> None:
    figures = attacks.emfile(victims(), seconds=1)
    assert 0 < figures["accept_failed"] < 30
    assert figures["cpu_while_full"] < 0.5
    assert not figures["channel_lost"]
    assert figures["recovery_s"] is not None


def test_those_who_come_and_go_leave_nothing_behind(victims: Victims) -> None:
    figures = attacks.churn(victims(), connections=1000, handshakes=200)
    assert figures["descriptors"] <= 0
    assert figures["greenlets"] <= 0
    assert figures["memory_mb"] < 5 * MB


def test_a_flood_of_tiny_messages_is_slowed_down_and_nobody_else_is(victims: Victims) -> None:
    figures = attacks.flood(victims(), seconds=2)
    assert figures["throttled"] > 10
    assert not figures["channel_lost"]
    assert figures["echo_ms"]["count"] > 50
