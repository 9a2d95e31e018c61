"""What a network with a home keeps from one run to the next."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from peernet import Identity, IncomingPeerTrustPolicy, PeerNetwork
from peernet.errors import ConfigurationError, HomeError, HomeInUseError, ListenError
from peernet.node.ban_lists import unban_home
from peernet.node.node import make_network
from peernet.node.settings import load_settings
from peernet.node.trust_lists import change_home
from peernet.state import files
from peernet.state.home import Home
from peernet.switch import home_keeper
from peernet.switch.stores import BANS, PEERS, TRUST
from peernet.v1.packet_pb2 import PureMessagePacket
from tests.integration.meetings import Networks, config
from tests.support import handle, scaled, wait_until
from tests.unit.sample_peers import ALICE, BOB, CAROL

NOBODY = IncomingPeerTrustPolicy()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def kept(home: Home) -> IncomingPeerTrustPolicy:
    """The lists in the file."""
    return TRUST.load(home.trust_file)


def is_free(home: Home) -> bool:
    """Whether another process could use the home."""
    return home.holder() is None


def test_the_identity_is_made_once_and_kept(home: Home) -> None:
    first = PeerNetwork(home=home.folder)
    assert PeerNetwork(home=str(home.folder)).identifier == first.identifier
    assert Identity.load(home.folder).identifier == first.identifier
    assert stat.S_IMODE(os.stat(home.folder).st_mode) == 0o700


@pytest.mark.parametrize("runs", [True, False], ids=["running", "not running"])
def test_the_lists_of_the_policy_are_kept_with_every_change(networks: Networks, home: Home, runs: bool) -> None:
    network = networks(home=home.folder)
    if not runs:
        network.stop()
    network.trust(ALICE)
    assert kept(home) == NOBODY.adding(trusted_identifiers=ALICE)
    network.policy = network.policy.blocking(BOB).blocking("192.0.2.0/24")
    network.untrust(ALICE)
    assert kept(home) == NOBODY.blocking(BOB).blocking("192.0.2.0/24")
    network.stop()
    assert PeerNetwork(home=home.folder).policy == kept(home)


def test_the_other_rules_are_those_of_the_program(networks: Networks, home: Home) -> None:
    PeerNetwork(home=home.folder).trust(ALICE)
    open_policy = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)
    network = networks(home=home.folder, policy=open_policy)
    assert network.policy == open_policy.adding(trusted_identifiers=ALICE)
    network.policy = NOBODY
    assert kept(home) == NOBODY


def test_peers_and_bans_are_kept_at_the_end_and_known_again(networks: Networks, home: Home) -> None:
    other, network = networks(), networks(home=home.folder)
    network.connect(other.addresses[0])
    network.bans.ban(BOB, seconds=3600)
    network.stop()
    assert [peer.identifier for peer in PEERS.load(home.peers_file)] == [other.identifier]
    assert [ban.who for ban in BANS.load(home.bans_file)] == [BOB]
    again = PeerNetwork(home=home.folder)
    assert [peer.addresses for peer in again.known_peers] == [[other.addresses[0].split("@")[1]]]
    assert BOB in again.bans


def test_peers_and_bans_are_kept_now_and_then(networks: Networks, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peernet.state.savers.SAVE_INTERVAL", 0.01)
    network = networks(home=home.folder)
    network.bans.ban(BOB, seconds=3600)
    wait_until(lambda: [ban.who for ban in BANS.load(home.bans_file, look_only=True)] == [BOB])


def test_a_home_belongs_to_one_network_while_it_runs(
    networks: Networks, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home_keeper, "PATIENCE", 0.05)
    waiting = PeerNetwork(home=home.folder)
    running = networks(home=home.folder)
    assert home.holder() == os.getpid()
    with pytest.raises(HomeInUseError, match="uses the home folder"):
        PeerNetwork(home=home.folder)
    with pytest.raises(HomeInUseError, match="uses the home folder"):
        waiting.start()
    assert not waiting.running
    with pytest.raises(HomeInUseError, match="uses the home folder"):
        waiting.trust(ALICE)
    running.stop()
    assert is_free(home)
    waiting.start()
    waiting.stop()
    assert is_free(home)


def test_a_network_that_does_not_start_leaves_the_home_to_others(networks: Networks, home: Home) -> None:
    other = networks()
    network = PeerNetwork(home=home.folder, listen=[other.addresses[0].split("@")[1]])
    with pytest.raises(ListenError):
        network.start()
    assert is_free(home)


def test_a_network_can_start_again_on_its_home(networks: Networks, home: Home) -> None:
    network = networks(home=home.folder)
    for peer in (ALICE, BOB, CAROL):
        network.stop()
        network.start()
        network.trust(peer)
    assert kept(home).trusted_identifiers == {ALICE, BOB, CAROL}


def test_what_others_have_changed_meanwhile_is_adopted(networks: Networks, home: Home) -> None:
    network = networks(home=home.folder)
    network.policy = NOBODY.adding(trusted_identifiers=ALICE).blocking(BOB)
    network.stop()
    TRUST.save(home.trust_file, NOBODY.adding(trusted_identifiers=ALICE).blocking(CAROL))
    network.untrust(ALICE)
    expected = NOBODY.blocking(CAROL)
    assert network.policy == kept(home) == expected
    TRUST.save(home.trust_file, expected.adding(trusted_identifiers=BOB))
    network.start()
    assert network.policy == expected.adding(trusted_identifiers=BOB)


def test_a_node_and_a_program_share_a_home_one_after_the_other(networks: Networks, home: Home) -> None:
    program = networks(home=home.folder)
    program.trust(ALICE)
    program.bans.ban(BOB, seconds=3600)
    program.stop()
    with home.locked():
        node = make_network(home, load_settings(home.config_file))
        change_home(home, "trust", CAROL)
        unban_home(home, BOB)
    assert node.identifier == program.identifier
    assert node.policy.trusted_identifiers == {ALICE}
    assert BOB in node.bans
    again = PeerNetwork(home=home.folder)
    assert again.policy.trusted_identifiers == {ALICE, CAROL}
    assert list(again.bans) == []


def test_bans_and_peers_that_others_have_changed_meanwhile_are_adopted(networks: Networks, home: Home) -> None:
    other, network = networks(), networks(home=home.folder)
    network.connect(other.addresses[0])
    network.bans.ban(ALICE, seconds=3600)
    network.bans.ban(BOB, seconds=3600)
    network.stop()
    carols = replace(next(iter(network.bans)), who=CAROL)
    BANS.save(home.bans_file, [ban for ban in BANS.load(home.bans_file) if ban.who == BOB] + [carols])
    PEERS.save(home.peers_file, [])
    network.start()
    assert {ban.who for ban in network.bans} == {BOB, CAROL}
    assert list(network.known_peers) == []


def test_bans_and_peers_that_are_removed_while_the_network_does_not_run_stay_removed(
    networks: Networks, home: Home
) -> None:
    other, network = networks(), networks(home=home.folder)
    network.connect(other.addresses[0])
    network.bans.ban(ALICE, seconds=3600)
    network.stop()
    network.bans.unban(ALICE)
    network.bans.ban(BOB, seconds=3600)
    network.known_peers.forget(other.identifier)
    network.start()
    assert [ban.who for ban in network.bans] == [BOB]
    assert list(network.known_peers) == []
    network.stop()
    assert [ban.who for ban in BANS.load(home.bans_file)] == [BOB]
    assert PEERS.load(home.peers_file) == []


def test_a_change_that_is_taken_back_while_it_is_written_is_not_kept(
    networks: Networks, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = networks(home=home.folder)
    begun, go_on = threading.Event(), threading.Event()

    def save_slowly(path: Path, content: dict[str, Any]) -> None:
        begun.set()
        assert go_on.wait(scaled(5))
        files.save(path, content)

    monkeypatch.setattr("peernet.state.stores.save", save_slowly)
    trusting = gevent.spawn(network.trust, ALICE)
    wait_until(begun.is_set)
    untrusting = gevent.spawn(network.untrust, ALICE)
    wait_until(lambda: network.policy == NOBODY)
    go_on.set()
    gevent.joinall([trusting, untrusting], timeout=scaled(5), raise_error=True)
    assert kept(home) == NOBODY


def test_a_damaged_file_is_set_aside(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.create()
    home.trust_file.write_text("{")
    assert PeerNetwork(home=home.folder).policy == NOBODY
    assert [path.name.partition("damaged")[0] for path in home.folder.glob("trust.json*")] == ["trust.json."]
    assert "is damaged" in caplog.text


def test_a_key_that_others_can_read_is_told(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    PeerNetwork(home=home.folder)
    assert "read the key" not in caplog.text
    (home.folder / "key.pem").chmod(0o644)
    PeerNetwork(home=home.folder)
    assert "others can read the key" in caplog.text


def test_durable_packets_wait_in_the_home(networks: Networks, home: Home) -> None:
    peer = networks()
    heard = handle(peer)
    first = networks(home=home.folder)
    first.send(peer.identifier, PureMessagePacket(message="later"), durable=True)
    first.stop()
    again = networks(home=home.folder)
    assert again.durable_outbox is not None
    assert (again.durable_outbox.path, again.durable_outbox.peers) == (home.outbox_file, [peer.identifier])
    again.connect(peer.addresses[0])
    ((_, packet),) = heard.wait_for(1)
    assert packet.pure_message.message == "later"


def test_a_durable_outbox_elsewhere_goes_before_that_of_the_home(tmp_path: Path, home: Home) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    with PeerNetwork(home=home.folder, durable_outbox=elsewhere):
        assert elsewhere.exists()
    assert not home.outbox_file.exists()


def test_a_policy_that_changes_no_list_writes_nothing(networks: Networks, home: Home) -> None:
    network = networks(home=home.folder)
    network.policy = IncomingPeerTrustPolicy(allow_default_communication=False)
    assert not home.trust_file.exists()


def test_lists_that_cannot_be_written_are_an_error_and_hold_all_the_same(networks: Networks, home: Home) -> None:
    network = networks(home=home.folder)
    shutil.rmtree(home.folder)
    with pytest.raises(HomeError, match=r"cannot write .*trust\.json"):
        network.policy = NOBODY.blocking(ALICE)
    assert ALICE in network.policy.blocked_identifiers


def test_a_change_in_the_hub_does_not_wait_for_the_disk(networks: Networks, home: Home) -> None:
    network = networks(home=home.folder)
    gevent.get_hub().loop.run_callback(network.trust, ALICE)
    wait_until(lambda: ALICE in kept(home).trusted_identifiers)


def test_a_change_while_the_network_ends_is_kept(networks: Networks, home: Home) -> None:
    network = networks(home=home.folder)
    ending = gevent.spawn(network.stop)
    changes: list[str] = []
    while not ending.dead:  # ends: nothing here keeps it from stopping
        number = len(changes)
        changes.append(f"10.{number // 256}.{number % 256}.0/24")
        network.policy = network.policy.blocking(changes[-1])
    assert ending.get(timeout=scaled(5)) is None
    assert kept(home).blocked_networks == set(changes)
    assert is_free(home)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identity": Identity.generate()}, "give PeerNetwork an identity or a home, not both"),
        ({"policy": NOBODY.blocking(ALICE)}, "the lists of the policy are kept in the home"),
        ({"listen": ["nowhere"]}, "port"),
        ({"handlers": {"pure_message": print}}, "must be a PacketHandleProtocol"),
    ],
    ids=["identity", "lists", "address", "callbacks"],
)
def test_what_does_not_go_with_a_home_is_refused_before_there_is_one(
    home: Home, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PeerNetwork(home=home.folder, **options)
    assert not home.folder.exists()


def test_the_identity_of_a_home_cannot_be_replaced(home: Home) -> None:
    network = PeerNetwork(home=home.folder)
    with pytest.raises(ConfigurationError, match="the home keeps the identity"):
        network.set_identity(Identity.generate())


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(HomeError, match="is a file, not a folder"):
        PeerNetwork(home=tmp_path / "home")


def test_trust_that_is_kept_counts_when_the_peer_comes_again(networks: Networks, home: Home) -> None:
    peer = networks(config=config())
    first = networks(home=home.folder)
    first.trust(peer.identifier)
    first.stop()
    again = networks(home=home.folder)
    assert again.connect(peer.addresses[0]).trusted
