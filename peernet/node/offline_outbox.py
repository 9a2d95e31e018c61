"""What `send --durable` and `outbox` do when no node runs: they use the file themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peernet.durable.packet import new_packet
from peernet.durable.quota import store_checked
from peernet.durable.store import DurableStore, describe
from peernet.node import bodies
from peernet.node.directory import Directory
from peernet.node.once import momentary_network
from peernet.node.settings import Settings
from peernet.node.stored import Message, recipient_of, say_durably, stored_row
from peernet.node.trust_lists import directory_of_home
from peernet.runtime import clock
from peernet.runtime.deadline import Deadline
from peernet.state.home import Home
from peernet.wire.packets import encode_body


def say_durably_once(
    home: Home, settings: Settings, peer: str, message: Message, timeout: float, confirm: bool, deadline: Deadline
) -> dict[str, Any]:
    """Store a message; the next node on this home delivers it, or one for the moment if ``confirm``.

    The caller has locked the home. See :func:`~peernet.node.stored.say_durably`.
    """
    if not confirm:
        return _store(home, settings, peer, message)
    with momentary_network(home, settings, deadline, delivers_stored=True) as network:
        return say_durably(network, peer, message, timeout, confirm, deadline)


def describe_outbox_of_home(home: Home, packets: bool) -> list[dict[str, Any]]:
    """What is stored, a row for each peer or for each of the packets. The caller has locked the home."""
    if not home.outbox_file.exists():
        return []
    with _opened(home) as store:
        return describe(store, each=packets)


def drop_from_outbox_of_home(home: Home, peer: str | None) -> dict[str, Any]:
    """Remove what is stored for a peer, or everything. The caller has locked the home."""
    with _opened(home) as store:
        peers = list(store.backlogs())
        if peer is not None:
            peers = [_directory(home, store).identifier(peer)]
        numbers = [number for each in peers for number in store.numbers(each)]
        store.remove(numbers)
    return {"dropped": len(numbers), "peers": peers}


def retry_in_outbox_of_home(home: Home, peer: str | None) -> dict[str, Any]:
    """Have the next node send again what is set aside for a peer, or everything. The caller has locked the home."""
    with _opened(home) as store:
        identifier = None if peer is None else _directory(home, store).identifier(peer)
        found = store.retry(identifier, clock.wall())
    return {"retried": sum(map(len, found.values())), "peer": identifier}


def _store(home: Home, settings: Settings, peer: str, message: Message) -> dict[str, Any]:
    with _opened(home) as store:
        recipient = recipient_of(peer, _directory(home, store))
        packet = new_packet(recipient, encode_body(bodies.from_json(message)), settings.limits)
        store_checked(store, settings.limits, packet)
    return stored_row(packet.peer, packet.packet_id, message, confirmed=False)


@contextmanager
def _opened(home: Home) -> Iterator[DurableStore]:
    """The store of a home on which no node runs, in one transaction."""
    store = DurableStore(home.outbox_file)
    try:
        with store.transaction():
            yield store
    finally:
        store.close()


def _directory(home: Home, store: DurableStore) -> Directory:
    return directory_of_home(home).extended(store.backlogs())
