"""PacketHandleProtocol: which callback handles which kind of packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from peernet.errors import ConfigurationError
from peernet.peers.address import listen_hints
from peernet.runtime.callables import check_callable
from peernet.v1.packet_pb2 import Packet
from peernet.wire.packets import KINDS

Callback = Callable[[Any, Packet], object]
AnyCallback = TypeVar("AnyCallback", bound=Callback)


class InThreadpool:
    """A callback that blocks, and so runs in a native thread while its channel waits and the others go on.

    Attributes:
        callback: runs in the thread, where the channel must not be used except by ``network.call_soon``.
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def __call__(self, channel: Any, packet: Packet) -> object:
        """Call it here."""
        return self.callback(channel, packet)

    def __repr__(self) -> str:
        return f"InThreadpool({self.callback!r})"


class PacketHandleProtocol(dict[str, Callback]):
    """A dict of packet kind to ``callback(channel, packet)``, with the default callbacks installed.

    The callback runs in the channel's own greenlet, one packet after the other: while
    it runs, nothing more is read from that peer. ``packet`` is the whole ``Packet``.
    A callback that blocks is set as :class:`InThreadpool`, or with ``on(kind, threadpool=True)``.

    A packet is *handled* when its callback has returned: only then its sender hears that it is delivered. A callback
    that raises has not handled it, and the sender is told ``handler_failed``. Kinds without a callback are counted as
    ``unhandled``, which the sender is told too; set a kind to a callback to handle it, delete it to stop.
    ``identifier`` and ``disconnect`` have default callbacks. A listener of ``packet_received`` handles nothing.

    Args:
        defaults: install the default callbacks. Pass ``False`` for the overrides of one channel.
    """

    def __init__(self, *, defaults: bool = True) -> None:
        super().__init__(DEFAULTS if defaults else {})

    def __setitem__(self, kind: str, callback: Callback) -> None:
        """Handle ``kind`` with ``callback``.

        Raises:
            ConfigurationError: there is no such kind, or the callback cannot be called.
        """
        if kind not in KINDS:
            raise ConfigurationError(f"{kind!r} is not a kind of packet; there are {', '.join(KINDS)}")
        called = callback.callback if isinstance(callback, InThreadpool) else callback
        check_callable(called, ["channel", "packet"], f"the callback for {kind}")
        super().__setitem__(kind, callback)

    def setdefault(self, kind: str, callback: Callback) -> Callback:
        """As of any dict, with the checks of setting one kind."""
        if kind not in self:
            self[kind] = callback
        return self[kind]

    def __ior__(self, others: Any) -> PacketHandleProtocol:  # type: ignore[override,misc]
        self.update(others)
        return self

    def update(self, *args: Any, **callbacks: Callback) -> None:
        """As of any dict, with the checks of setting one kind."""
        for kind, callback in dict(*args, **callbacks).items():
            self[kind] = callback

    def on(self, kind: str, *, threadpool: bool = False) -> Callable[[AnyCallback], AnyCallback]:
        """Decorator: ``@handlers.on("pure_message")``.

        Args:
            kind: what to handle.
            threadpool: run the callback in a native thread, because it blocks; see :class:`InThreadpool`.
        """

        def install(callback: AnyCallback) -> AnyCallback:
            self[kind] = callback  # which checks it
            if threadpool:
                self[kind] = InThreadpool(callback)
            return callback

        return install


class HasPeer(Protocol):
    """What the default callbacks touch of a channel."""

    peer: Any


def ignore(channel: HasPeer, packet: Packet) -> None:
    """For kinds that need no answer: the ``packet_received`` event has told of it already."""


def remember_addresses(channel: HasPeer, packet: Packet) -> None:
    """Default for ``identifier``: keep where the peer says it listens, as a hint; dial nothing."""
    channel.peer.listen_addresses = listen_hints(packet.identifier.listen_addresses)


DEFAULTS: dict[str, Callback] = {
    "identifier": remember_addresses,
    "disconnect": ignore,
}


def find_callback(kind: str, override: PacketHandleProtocol | None, handlers: PacketHandleProtocol) -> Callback | None:
    """The callback for a kind: the channel's own if it has one, else the network's, else none."""
    if override is not None and kind in override:
        return override[kind]
    return handlers.get(kind)
