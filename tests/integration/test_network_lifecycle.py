"""The life of a peer: met, added once, known, removed once; whoever dials whom, and how often."""

from __future__ import annotations

import inspect
import re

import gevent
import pytest
from gevent.event import Event as Flag

import peernet
from peernet import (
    Event,
    IdentifierOrigin,
    Identity,
    InThreadpool,
    IPeer,
    LocalIdentifierSetPolicy,
    PeerAddress,
    PeerNetwork,
    PeerNetworkTrustPolicy,
    Reason,
)
from peernet.errors import (
    AddressError,
    ConfigurationError,
    ConnectError,
    IdentityLockedError,
    IdentityMismatchError,
    ListenError,
    RefusedByPeerError,
    SelfConnectionError,
)
from peernet.network_view import NetworkView
from tests.integration import attackers
from tests.integration.meetings import Networks, config, echo, meet, text
from tests.support import Recorder, handle, known, record, wait_until

tls_and_plain = pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])


def tell_story_of(network: PeerNetwork, story: list[tuple[str, str, object]]) -> None:
    me = network.identifier
    network.peer_added.add(lambda channel: story.append((me, channel.peer.identifier, "added")))
    network.peer_removed.add(lambda channel, reason: story.append((me, channel.peer.identifier, reason)))


@tls_and_plain
def test_a_peer_is_added_and_removed_exactly_once_on_each_side(networks: Networks, insecure: bool) -> None:
    alice, bob = networks(insecure=insecure), networks(insecure=insecure)
    story: list[tuple[str, str, object]] = []
    for network in (alice, bob):
        tell_story_of(network, story)
    alice.connect(bob.addresses[0])
    wait_until(lambda: len(story) == 2)
    assert set(story) == {(alice.identifier, bob.identifier, "added"), (bob.identifier, alice.identifier, "added")}
    bob.stop()
    wait_until(lambda: len(story) == 4)
    assert set(story[2:]) == {
        (alice.identifier, bob.identifier, Reason.SHUTDOWN),
        (bob.identifier, alice.identifier, Reason.SHUTDOWN),
    }


def test_a_peer_that_is_added_can_be_talked_to_at_once(networks: Networks) -> None:
    alice, bob = networks(), networks()
    bob.peer_added.add(lambda channel: channel.send(text("welcome")))
    alice.peer_added.add(lambda channel: channel.send(text("here I am")))
    heard = {network: handle(network) for network in (alice, bob)}
    alice.connect(bob.addresses[0])
    assert heard[alice].wait_for(1)[0][1].pure_message.message == "welcome"
    assert heard[bob].wait_for(1)[0][1].pure_message.message == "here I am"


def test_the_views_show_who_is_connected_and_who_is_trusted(networks: Networks) -> None:
    meeting = meet(networks)
    bob = meeting.bob
    assert bob.active_peer_channels == [meeting.to_alice]
    assert bob.channel_to(meeting.alice.identifier) is meeting.to_alice
    assert bob.trusted_peer_channels == []
    meeting.to_alice.trust()
    assert bob.trusted_peer_channels == [meeting.to_alice]
    meeting.to_bob.close()
    wait_until(lambda: not bob.active_peer_channels)
    assert bob.trusted_peer_channels == []
    assert bob.channel_to(meeting.alice.identifier) is None


