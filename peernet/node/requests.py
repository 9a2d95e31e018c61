"""What a running node does for the commands that ask it over the control socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from peernet.errors import ConfigurationError, HomeError, UnprovenPeerError
from peernet.network import PeerNetwork
from peernet.node.ban_lists import whom_to_ban, whom_to_unban
from peernet.node.control.arguments import check_arguments
from peernet.node.control.server import Streaming
from peernet.node.events import EventLog, make_event
from peernet.node.messaging import directory_of, ping, reach, say
from peernet.node.peer_list import PeerList
from peernet.node.stored import describe_outbox, drop_from_outbox, retry_in_outbox, say_durably
from peernet.node.trust_lists import (
    LISTS,
    changed,
    described_peer,
    entries,
    entry_of,
    explanation,
    unprovable,
)
from peernet.runtime.logs import get_logger
from peernet.runtime.text import duration, short
from peernet.state.savers import FollowingFile, KeptFile
from peernet.trust.bans import Ban
from peernet.trust.policy import IncomingPeerTrustPolicy

logger = get_logger(__name__)

Arguments = dict[str, Any]


class Requests:
    """One method per command; the table at the end names them.

    Args:
        network: the node's.
        events: what happens in it.
        status: what `status` shows.
        lists: where the lists of the policy are kept.
        bans: where the bans are kept.
        ask_to_stop: has the node stop.
        wait_until_ended: returns when all goodbyes are said.
    """

    def __init__(
        self,
        network: PeerNetwork,
        events: EventLog,
        status: Callable[[], Arguments],
        *,
        lists: KeptFile[IncomingPeerTrustPolicy],
        bans: FollowingFile[list[Ban]],
        ask_to_stop: Callable[[], None],
        wait_until_ended: Callable[[], object],
    ) -> None:
        self._network = network
        self._peers = PeerList(network)
        self._events = events
        self._status = status
        self._lists = lists
        self._bans = bans
        self._ask_to_stop = ask_to_stop
        self._wait_until_ended = wait_until_ended

    def answer(self, command: str, arguments: Arguments) -> Any:
        """Do what is asked, and return plain values or a :class:`Streaming`.

        Raises:
            PeerNetError: it cannot be done.
        """
        logger.debug("asked for %s", command)
        method = COMMANDS.get(command)
        if method is None:
            raise ConfigurationError(
                f"the running node does not know {command!r}; it may be older than this command: restart it"
            )
        check_arguments(method, arguments)
        return method(self, **arguments)

    def status(self) -> Arguments:
        return self._status()

    def stop(self) -> Streaming:
        self._ask_to_stop()
        return Streaming({"stopping": True, "pid": os.getpid()}, self._wait_for_end())

    def listen(self) -> Streaming:
        return Streaming({"listening": True}, self._events.listen())

    def peers(self) -> list[Arguments]:
        return self._peers.rows()

    def connect(self, peer: str, timeout: float) -> Arguments:
        channel = reach(self._network, peer, timeout)
        return {"connected": True, **self._peers.channel_row(channel)}

    def disconnect(self, peer: str) -> Arguments:
        identifier = directory_of(self._network).identifier(peer)
        if not self._network.disconnect(identifier):
            raise ConfigurationError(f"{short(identifier)} is not connected; `peernet-node peers` lists who is")
        return {"disconnected": True, "peer": identifier}

    def send(self, peer: str, message: Arguments, timeout: float, confirm: bool) -> Arguments:
        return say(self._network, peer, message, timeout, confirm)

    def send_durable(self, peer: str, message: Arguments, timeout: float, confirm: bool) -> Arguments:
        return say_durably(self._network, peer, message, timeout, confirm)

    def outbox_list(self, packets: bool) -> list[Arguments]:
        return describe_outbox(self._network, packets)

    def outbox_drop(self, peer: str | None) -> Arguments:
        return drop_from_outbox(self._network, peer)

    def outbox_retry(self, peer: str | None) -> Arguments:
        return retry_in_outbox(self._network, peer)

    def ping(self, peer: str, timeout: float, count: int) -> list[Arguments]:
        return ping(self._network, peer, timeout, count)

    def pending(self) -> list[Arguments]:
        return self._peers.pending()

    def accept(self, peer: str) -> Arguments:
        identifier = directory_of(self._network).identifier(peer)
        self._network.inbound_connecting_peers.accept(identifier)
        return {"accepted": True, "peer": identifier}

    def reject(self, peer: str, message: str) -> Arguments:
        identifier = directory_of(self._network).identifier(peer)
        self._network.inbound_connecting_peers.reject(identifier, message)
        return {"rejected": True, "peer": identifier}

    def explain(self, peer: str) -> Arguments:
        directory = directory_of(self._network)
        proven = not self._network.insecure
        described = described_peer(peer, directory, self._network.known_peers.get, proven=proven)
        channel = self._network.channel_to(described.identifier)
        if channel is not None:
            described = channel.peer
        elif described.identifier in self._network.inbound_connecting_peers:
            described = self._network.inbound_connecting_peers[described.identifier].peer
        result = explanation(self._network.policy, described, channel)
        left = self._network.bans.time_left(described)
        if left:
            why = f"It is banned for another {duration(left)}; `peernet-node unban` lifts that."
            result["decisions"][0] = {"about": "admitted", "allowed": False, "rule": "banned", "why": why}
        return result

    def bans(self) -> list[Arguments]:
        return [ban.to_dict() for ban in self._network.bans]

    def ban(self, who: str, seconds: float | None) -> Arguments:
        ban = self._network.bans.ban(whom_to_ban(who, directory_of(self._network)), seconds)
        _keep(self._bans.save_now)
        return ban.to_dict()

    def unban(self, who: str | None) -> Arguments:
        unbanned = whom_to_unban(who, self._network.bans, directory_of(self._network))
        for one in unbanned:
            self._network.bans.unban(one)
        _keep(self._bans.save_now)
        return {"unbanned": unbanned}

    def entries(self, which: str) -> list[Arguments]:
        return entries(self._network.policy, which)

    def trust(self, entry: str) -> Arguments:
        return self._change_list("trust", entry)

    def untrust(self, entry: str) -> Arguments:
        return self._change_list("untrust", entry)

    def allow(self, entry: str) -> Arguments:
        return self._change_list("allow", entry)

    def disallow(self, entry: str) -> Arguments:
        return self._change_list("disallow", entry)

    def block(self, entry: str) -> Arguments:
        return self._change_list("block", entry)

    def unblock(self, entry: str) -> Arguments:
        return self._change_list("unblock", entry)

    def _change_list(self, command: str, entry: str) -> Arguments:
        entry = entry_of(command, entry, directory_of(self._network))
        before = self._network.policy
        after = changed(before, command, entry)
        if command == "trust":
            self._check_proven(entry)
            self._network.trust(entry)
        elif command == "untrust":
            self._network.untrust(entry)
        else:
            self._network.policy = after
        if after != before:
            which, added = LISTS[command]
            self._events.tell(make_event("list_changed", list=which, entry=entry, added=added))
        _keep(self._lists.save)
        return {"done": command, "entry": entry, "changed": after != before}

    def _check_proven(self, identifier: str) -> None:
        channel = self._network.channel_to(identifier)
        if channel is None and self._network.insecure:
            raise unprovable()
        if channel is not None and not channel.peer.proven:
            raise UnprovenPeerError(
                f"{short(identifier)} only claims its identifier, because TLS is off; run both nodes without --insecure"
            )

    def _wait_for_end(self) -> Iterator[bytes]:
        """Nothing, at the very end: whoever asked to stop sees the connection close when it is done."""
        self._wait_until_ended()
        yield from ()


def _keep(save: Callable[[], None]) -> None:
    """
    Raises:
        HomeError: a change is in force, and could not be saved.
    """
    try:
        save()
    except HomeError as error:
        raise HomeError(f"{error}. The change is in force until the node stops, but it is not kept") from error


COMMANDS: dict[str, Callable[..., Any]] = {
    "status": Requests.status,
    "stop": Requests.stop,
    "listen": Requests.listen,
    "peers": Requests.peers,
    "connect": Requests.connect,
    "disconnect": Requests.disconnect,
    "send": Requests.send,
    "send_durable": Requests.send_durable,
    "outbox_list": Requests.outbox_list,
    "outbox_drop": Requests.outbox_drop,
    "outbox_retry": Requests.outbox_retry,
    "ping": Requests.ping,
    "pending": Requests.pending,
    "accept": Requests.accept,
    "reject": Requests.reject,
    "explain": Requests.explain,
    "bans": Requests.bans,
    "ban": Requests.ban,
    "unban": Requests.unban,
    "entries": Requests.entries,
    "trust": Requests.trust,
    "untrust": Requests.untrust,
    "allow": Requests.allow,
    "disallow": Requests.disallow,
    "block": Requests.block,
    "unblock": Requests.unblock,
}
