"""What a peer may send, and how fast."""

from __future__ import annotations

from peernet.trust.policy import IncomingPeerTrustPolicy
from tests.unit.channels import Setup, Setups


def test_control_packets_are_never_among_the_kinds_and_trust_permits_all_others(setup: Setup) -> None:
    before = setup.parts.permissions.kinds
    assert "pure_message" in before
    assert not before & {"data_transmission", "heartbeat", "acknowledge", "hello", "disconnect"}
    setup.channel.trust()
    assert setup.parts.permissions.kinds > before
    assert "data_transmission" in setup.parts.permissions.kinds


def test_a_change_is_told_once(setup: Setup) -> None:
    for change in (setup.channel.trust, setup.channel.trust, setup.channel.untrust, setup.channel.untrust):
        change()
    assert setup.owner.events() == ["trust changed", "trust changed"]
    assert not setup.channel.trusted


def test_another_policy_counts_from_the_moment_when_the_channel_is_told(setup: Setup) -> None:
    setup.owner.policy = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
    assert "data_transmission" not in setup.parts.permissions.kinds
    setup.control.refresh_permissions()
    assert "data_transmission" in setup.parts.permissions.kinds


def test_who_is_trusted_has_no_share_to_keep_to_on_any_connection(setup: Setup) -> None:
    assert setup.link.throttle is not None
    setup.channel.trust()
    assert setup.link.throttle is None
    setup.lose()
    assert setup.reconnect()
    assert setup.link.throttle is None
    setup.channel.untrust()
    share = setup.link.throttle
    assert share is not None
    setup.lose()
    assert setup.reconnect()
    assert setup.link.throttle is share


def test_a_node_may_give_everybody_as_much_as_comes(setups: Setups) -> None:
    assert setups(untrusted_frame_rate=0).link.throttle is None