def test_a_view_is_a_copy(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.bob.active_peer_channels.clear()
    assert meeting.bob.active_peer_channels == [meeting.to_alice]


def test_peers_stay_known_and_only_addresses_that_were_dialled_are_kept(networks: Networks) -> None:
    meeting = meet(networks)
    meeting.to_bob.close()
    wait_until(lambda: not meeting.bob.active_peer_channels)
    bob = known(meeting.alice.known_peers.get(meeting.bob.identifier))
    assert bob.addresses == [PeerAddress.parse(meeting.bob.addresses[0]).endpoint]
    assert bob.proven
    assert bob.last_seen > 0
    assert known(meeting.bob.known_peers.get(meeting.alice.identifier)).addresses == []
    assert not meeting.bob.known_peers.get("nobody")


@tls_and_plain
def test_connect_twice_returns_the_same_channel(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure)
    added = record(meeting.bob.peer_added)
    unpinned = PeerAddress.parse(meeting.bob.addresses[0]).endpoint
    assert meeting.alice.connect(meeting.bob.addresses[0]) is meeting.to_bob
    assert meeting.alice.connect(unpinned) is meeting.to_bob
    assert meeting.alice.connect(f"peer://{unpinned}") is meeting.to_bob
    meeting.to_bob.ping()
    assert not added


def test_connect_to_another_address_of_the_same_peer_returns_the_same_channel(networks: Networks) -> None:
    bob = networks(listen=["127.0.0.1:0", "127.0.0.1:0"])
    alice = networks()
    first, second = (PeerAddress.parse(address).endpoint for address in bob.addresses)
    assert first != second
    assert alice.connect(first) is alice.connect(second)


def test_connect_back_to_a_peer_that_has_dialled_us_returns_its_channel(networks: Networks) -> None:
    meeting = meet(networks)
    unpinned = PeerAddress.parse(meeting.alice.addresses[0]).endpoint
    for address in (meeting.alice.addresses[0], unpinned):
        assert meeting.bob.connect(address) is meeting.to_alice
    assert meeting.to_alice.ping() > 0


@tls_and_plain
def test_many_connects_at_once_end_in_one_channel(networks: Networks, insecure: bool) -> None:
    alice, bob = networks(insecure=insecure), networks(insecure=insecure)
    added = record(bob.peer_added)
    dials = [gevent.spawn(alice.connect, bob.addresses[0]) for _ in range(8)]
    gevent.joinall(dials, raise_error=True)
    assert {dial.value for dial in dials} == {alice.channel_to(bob.identifier)}
    known(alice.channel_to(bob.identifier)).ping()
    assert len(added) == len(bob.active_peer_channels) == 1


def test_a_pair_that_dials_each_other_at_the_same_time_keeps_exactly_one_channel(networks: Networks) -> None:
    alice, bob = networks(config=config()), networks(config=config())
    balance = {network: _Balance(network) for network in (alice, bob)}
    for _ in range(50):
        dials = [gevent.spawn(alice.connect, bob.addresses[0]), gevent.spawn(bob.connect, alice.addresses[0])]
        gevent.joinall(dials, raise_error=True)
        wait_until(lambda: _agree(alice, bob), what="agreement about the channel to keep")
        to_bob, to_alice = known(alice.channel_to(bob.identifier)), known(bob.channel_to(alice.identifier))
        assert to_bob.ping() > 0
        assert to_alice.ping() > 0
        assert all(one.open == 1 for one in balance.values())
        (to_bob if to_bob.dialled else to_alice).close()
        wait_until(lambda: not alice.active_peer_channels and not bob.active_peer_channels)
        wait_until(lambda: all(one.open == 0 for one in balance.values()))


def test_a_channel_that_shows_no_life_gives_way_to_a_new_connection(networks: Networks) -> None:
    """The rule of the specification, against a peer that is not made of the same code."""
    smaller, larger = sorted((Identity.generate() for _ in range(2)), key=lambda one: one.identifier)
    node = networks(identity=larger, config=config(duplicate_patience=0.2))
    removed = record(node.peer_removed)
    credentials = attackers.Credentials(smaller.private_key)

    def answer(attacker: attackers.Attacker) -> None:
        assert known(attacker.receive()).HasField("hello")
        attacker.send_hello()
        attacker.receive_all()

    with attackers.serving(answer, credentials=credentials) as address:
        dialled = node.connect(address)
        second = attackers.dial(node.addresses[0], credentials=credentials)
        second.greet()
        assert removed.wait_for(1)[0] == (dialled, Reason.SESSION_LOST)
        assert [channel.dialled for channel in node.active_peer_channels] == [False]
        second.leave()


def test_the_larger_identifier_does_not_replace_the_channel_that_the_smaller_has_dialled(networks: Networks) -> None:
    smaller, larger = sorted((Identity.generate() for _ in range(2)), key=lambda one: one.identifier)
    node = networks(identity=smaller, config=config())
    credentials = attackers.Credentials(larger.private_key)

    def answer(attacker: attackers.Attacker) -> None:
        assert known(attacker.receive()).HasField("hello")
        attacker.send_hello()
        while (packet := attacker.receive()) is not None:  # it lives, and says so
            if packet.HasField("heartbeat"):
                attacker.send(heartbeat={}, reply_to=packet.request_id)

    with attackers.serving(answer, credentials=credentials) as address:
        dialled = node.connect(address)
        second = attackers.dial(node.addresses[0], credentials=credentials)
        second.send_hello()
        assert second.farewell() == "duplicate"
        assert node.active_peer_channels == [dialled]
        second.leave()


def test_a_peer_that_was_lost_can_come_back(networks: Networks) -> None:
    meeting = meet(networks)
    for _ in range(5):
        meeting.alice.disconnect(meeting.bob.identifier)
        wait_until(lambda: not meeting.bob.active_peer_channels)
        assert meeting.alice.connect(meeting.bob.addresses[0]).ping() > 0


@tls_and_plain
def test_a_node_that_reaches_itself_is_told_so(networks: Networks, insecure: bool) -> None:
    node = networks(insecure=insecure)
    address = PeerAddress.parse(node.addresses[0]).endpoint
    with pytest.raises((SelfConnectionError, RefusedByPeerError)) as caught:
        node.connect(address)
    assert "itself" in str(caught.value) or "this node" in str(caught.value)
    assert node.active_peer_channels == []


def test_disconnect_ends_the_channel_and_says_whether_there_was_one(networks: Networks) -> None:
    meeting = meet(networks)
    removed = record(meeting.bob.peer_removed)
    assert meeting.alice.disconnect(meeting.bob.identifier, Reason.REJECTED)
    assert not meeting.alice.disconnect(meeting.bob.identifier)
    assert removed.wait_for(1)[0][1] is Reason.REJECTED


def test_start_twice_is_start_once(networks: Networks) -> None:
    node = networks()
    before = node.addresses
    node.start()
    assert node.addresses == before


def test_a_network_can_start_again(networks: Networks) -> None:
    node, other = networks(), networks()
    node.stop()
    assert not node.running
    with pytest.raises(ConfigurationError, match="not started"):
        node.connect(other.addresses[0])
    node.start()
    assert node.connect(other.addresses[0]).ping() > 0
    node.disconnect(other.identifier)
    assert other.connect(node.addresses[0]).ping() > 0


# Another identity.


@tls_and_plain
def test_the_identity_that_was_set_is_the_one_that_peers_see(networks: Networks, insecure: bool) -> None:
    node, other, identity = networks(insecure=insecure), networks(insecure=insecure), Identity.generate()
    node.stop()
    node.set_identity(identity)
    node.start()
    pinned = None if insecure else identity.identifier
    assert (node.identifier, PeerAddress.parse(node.addresses[0]).identifier) == (identity.identifier, pinned)
    to_node = other.connect(node.addresses[0])
    assert (to_node.peer.identifier, to_node.peer.proven) == (identity.identifier, not insecure)
    to_node.close()
    wait_until(lambda: not node.active_peer_channels)
    node.connect(other.addresses[0])
    back = wait_until(lambda: other.channel_to(identity.identifier))
    assert (back.peer.identifier, back.peer.proven, back.dialled) == (identity.identifier, not insecure, False)


def test_who_is_pinned_to_the_identity_before_is_refused(networks: Networks) -> None:
    node, other = networks(config=config()), networks(config=config(connect_attempts=1))
    before = node.identifier
    node.stop()
    node.set_identity(Identity.generate())
    node.start()
    with pytest.raises(IdentityMismatchError):
        other.connect(f"{before}@{node.addresses[0].rpartition('@')[2]}")


def test_a_node_that_has_another_identity_knows_itself_by_it() -> None:
    node = PeerNetwork(listen=["127.0.0.1:0"], network_name="test")
    node.set_identity(Identity.generate())
    with node, pytest.raises(SelfConnectionError):
        node.connect(node.addresses[0])


def test_a_network_that_runs_keeps_its_identity(networks: Networks) -> None:
    node = networks()
    identity = node.identity
    with pytest.raises(ConfigurationError, match="stop it first"):
        node.set_identity(Identity.generate())
    assert node.identity is identity


@pytest.mark.parametrize("policy", LocalIdentifierSetPolicy)
@pytest.mark.parametrize("origin", IdentifierOrigin)
def test_the_identity_is_set_by_those_whom_the_policy_names(
    policy: LocalIdentifierSetPolicy, origin: IdentifierOrigin
) -> None:
    first, second = Identity.generate(), Identity.generate()
    node = PeerNetwork(first, network_policy=PeerNetworkTrustPolicy(policy))
    if origin in policy.origins and not policy.strict:
        node.set_identity(second, origin)
        assert node.identity is second
    else:
        with pytest.raises(IdentityLockedError):
            node.set_identity(second, origin)
        assert node.identity is first


# Starting.


def test_the_network_is_a_context_manager() -> None:
    with PeerNetwork(listen=["127.0.0.1:0"]) as node:
        assert node.running
        assert node.addresses
    assert not node.running
    assert node.addresses == []


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "localhost:{port}"])
def test_a_port_in_use_is_an_error_and_nothing_is_started(networks: Networks, address: str) -> None:
    taken = PeerAddress.parse(networks().addresses[0]).port
    node = PeerNetwork(listen=["127.0.0.1:0", address.format(port=taken)])
    with pytest.raises(ListenError, match="in use; choose another"):
        node.start()
    assert not node.running
    assert node.addresses == []
    node.stop()


