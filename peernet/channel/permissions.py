"""Permissions: what a peer may send, and whether it has to keep to a share."""

from __future__ import annotations

from peernet.channel.attachment import Attachment
from peernet.channel.link import Link
from peernet.channel.reporter import Reporter
from peernet.channel.throttle import Throttle


class Permissions:
    """What follows for one channel from the policy of its network and from trust.

    Args:
        reporter: asks the policy, and tells of changes.
        attachment: whose links are throttled while the peer is not trusted.
        throttle: an untrusted peer's share; ``None`` if it has no limit.

    Attributes:
        trusted: whether every kind of packet is permitted.
        kinds: the kinds that are permitted now. A set, so that a packet costs one look-up.
    """

    __slots__ = ("_attachment", "_reporter", "_throttle", "kinds", "trusted")

    def __init__(self, reporter: Reporter, attachment: Attachment, throttle: Throttle | None) -> None:
        self._reporter = reporter
        self._attachment = attachment
        self._throttle = throttle
        self.trusted = False
        self.kinds: frozenset[str] = frozenset()

    def trust(self, trusted: bool) -> None:
        """Trust the peer from now on, or no longer."""
        if trusted != self.trusted:
            self.trusted = trusted
            self.refresh()
            self._reporter.trust_changed()

    def refresh(self) -> None:
        """Take note that the policy or the trust has changed."""
        self.kinds = self._reporter.permitted_kinds()
        self.apply(self._attachment.link)

    def apply(self, link: Link) -> None:
        """Have a link read no faster than the peer may send, and keep no large body that it may not send."""
        link.connection.permit(self.kinds)
        link.throttle = None if self.trusted else self._throttle
