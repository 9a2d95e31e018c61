"""Reader: reads from one link after the other, until the channel ends."""

from __future__ import annotations

from peernet.channel.attachment import Attachment
from peernet.channel.closing import Closing
from peernet.channel.dispatcher import Dispatcher
from peernet.channel.lifecycle import Lifecycle
from peernet.channel.link import Link
from peernet.channel.ownership import Ownership
from peernet.channel.reporter import ChannelOwner
from peernet.channel.state import ChannelState
from peernet.errors import RemoteProtocolError, TransportError
from peernet.reasons import Reason
from peernet.runtime.logs import get_logger
from peernet.runtime.text import printable

logger = get_logger(__name__)


class Reader:
    """What the own greenlet of a channel does.

    Args:
        owner: the network.
        lifecycle: where the channel stands.
        ownership: told which greenlet reads.
        attachment: the links.
        dispatcher: takes the frames.
        closing: told how reading has ended.
    """

    __slots__ = ("_attachment", "_closing", "_dispatcher", "_lifecycle", "_owner", "_ownership")

    def __init__(
        self,
        *,
        owner: ChannelOwner,
        lifecycle: Lifecycle,
        ownership: Ownership,
        attachment: Attachment,
        dispatcher: Dispatcher,
        closing: Closing,
    ) -> None:
        self._owner = owner
        self._lifecycle = lifecycle
        self._ownership = ownership
        self._attachment = attachment
        self._dispatcher = dispatcher
        self._closing = closing

    def run(self) -> None:
        """Read and call back until the channel ends. The calling greenlet becomes the channel's own."""
        self._ownership.take_over()
        try:
            # Ends: each link breaks at some time, and the channel has a limited time to get another one.
            while self._wait_for_link():
                self._read(self._attachment.link)
        finally:
            self._closing.release()

    def _wait_for_link(self) -> bool:
        """Wait while reconnecting. Returns whether there is a link to read from."""
        lifecycle, attachment = self._lifecycle, self._attachment
        # Ends: each turn waits for a move or makes one, and the table of moves leads to CLOSING and CLOSED only.
        while not (lifecycle.state is ChannelState.OPEN and attachment.link.alive):
            if lifecycle.state is ChannelState.RECONNECTING:
                lifecycle.wait_for_move()
            elif lifecycle.state is ChannelState.OPEN:  # it broke before anybody has read from it
                broken = attachment.link.broken or "the connection was cut"
                self._closing.lose(attachment.link, Reason.CONNECTION_LOST, str(broken))
            else:
                return lifecycle.state is ChannelState.CLOSING and attachment.link.alive
        return True

    def _read(self, link: Link) -> None:
        """Read from a link until it, or the channel, ends."""
        self._attachment.hold(link)
        self._dispatcher.begin(link.connection)
        try:
            if link.read(self._dispatcher, self._dispatcher.handle):
                self._closing.lose(link, Reason.CONNECTION_LOST, "the stream ended without a goodbye")
            elif self._lifecycle.state is ChannelState.CLOSING:
                self._read_last(link)
        except RemoteProtocolError as error:
            self._blame(link, error)
        except TransportError as error:
            self._closing.lose(link, Reason.CONNECTION_LOST, str(error))
        finally:
            link.release()
        if self._lifecycle.state is ChannelState.CLOSING:
            self._closing.conclude()

    def _read_last(self, link: Link) -> None:
        """Read on after a goodbye, for the sake of acknowledgements, or to end without a reset."""
        if self._lifecycle.ended_by_peer:
            self._closing.acknowledge()
            link.say_no_more()
            self._closing.conclude()
            link.discard_until_end()
        else:
            link.read(self._dispatcher, self._dispatcher.handle_last)

    def _blame(self, link: Link, error: RemoteProtocolError) -> None:
        """The peer has broken the protocol."""
        if self._lifecycle.state is ChannelState.OPEN and link is self._attachment.link:
            self._owner.counters[error.reason] += 1
            logger.info("%s broke the protocol: %s", self._lifecycle.peer.identifier[:8], printable(error))
            self._closing.begin(error.reason, str(error))
        link.discard_until_end()