@pytest.mark.parametrize("address", ["192.0.2.1:0", "[2001:db8::1]:0"])
def test_an_address_of_another_machine_cannot_be_listened_on(address: str) -> None:
    node = PeerNetwork(listen=[address])
    with pytest.raises(ListenError, match="cannot listen on"):
        node.start()
    assert not node.running


@pytest.mark.parametrize(
    "address", ["", "nonsense", "127.0.0.1", "127.0.0.1:99999", "peer://short@127.0.0.1:1", "::1:1"]
)
def test_an_address_that_does_not_parse_is_refused_where_it_is_given(networks: Networks, address: str) -> None:
    with pytest.raises(AddressError):
        PeerNetwork(listen=[address])
    with pytest.raises(AddressError, match=r"write host:port|not an identifier"):
        networks().connect(address)


def test_one_address_as_listen_is_a_mistake_that_is_explained() -> None:
    with pytest.raises(ConfigurationError, match="list of addresses"):
        PeerNetwork(listen="127.0.0.1:0")


def test_a_node_needs_no_address_of_its_own_to_dial(networks: Networks) -> None:
    hidden, public = networks(listen=[]), networks()
    assert hidden.addresses == []
    assert hidden.connect(public.addresses[0]).ping() > 0


def test_five_networks_in_one_process_talk_all_with_all(networks: Networks) -> None:
    nodes = [networks() for _ in range(5)]
    heard = {node: handle(node) for node in nodes}
    for index, node in enumerate(nodes):
        for other in nodes[:index]:
            node.connect(other.addresses[0])
    wait_until(lambda: all(len(node.active_peer_channels) == 4 for node in nodes))
    for node in nodes:
        assert all(outcome.queued for outcome in node.broadcast(text(node.identifier)).values())
    for node in nodes:
        heard[node].wait_for(4)
        assert {packet.pure_message.message for packet in heard[node].packets} == {
            other.identifier for other in nodes if other is not node
        }


