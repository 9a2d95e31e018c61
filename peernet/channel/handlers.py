"""PacketHandleProtocol: which callback handles which kind of packet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar
from weakref import ref

from peernet.errors import ConfigurationError
from peernet.peers.address import listen_hints
from peernet.runtime.callables import check_callable
from peernet.runtime.threads import HomeThread
from peernet.v1.packet_pb2 import Packet
from peernet.wire.packets import KINDS

PacketKind = Literal[
    "disconnect",
    "pure_message",
    "identifier",
    "collection_share",
    "data_transmission",
]
CALLED_BACK = tuple(kind.name for kind in KINDS.values() if not kind.control or kind.name == "disconnect")

# What callbacks take for a channel: a PeerChannel, which stands above this module. Only type checkers need the
# default, which lets programs write PacketHandleProtocol without it, and which `typing` has from Python 3.13 on.
if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    ChannelType = TypeVarWithDefault("ChannelType", default=Any)
else:
    ChannelType = TypeVar("ChannelType")
Returned = TypeVar("Returned")

Callback = Callable[[ChannelType, Packet], object]
"""Called with ``(channel, packet)``; what it returns is ignored."""

CallbacksByKind = Mapping[PacketKind, Callback[ChannelType]]

NO_KIND = "{!r} is not a kind of packet"
PARAMETERS = ("channel", "packet")
NO_CALLBACKS: CallbacksByKind[Any] = MappingProxyType({})


class InThreadpool(Generic[ChannelType]):
    """A callback that blocks, and so runs in a native thread while its channel waits and the others go on.

    Args:
        callback: runs in the thread, where the channel must not be used except by ``network.call_soon``.

    Raises:
        ConfigurationError: the callback cannot be called as one; see :class:`PacketHandleProtocol`.
    """

    def __init__(self, callback: Callback[ChannelType]) -> None:
        check_callable(callback, PARAMETERS, "a callback")
        self.callback = callback

    def __call__(self, channel: ChannelType, packet: Packet) -> object:
        """Call it here."""
        return self.callback(channel, packet)

    def __repr__(self) -> str:
        return f"InThreadpool({self.callback!r})"


class PacketHandleProtocol(dict[PacketKind, Callback[ChannelType]], Generic[ChannelType]):
    """A dict of packet kind to ``callback(channel, packet)``, with the default callbacks installed.

    The callback runs in the channel's own greenlet, one packet after the other: while
    it runs, nothing more is read from that peer. ``packet`` is the whole ``Packet``.
    A callback that blocks is set as :class:`InThreadpool`, or with ``on(kind, threadpool=True)``.

    A packet is *handled* when its callback has returned: only then its sender hears that it is delivered. A callback
    that raises has not handled it, and the sender is told ``handler_failed``. Kinds without a callback are counted as
    ``unhandled``, which the sender is told too; set a kind to a callback to handle it, delete it to stop.
    ``identifier`` and ``disconnect`` have default callbacks. A listener of ``packet_received`` handles nothing.

    However a callback is set, it is looked at first. ``ConfigurationError`` is raised if there is no such kind of
    packet, if it cannot be called with two positional arguments, or if it is a coroutine or generator function,
    whose call would run nothing.

    While a network that uses it runs, it is changed in the native thread of that network only, like all that belongs to
    a network.

    For type checkers it is generic in the type of the channel, which is :class:`~peernet.PeerChannel` in
    ``network.handlers`` and ``channel.handlers``.

    Args:
        callbacks: callbacks by kind, to be set.
        defaults: install the default callbacks before. Pass ``False`` for the overrides of one channel.
        more: further ones.
    """

    _homes: tuple[ref[HomeThread], ...] = ()  # of the networks that use it: several may

    def __init__(
        self,
        callbacks: CallbacksByKind[ChannelType] = NO_CALLBACKS,
        /,
        *,
        defaults: bool = True,
        **more: Callback[ChannelType],
    ) -> None:
        super().__init__(DEFAULTS if defaults else {})
        self.update(callbacks, **more)

    def belong_to(self, home: HomeThread) -> None:
        """Have a network use it, whose thread that is."""
        self._homes = (*(known for known in self._homes if known() is not None), ref(home))

    def __setitem__(self, kind: PacketKind, callback: Callback[ChannelType]) -> None:
        """Handle ``kind`` with ``callback``.

        Raises:
            ConfigurationError: there is no such kind, or the callback cannot be called as one.
            WrongThreadError: called in another native thread than that of a network that uses it.
        """
        self._check_thread()
        check_callback(kind, callback)
        super().__setitem__(kind, callback)

    def __delitem__(self, kind: PacketKind) -> None:
        """Handle ``kind`` no more."""
        self._check_thread()
        super().__delitem__(kind)

    def update(  # type: ignore[override]  # a dict's has an overload for each way of calling it
        self, callbacks: CallbacksByKind[ChannelType] = NO_CALLBACKS, /, **more: Callback[ChannelType]
    ) -> None:
        """As of any dict, with the checks of setting one kind. If one is refused, none is set."""
        self._check_thread()
        new: dict[Any, Callback[ChannelType]] = dict(callbacks, **more)
        for kind, callback in new.items():
            check_callback(kind, callback)
        super().update(new)

    def setdefault(self, kind: PacketKind, callback: Callback[ChannelType]) -> Callback[ChannelType]:
        """As of any dict, with the checks of setting one kind."""
        self._check_thread()
        if kind not in self:
            self[kind] = callback
        return self[kind]

    def pop(self, *args: Any) -> Any:
        """As of any dict."""
        self._check_thread()
        return super().pop(*args)

    def popitem(self) -> tuple[PacketKind, Callback[ChannelType]]:
        """As of any dict."""
        self._check_thread()
        return super().popitem()

    def clear(self) -> None:
        """As of any dict."""
        self._check_thread()
        super().clear()

    def copy(self) -> PacketHandleProtocol[ChannelType]:
        """Another one with the same callbacks."""
        return PacketHandleProtocol(self, defaults=False)

    # For the operators the kinds are looked at only when they run: pyright takes the keys of a dict on the right of
    # `|=` for mere texts.

    def __or__(  # type: ignore[override]  # a dict's takes other types of keys
        self, other: Mapping[Any, Callback[ChannelType]]
    ) -> PacketHandleProtocol[ChannelType]:
        if not isinstance(other, Mapping):
            return NotImplemented
        joined = self.copy()
        joined.update(other)
        return joined

    def __ror__(  # type: ignore[override]
        self, other: Mapping[Any, Callback[ChannelType]]
    ) -> PacketHandleProtocol[ChannelType]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return PacketHandleProtocol(other, defaults=False) | self

    def __ior__(  # type: ignore[override]
        self, other: Mapping[Any, Callback[ChannelType]]
    ) -> PacketHandleProtocol[ChannelType]:
        self.update(other)
        return self

    def on(
        self, kind: PacketKind, *, threadpool: bool = False
    ) -> Callable[[Callable[[ChannelType, Packet], Returned]], Callable[[ChannelType, Packet], Returned]]:
        """Decorator: ``@handlers.on("pure_message")``.

        Args:
            kind: what to handle.
            threadpool: run the callback in a native thread, because it blocks; see :class:`InThreadpool`.

        Raises:
            ConfigurationError: there is no such kind, or the callback cannot be called as one.
        """

        def install(callback: Callable[[ChannelType, Packet], Returned]) -> Callable[[ChannelType, Packet], Returned]:
            self[kind] = InThreadpool(callback) if threadpool else callback
            return callback

        self._check_thread()
        return install

    def _check_thread(self) -> None:
        for known in self._homes:
            home = known()
            if home is not None:
                home.check("the handlers of this network")


def check_callback(kind: str, callback: object) -> None:
    """Check that a callback for a kind can be set.

    Raises:
        ConfigurationError: there is no such kind, or the callback cannot be called as one.
    """
    if kind not in CALLED_BACK:
        known = "packets of kind {!r} belong to the protocol and reach no callback" if kind in KINDS else NO_KIND
        raise ConfigurationError(f"{known.format(kind)}; there are {', '.join(CALLED_BACK)}")
    check_callable(callback, PARAMETERS, f"the callback for {kind}")


def check_handlers(handlers: object) -> None:
    """Check that something holds callbacks by kind, and checks those that are set later.

    Raises:
        ConfigurationError: it is something else, such as a dict.
    """
    if not isinstance(handlers, PacketHandleProtocol):
        name = type(handlers).__name__
        raise ConfigurationError(f"handlers must be a PacketHandleProtocol, which can be made of a dict, not {name}")


class HasPeer(Protocol):
    """What the default callbacks touch of a channel."""

    peer: Any


def ignore(channel: HasPeer, packet: Packet) -> None:
    """For kinds that need no answer: the ``packet_received`` event has told of it already."""


def remember_addresses(channel: HasPeer, packet: Packet) -> None:
    """Default for ``identifier``: keep where the peer says it listens, as a hint; dial nothing."""
    channel.peer.listen_addresses = listen_hints(packet.identifier.listen_addresses)


DEFAULTS: dict[PacketKind, Callback] = {
    "identifier": remember_addresses,
    "disconnect": ignore,
}


def find_callback(kind: Any, override: PacketHandleProtocol | None, handlers: PacketHandleProtocol) -> Callback | None:
    """The callback for a kind: the channel's own if it has one, else the network's, else none."""
    if override is not None and kind in override:
        return override[kind]
    return handlers.get(kind)
