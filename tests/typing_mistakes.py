"""Mistakes that type checkers must find, and programs in which they must find none.

``make types`` gives this module to mypy and to pyright, and both are told to complain about a comment that silences
nothing: so each mistake here is one that both find. Nothing here runs.
"""

from __future__ import annotations

from peernet import (
    Decision,
    Event,
    IncomingPeerConnectionAttempt,
    InThreadpool,
    PacketHandleProtocol,
    PeerChannel,
    PeerNetwork,
    Reason,
)
from peernet.v1.packet_pb2 import Packet, PureMessagePacket


def right(channel: PeerChannel, packet: Packet) -> None: ...


def takes_anything(channel: object, packet: object, more: int = 5) -> str:
    return "ignored"


def wrong_channel(channel: int, packet: Packet) -> None: ...


def wrong_packet(channel: PeerChannel, packet: str) -> None: ...


def too_few(channel: PeerChannel) -> None: ...


def too_many(channel: PeerChannel, packet: Packet, more: int) -> None: ...


def callbacks(network: PeerNetwork, channel: PeerChannel) -> None:
    network.handlers["pure_message"] = right
    network.handlers["pure_message"] = takes_anything
    network.handlers["pure_message"] = InThreadpool(right)
    network.handlers["pure_message"] = lambda channel, packet: print(channel.peer, packet.pure_message.message)
    network.handlers.on("data_transmission", threadpool=True)(right)
    network.on("data_transmission", threadpool=True)(right)
    network.handlers.update({"identifier": right}, disconnect=right)
    channel.handlers["pure_message"] = right
    channel.handlers |= {"identifier": right}
    network.handlers |= {"identifier": right}
    network.handlers = PacketHandleProtocol({"pure_message": right}) | {"disconnect": right}
    PeerNetwork(home="folder").on("pure_message")(right)
    PeerNetwork(handlers=PacketHandleProtocol({"pure_message": right}))

    network.handlers["pure_mesage"] = right  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    network.handlers["pure_message"] = wrong_channel  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    network.handlers["pure_message"] = wrong_packet  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    network.handlers["pure_message"] = too_few  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    network.handlers["pure_message"] = too_many  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    network.handlers["pure_message"] = InThreadpool(too_few)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.handlers.on("pure_mesage")(right)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.handlers.on("pure_message")(wrong_packet)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.on("pure_mesage")(right)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.on("pure_message")(too_few)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.handlers.setdefault("identifier", too_few)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.handlers.update(identifier=too_few)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.handlers |= {"identifier": too_few}  # type: ignore[dict-item]  # pyright: ignore[reportAttributeAccessIssue]
    network.handlers = {"identifier": right}  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    channel.handlers["pure_message"] = wrong_channel  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]


def callbacks_of_no_network_yet() -> PacketHandleProtocol:
    handlers = PacketHandleProtocol()

    @handlers.on("pure_message")
    def show(channel: PeerChannel, packet: Packet) -> str:
        return packet.pure_message.message

    handlers["identifier"] = wrong_packet  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    return handlers


def of_channel(channel: PeerChannel) -> None: ...


def of_end(channel: PeerChannel, reason: Reason) -> None: ...


def of_refusal(channel: PeerChannel, kind: str, decision: Decision) -> None: ...


def of_attempt(attempt: IncomingPeerConnectionAttempt) -> None: ...


def listeners(network: PeerNetwork) -> None:
    network.peer_added.add(of_channel)
    network.peer_removed.add(of_end)
    network.packet_received.add(right)
    network.packet_refused.add(of_refusal)
    network.incoming_peer_connection_attempt.add(IncomingPeerConnectionAttempt.accept)
    network.peer_banned.add(lambda ban: print(ban.who))

    @network.channel_resumed.add
    def resumed(channel: PeerChannel) -> None: ...

    network.channel_resumed.remove(resumed)

    network.peer_added.add(of_end)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.peer_removed.add(of_channel)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.peer_pending.add(of_channel)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.packet_received.add(wrong_packet)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.trust_changed.add(lambda: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    network.peer_banned.add(of_attempt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def an_event_of_the_program() -> Event:
    event: Event[[int, str]] = Event("numbered", ["number", "text"])
    event.add(lambda number, text: print(number + 1, text.upper()))
    event.fire(5, "five")
    event.fire("five", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    event.fire(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    return event


def sending(network: PeerNetwork, channel: PeerChannel) -> None:
    durable: str = network.send("alice", PureMessagePacket(message="hello"), durable=True).packet_id.hex()
    print(durable, channel.send(PureMessagePacket(message="hello")).wait(timeout=5))
    print(channel.send_text("hello").acknowledged, channel.send_data(b"hello", name="a file").reason)
    channel.reply(Packet(request_id=1), "hello").wait()
    channel.send_text(b"hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    channel.send_data("hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    channel.reply("hello")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    channel.send("hello")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    network.send("alice", PureMessagePacket(), durable="yes")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
