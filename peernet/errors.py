"""Every error that peernet raises.

::

    PeerNetError
    ├── ConfigurationError            a value the caller gave cannot work
    │   ├── AddressError              text that is not a peer address
    │   ├── TrustPolicyConflictError  policy values that contradict each other
    │   └── InitialAuthorityLockedError  the first authority is locked in
    ├── IdentityError                 a key cannot be read, made or used
    │   ├── IdentityLockedError       the policy forbids changing the identifier
    │   └── UnprovenPeerError         trust asked for an identity nobody proved
    ├── HomeError                     a home folder that cannot be used
    │   └── HomeInUseError            another program uses it
    ├── StorageError                  the file of the durable outbox cannot be used
    ├── ListenError                   an address cannot be listened on
    ├── ConnectError                  a connection could not be made
    │   ├── ConnectTimeout            ... in the time given
    │   ├── IdentityMismatchError     somebody else answered at that address
    │   ├── SelfConnectionError       the address leads back to this node, or to one with its key
    │   ├── RefusedByPeerError        the peer said no, and why
    │   └── RefusedByPolicyError      our own policy said no, and by which rule
    ├── ProtocolError
    │   ├── LocalProtocolError        we tried to send what may not be sent
    │   │   └── PacketTooBigError
    │   └── RemoteProtocolError       the peer sent what may not be sent
    ├── TransportError                the bytes stopped flowing
    │   └── HandshakeError            the other side does not speak TLS as peers do
    └── ChannelError
        ├── ChannelClosedError        the channel is gone, and why
        ├── SendTimeout               no room in the outbox in time
        ├── OutboxFullError           no room in the outbox, and no waiting
        ├── PingTimeout               the peer did not answer in time
        ├── SelfWaitError             a callback would wait for itself
        ├── WrongThreadError          a native thread other than the network's
        ├── ForkedError               a child process of the network's
        ├── DeliveryFailed            a packet was not delivered, and why
        └── PacketRefusedError        raised by a callback that does not want a packet

``Local`` and ``Remote`` say whose fault it was. Every message is a sentence that
says what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peernet.reasons import Reason


class PeerNetError(Exception):
    """Base of every error that peernet raises.

    It can be copied, and sent to another process: what comes out has the same type, arguments and attributes.
    Its cause stays behind, as with every exception of Python.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with ``args``, of which a class with attributes of its own takes more.
        return _rebuilt, (type(self), self.args, vars(self))


class ConfigurationError(PeerNetError, ValueError):
    """A value given by the caller cannot work."""


class AddressError(ConfigurationError):
    """The text is not a peer address."""


class TrustPolicyConflictError(ConfigurationError):
    """The values of one policy contradict each other."""


class InitialAuthorityLockedError(ConfigurationError):
    """The first bootstrap authority is locked in and cannot be replaced."""


class IdentityError(PeerNetError):
    """A key or certificate cannot be read, made or used."""


class IdentityLockedError(IdentityError):
    """The network's policy forbids this origin to set the local identifier (again)."""


class UnprovenPeerError(IdentityError):
    """Trust was asked for a peer whose identifier is only a claim."""


class HomeError(PeerNetError):
    """A home folder cannot be used."""


class HomeInUseError(HomeError):
    """Another program uses this home folder."""


class StorageError(PeerNetError):
    """The file of the durable outbox cannot be opened, read or written."""


class ListenError(PeerNetError):
    """An address cannot be listened on."""


class ConnectError(PeerNetError):
    """A connection to a peer could not be made.

    Attributes:
        identifier: who answered, as far as that was known; else empty.
    """

    identifier = ""


class ConnectTimeout(ConnectError):
    """A connection to a peer could not be made in the time given."""


class IdentityMismatchError(ConnectError):
    """The peer at an address is not the one that the address names."""


class SelfConnectionError(ConnectError):
    """The address leads back to this node, or to another one with the same key."""


class RefusedByPeerError(ConnectError):
    """The peer refused the connection.

    Attributes:
        reason: the :class:`~peernet.reasons.Reason` it gave.
        retry_after: seconds it asks to wait before the next attempt; 0 if it did not ask.
        do_not_redial: whether it asks not to be dialled again.
    """

    def __init__(self, message: str, reason: Reason, retry_after: float = 0.0, do_not_redial: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.do_not_redial = do_not_redial


class RefusedByPolicyError(ConnectError):
    """This node's own policy refuses the peer; ``rule`` names the rule that fired."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


class ProtocolError(PeerNetError):
    """The protocol was broken."""


class LocalProtocolError(ProtocolError):
    """This side tried to send something that the protocol forbids."""


class PacketTooBigError(LocalProtocolError):
    """A packet to be sent exceeds the frame limit."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol forbids.

    Attributes:
        reason: the :class:`~peernet.reasons.Reason` for closing the connection.
        culprit: the identifier that TLS had proven by then; empty if none, or after the handshake.
    """

    culprit = ""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class TransportError(PeerNetError):
    """The connection under a channel broke."""


class HandshakeError(TransportError):
    """The other side speaks, but not TLS as peers do."""


class ChannelError(PeerNetError):
    """An operation on a channel failed."""


class ChannelClosedError(ChannelError):
    """The channel is closed; ``reason`` says why."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class SendTimeout(ChannelError):
    """The outbox had no room for the packet in the time given; the packet was not accepted."""


class OutboxFullError(ChannelError):
    """The outbox, or the durable one, has no room for the packet now; the packet was not accepted."""


class PingTimeout(ChannelError):
    """The peer did not answer a ping in the time given."""


class SelfWaitError(ChannelError):
    """A callback tried to wait for something that only its own return can bring about."""


class WrongThreadError(ChannelError):
    """A network that runs, or something of it, was used in another native thread than the one it was started in.

    There, use :meth:`PeerNetwork.call_soon`.
    """


class ForkedError(ChannelError):
    """A network that ran when the process forked, or something of it, was used in the child process.

    It goes on in the parent, and in the parent alone. The child makes a network of its own.
    """


class DeliveryFailed(ChannelError):
    """A packet that was accepted was not delivered, or nobody will know; ``reason`` says why."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class PacketRefusedError(ChannelError):
    """Raise it in a callback to refuse the packet: its sender is told ``reason``, and nothing is logged.

    Any other exception that a callback lets escape tells the sender ``Reason.HANDLER_FAILED``, and so does this one
    if its ``reason`` is no :class:`~peernet.reasons.Reason`.

    Attributes:
        reason: ``Reason.UNHANDLED``, ``TOO_BIG``, ``NOT_PERMITTED`` or ``HANDLER_FAILED``.
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


def _rebuilt(kind: type[PeerNetError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PeerNetError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error
