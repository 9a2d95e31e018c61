"""Two networks meet over real sockets and exchange every kind of packet."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from google.protobuf.message import Message

from peernet import (
    Identity,
    IncomingPeerMode,
    IncomingPeerTrustPolicy,
    NetworkConfig,
    PacketHandleProtocol,
    PeerNetwork,
)
from peernet.errors import LocalProtocolError, PacketTooBigError
from peernet.v1.packet_pb2 import (
    DATA_PAYLOAD_FORMAT_MISC_DATA,
    CollectionSharePacket,
    DataTransmissionPacket,
    DisconnectPacket,
    HeartbeatPacket,
    HelloPacket,
    IdentifierPacket,
    Packet,
    PeerEntry,
    PureMessagePacket,
)
from tests.integration.meetings import Networks, config, echo, meet, text
from tests.support import Recorder, handle, needs_ipv6, wait_until

MIB = 1024 * 1024
OPEN_TO_ALL = IncomingPeerTrustPolicy(allow_enhanced_packet_exchange=True)

every_transport = pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="tls-ipv4"),
        pytest.param({"insecure": True}, id="plain-ipv4"),
        pytest.param({"listen": ["[::1]:0"]}, id="tls-ipv6", marks=needs_ipv6),
        pytest.param({"listen": ["[::1]:0"], "insecure": True}, id="plain-ipv6", marks=needs_ipv6),
    ],
)
tls_and_plain = pytest.mark.parametrize("insecure", [False, True], ids=["tls", "plain"])


def test_the_example_of_the_contract_works_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with PeerNetwork(listen=["127.0.0.1:0"], network_name="demo") as other:
        heard = other.handlers["pure_message"] = Recorder()
        net = PeerNetwork(
            identity=Identity.generate(),
            listen=["127.0.0.1:0"],
            network_name="demo",
            policy=IncomingPeerTrustPolicy(),
            config=NetworkConfig(),
        )
        net.handlers["pure_message"] = lambda channel, packet: print(
            channel.peer.identifier, packet.pure_message.message
        )
        net.start()
        assert net.addresses[0].startswith(f"peer://{net.identifier}@127.0.0.1:")
        channel = net.connect(other.addresses[0], timeout=5)
        other.active_peer_channels[0].send(PureMessagePacket(message="welcome"))
        said = wait_until(lambda: capsys.readouterr().out)
        channel.send(PureMessagePacket(message="hello"))
        channel.close()
        net.stop(timeout=5)
        assert heard.wait_for(1)[0][1].pure_message.message == "hello"
        assert said == f"{other.identifier} welcome\n"


def test_the_names_of_the_contract_can_be_imported() -> None:
    assert IncomingPeerMode.QUEUE_AND_EVENT_BASED in IncomingPeerMode
    assert len(PacketHandleProtocol()) > 0
    assert Packet(data_transmission=DataTransmissionPacket()).HasField("data_transmission")


@every_transport
def test_every_kind_of_packet_goes_both_ways(networks: Networks, options: dict[str, Any]) -> None:
    meeting = meet(networks, policy=OPEN_TO_ALL, **options)
    bodies = {
        "pure_message": text("Grüße, 🦊"),
        "identifier": IdentifierPacket(message="me", listen_addresses=["192.0.2.1:1"]),
        "collection_share": CollectionSharePacket(peers=[PeerEntry(identifier="x", addresses=["192.0.2.2:2"])]),
        "data_transmission": DataTransmissionPacket(
            format=DATA_PAYLOAD_FORMAT_MISC_DATA, data=bytes(range(256)), name="all bytes"
        ),
    }
    for network, channel in ((meeting.alice, meeting.to_alice), (meeting.bob, meeting.to_bob)):
        heard = {kind: handle(network, kind) for kind in bodies}
        for body in bodies.values():
            channel.send(body)
        for kind, body in bodies.items():
            packet = heard[kind].wait_for(1)[0][1]
            assert packet.WhichOneof("body") == kind
            assert getattr(packet, kind) == body
    assert meeting.to_bob.ping() > 0
    assert meeting.to_alice.ping() > 0


@every_transport
def test_both_sides_know_who_and_where_the_other_is(networks: Networks, options: dict[str, Any]) -> None:
    meeting = meet(networks, agent="tester/1.0", **options)
    proven = not options.get("insecure", False)
    assert meeting.to_bob.peer.identifier == meeting.bob.identifier
    assert meeting.to_alice.peer.identifier == meeting.alice.identifier
    assert meeting.to_bob.peer.proven is meeting.to_alice.peer.proven is proven
    assert meeting.to_bob.peer.agent == "tester/1.0"
    assert meeting.bob.addresses[0].endswith(meeting.to_bob.peer.endpoint)
    assert meeting.to_alice.peer.listen_addresses == (
        meeting.alice.addresses[0].rpartition("@")[2].removeprefix("peer://"),
    )
    assert (meeting.to_bob.dialled, meeting.to_alice.dialled) == (True, False)


@tls_and_plain
def test_ten_thousand_small_messages_arrive_in_order(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure, config=config(untrusted_frame_rate=0))  # as fast as they can
    heard = meeting.bob.handlers["pure_message"] = Recorder()
    for number in range(10_000):
        meeting.to_bob.send(text(str(number)))
    heard.wait_for(10_000, 15)
    assert [int(packet.pure_message.message) for packet in heard.packets] == list(range(10_000))
    assert meeting.to_alice.received == 10_000


@tls_and_plain
def test_packets_of_all_sizes_keep_their_order_and_content(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure, policy=OPEN_TO_ALL)
    heard = meeting.bob.handlers["data_transmission"] = Recorder()
    sizes = [0, 1, 127, 128, 16_383, 16_384, 32_768, 32_769, 65_536, 300_000, 5, MIB - 100, 0, 70_000, 3] * 2
    for number, size in enumerate(sizes):
        meeting.to_bob.send(DataTransmissionPacket(data=bytes([number]) * size, name=str(number)))
    heard.wait_for(len(sizes))
    assert [packet.data_transmission.data for packet in heard.packets] == [
        bytes([number]) * size for number, size in enumerate(sizes)
    ]
    assert [packet.data_transmission.name for packet in heard.packets] == [str(n) for n in range(len(sizes))]


@pytest.mark.parametrize("limit", [MIB, 100_000, 1_500_000])
def test_the_largest_packet_that_the_peer_has_announced_passes_and_one_byte_more_does_not(
    networks: Networks, limit: int
) -> None:
    meeting = meet(networks, bob={"config": config(max_frame=limit)}, policy=OPEN_TO_ALL)
    heard = meeting.bob.handlers["data_transmission"] = Recorder()
    largest = _packet_of(limit)
    with pytest.raises(PacketTooBigError, match=f"at most {limit}; send it in parts"):
        meeting.to_bob.send(_packet_of(limit + 1))
    meeting.to_bob.send(largest)
    assert heard.wait_for(1)[0][1].data_transmission == largest
    assert meeting.to_bob.reason is None


def test_a_kind_that_is_not_bulk_is_limited_to_a_control_packet(networks: Networks) -> None:
    meeting = meet(networks, policy=OPEN_TO_ALL)
    with pytest.raises(PacketTooBigError, match="at most 65536"):
        meeting.to_bob.send(IdentifierPacket(message="x" * 65_536))
    meeting.to_bob.send(IdentifierPacket(message="x" * 65_000))
    wait_until(lambda: meeting.to_alice.received == 1)


@pytest.mark.parametrize("body", [HelloPacket(), HeartbeatPacket(), DisconnectPacket(), Packet(), PeerEntry()])
def test_what_channels_send_themselves_and_what_is_no_body_cannot_be_sent(networks: Networks, body: Message) -> None:
    meeting = meet(networks)
    with pytest.raises(LocalProtocolError):
        meeting.to_bob.send(body)
    meeting.to_bob.ping()


@tls_and_plain
def test_a_callback_can_answer(networks: Networks, insecure: bool) -> None:
    meeting = meet(networks, insecure=insecure)
    heard = meeting.alice.handlers["pure_message"] = Recorder()
    meeting.bob.handlers["pure_message"] = echo
    for number in range(1_000):
        meeting.to_bob.send(text(str(number)))
    heard.wait_for(1_000)
    assert [packet.pure_message.message for packet in heard.packets] == [str(number) for number in range(1_000)]


@tls_and_plain
def test_two_peers_that_echo_the_largest_packets_to_each_other_do_not_stand_still(
    networks: Networks, insecure: bool
) -> None:
    unpaced = config(untrusted_frame_rate=0)
    meeting = meet(networks, insecure=insecure, policy=OPEN_TO_ALL, config=unpaced)
    for network in (meeting.alice, meeting.bob):
        network.handlers["data_transmission"] = echo
    for _ in range(2):
        meeting.to_bob.try_send(_packet_of(MIB))
        meeting.to_alice.try_send(_packet_of(MIB))
    wait_until(lambda: meeting.to_bob.received >= 20 and meeting.to_alice.received >= 20, 20, "20 echoes each way")
    assert not meeting.to_bob.counters["callback_failed"]
    assert not meeting.to_alice.counters["callback_failed"]


def test_twenty_senders_at_once_lose_nothing_and_keep_their_own_order(networks: Networks) -> None:
    meeting = meet(networks)
    heard = meeting.bob.handlers["pure_message"] = Recorder()

    def send_all(sender: int) -> None:
        for number in range(300):
            meeting.to_bob.send(text(f"{sender} {number}"))
            if number % 7 == sender % 7:
                gevent.sleep(0)

    gevent.joinall([gevent.spawn(send_all, sender) for sender in range(20)], raise_error=True)
    heard.wait_for(20 * 300)
    numbers: dict[int, list[int]] = {sender: [] for sender in range(20)}
    for packet in heard.packets:
        sender, number = packet.pure_message.message.split()
        numbers[int(sender)].append(int(number))
    assert numbers == {sender: list(range(300)) for sender in range(20)}


def _packet_of(size: int) -> DataTransmissionPacket:
    """A body whose packet has exactly ``size`` bytes."""
    body = DataTransmissionPacket(data=bytes(size))
    excess = Packet(data_transmission=body).ByteSize() - size
    body.data = bytes(size - excess)
    assert Packet(data_transmission=body).ByteSize() == size
    return body