def test_events_name_their_channel_and_a_listener_can_be_removed(networks: Networks) -> None:
    meeting = meet(networks)
    received = record(meeting.bob.packet_received)
    meeting.to_bob.send(text("one"))
    (channel, packet), *_ = received.wait_for(1)
    assert channel is meeting.to_alice
    assert packet.pure_message.message == "one"
    meeting.bob.packet_received.remove(received)
    meeting.to_bob.send(text("two"))
    meeting.to_bob.ping()
    assert len(received) == 1


def test_the_representations_of_a_network_and_its_parts_say_what_there_is(networks: Networks) -> None:
    meeting = meet(networks, network_name="demo")
    alice, bob = meeting.alice, meeting.bob
    assert repr(alice) == f"<PeerNetwork 'demo' {alice.identifier[:12]} running, channels: 1>"
    assert repr(alice.known_peers) == "<KnownPeers: 1, of which 0 cannot be dialled>"
    assert repr(bob.known_peers) == "<KnownPeers: 1, of which 1 cannot be dialled>"
    alice.bans.ban("192.0.2.7")
    assert repr(alice.bans) == "<Bans: 1, of which 1 by the operator>"
    assert repr(alice.peer_added) == "<Event peer_added(channel), listeners: 0>"
    assert repr(Event("something")) == "<Event something(...), listeners: 0>"
    assert repr(alice.inbound_connecting_peers) == "<InboundConnectingPeersQueue: []>"
    assert repr(alice.routines) == "<NetworkRoutines: liveness>"
    assert repr(alice.services) == "<Services: running>"
    alice.stop()
    assert repr(alice) == f"<PeerNetwork 'demo' {alice.identifier[:12]} not running>"


def test_every_public_class_has_a_representation_of_its_own() -> None:
    classes = [one for name in peernet.__all__ if inspect.isclass(one := getattr(peernet, name))]
    bare = [one for one in classes if one.__repr__ is object.__repr__]
    assert bare == [IPeer]  # a Protocol


def test_a_network_is_given_callbacks_with_a_decorator_of_its_own(networks: Networks) -> None:
    meeting, heard = meet(networks), Recorder()
    meeting.bob.on("pure_message")(heard)
    assert meeting.bob.handlers["pure_message"] is heard
    meeting.to_bob.send_text("hello")
    ((channel, packet),) = heard.wait_for(1)
    assert (channel.identifier, packet.pure_message.message) == (meeting.alice.identifier, "hello")
    meeting.bob.on("data_transmission", threadpool=True)(heard)
    assert isinstance(meeting.bob.handlers["data_transmission"], InThreadpool)
    with pytest.raises(ConfigurationError, match="is not a kind of packet"):
        meeting.bob.on("pure_mesage")(heard)  # type: ignore[arg-type]


