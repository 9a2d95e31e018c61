from __future__ import annotations

import json

from peernet.peers.peer import GenericPeer
from tests.unit.sample_peers import ALICE, peer_at


def test_an_endpoint_has_brackets_around_ipv6() -> None:
    assert peer_at("2001:db8::1").endpoint == "[2001:db8::1]:4000"


def test_a_peer_can_be_told_as_json() -> None:
    peer = GenericPeer(ALICE, "192.0.2.1", 4000, True, "other/1.0", ("192.0.2.1:5000",))
    assert json.loads(json.dumps(peer.to_dict())) == {
        "identifier": ALICE,
        "address": "192.0.2.1:4000",
        "proven": True,
        "agent": "other/1.0",
        "listen_addresses": ["192.0.2.1:5000"],
    }
