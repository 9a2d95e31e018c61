"""PeerNetworkTrustPolicy: who may set the identifier of a node."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from peernet.errors import IdentityLockedError


class IdentifierOrigin(Enum):
    """Who asks to set the local identifier: this program, or an authority in the network."""

    LOCAL = "local"
    REMOTE = "remote"


class LocalIdentifierSetPolicy(Enum):
    """Who may set the local identifier; the strict ones allow it once."""

    STRICT_LOCAL_ONLY = "strict_local_only"
    LOCAL_ONLY = "local"
    LOCAL_AND_REMOTE = "local_and_remote"
    REMOTE_ONLY = "remote_only"
    STRICT_REMOTE_ONLY = "strict_remote_only"

    @property
    def strict(self) -> bool:
        """Whether the identifier is locked once it was set."""
        return self in (LocalIdentifierSetPolicy.STRICT_LOCAL_ONLY, LocalIdentifierSetPolicy.STRICT_REMOTE_ONLY)

    @property
    def origins(self) -> frozenset[IdentifierOrigin]:
        """Who may set it."""
        local = {LocalIdentifierSetPolicy.STRICT_LOCAL_ONLY, LocalIdentifierSetPolicy.LOCAL_ONLY}
        if self in local:
            return frozenset({IdentifierOrigin.LOCAL})
        if self is LocalIdentifierSetPolicy.LOCAL_AND_REMOTE:
            return frozenset(IdentifierOrigin)
        return frozenset({IdentifierOrigin.REMOTE})


@dataclass(frozen=True)
class PeerNetworkTrustPolicy:
    """Rules for the network itself: who may set this node's identifier."""

    local_identifier_set_policy: LocalIdentifierSetPolicy = LocalIdentifierSetPolicy.LOCAL_ONLY

    def check_identifier_set(self, origin: IdentifierOrigin, *, already_set: bool) -> None:
        """Pass if ``origin`` may set the local identifier now.

        Raises:
            IdentityLockedError: it may not.
        """
        policy = self.local_identifier_set_policy
        if origin not in policy.origins:
            raise IdentityLockedError(f"the policy {policy.value} lets no {origin.value} caller set the identifier")
        if policy.strict and already_set:
            raise IdentityLockedError(f"the policy {policy.value} lets the identifier be set once, and it is set")