EVENTS = {
    name: tuple(parameters.split(", "))
    for name, parameters in re.findall(
        r"^ +(\w+): event, ``listener\((.+?)\)``", NetworkView.__doc__ or "", re.MULTILINE
    )
}


def test_the_network_documents_every_event_that_it_has_and_what_listeners_are_called_with() -> None:
    network = PeerNetwork()
    events = {name: one for name, one in vars(network).items() if isinstance(one, Event)}
    assert {name: one.parameters for name, one in events.items()} == EVENTS
    assert {name: one.name for name, one in events.items()} == {name: name for name in EVENTS}


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_refuses_listeners_that_take_another_number_of_arguments(name: str) -> None:
    event, number = getattr(PeerNetwork(), name), len(EVENTS[name])
    names = ["first", "second", "third", "fourth"]
    for count in range(len(names) + 1):
        listener = eval(f"lambda {', '.join(names[:count])}: None")
        if count == number:
            assert event.add(listener) is listener
        else:
            with pytest.raises(ConfigurationError, match=f"a listener of {name} is called with {number} positional"):
                event.add(listener)


def test_a_listener_that_raises_hurts_nobody(networks: Networks, caplog: pytest.LogCaptureFixture) -> None:
    alice, bob = networks(), networks()

    def fail(*args: object) -> None:
        raise RuntimeError("a broken listener")

    events = ("peer_added", "packet_received", "trust_changed", "peer_removed")
    recorders = {}
    for name in events:
        getattr(bob, name).add(fail)
        recorders[name] = record(getattr(bob, name))
    bob.handlers["pure_message"] = echo
    heard = alice.handlers["pure_message"] = Recorder()
    channel = alice.connect(bob.addresses[0])
    channel.send(text("still there?"))
    heard.wait_for(1)
    bob.active_peer_channels[0].trust()
    channel.close()
    for name in events:
        recorders[name].wait_for(1)
        assert f"a listener of {name} failed" in caplog.text


def test_a_guard_that_breaks_down_lets_nobody_in(networks: Networks) -> None:
    alice, bob = networks(), networks()

    @bob.incoming_peer_connection_attempt.add
    def fail(attempt: object) -> None:
        raise RuntimeError("a broken guard")

    channel = alice.connect(bob.addresses[0])
    assert channel.wait_closed(5)
    assert channel.reason is Reason.INTERNAL_ERROR
    assert bob.active_peer_channels == []


def test_a_dialler_that_stops_meanwhile_gets_no_channel(networks: Networks) -> None:
    node = networks(config=config(connect_attempts=1))
    asked, go_on = Flag(), Flag()

    def answer_late(attacker: attackers.Attacker) -> None:
        assert known(attacker.receive()).HasField("hello")
        asked.set()
        go_on.wait()
        attacker.send_hello()
        attacker.receive_all()

    with attackers.serving(answer_late) as address:
        dialling = gevent.spawn(_error_of_connect, node, address)
        assert asked.wait(5)
        node.stop()
        go_on.set()
        assert isinstance(dialling.get(timeout=5), ConnectError)
        assert node.active_peer_channels == []


class _Balance:
    """How many channels a network has added and not removed."""

    def __init__(self, network: PeerNetwork) -> None:
        self.open = 0
        network.peer_added.add(self._added)
        network.peer_removed.add(self._removed)

    def _added(self, channel: object) -> None:
        self.open += 1

    def _removed(self, channel: object, reason: Reason) -> None:
        self.open -= 1


def _agree(alice: PeerNetwork, bob: PeerNetwork) -> bool:
    """Whether both sides have one channel, and it is the same connection."""
    to_bob, to_alice = alice.channel_to(bob.identifier), bob.channel_to(alice.identifier)
    return to_bob is not None and to_alice is not None and to_bob.dialled != to_alice.dialled


def _error_of_connect(node: PeerNetwork, address: str) -> ConnectError | None:
    try:
        node.connect(address)
    except ConnectError as error:
        return error
    return None


@pytest.mark.parametrize("name", ["", "x" * 256, "\udcff", 5, None])
def test_a_network_name_that_no_hello_can_carry_is_refused(name: object) -> None:
    with pytest.raises(ConfigurationError, match="network_name must be a text of 1 to 255 bytes"):
        PeerNetwork(network_name=name)  # type: ignore[arg-type]
