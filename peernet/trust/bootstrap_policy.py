"""BootstrapTrustPolicy: which bootstrap nodes may be used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from peernet.errors import InitialAuthorityLockedError, TrustPolicyConflictError


@dataclass(frozen=True)
class BootstrapTrustPolicy:
    """Rules for bootstrap nodes.

    Attributes:
        allow_authority: nodes that prove an authority's key may be used.
        allow_trustless: nodes without one may be used.
        must_be_authority: only authorities may be used.
        first_single_locking_authority: the first authority becomes the only one.
        locking_authority: identifier of the authority that is locked in, if one is.

    Raises:
        TrustPolicyConflictError: the values contradict each other.
    """

    allow_authority: bool = False
    allow_trustless: bool = True
    must_be_authority: bool = False
    first_single_locking_authority: bool = False
    locking_authority: str | None = field(default=None)

    def __post_init__(self) -> None:
        if self.must_be_authority and not self.allow_authority:
            raise TrustPolicyConflictError("must_be_authority needs allow_authority=True")
        if self.must_be_authority and self.allow_trustless:
            raise TrustPolicyConflictError("must_be_authority needs allow_trustless=False")
        if self.first_single_locking_authority and not self.allow_authority:
            raise TrustPolicyConflictError("first_single_locking_authority needs allow_authority=True")
        if self.locking_authority is not None and not self.first_single_locking_authority:
            raise TrustPolicyConflictError("a locking_authority needs first_single_locking_authority=True")

    def locked_to(self, identifier: str) -> BootstrapTrustPolicy:
        """The policy with this authority locked in.

        Raises:
            InitialAuthorityLockedError: another one is locked in already.
            TrustPolicyConflictError: the policy does not lock authorities.
        """
        if self.locking_authority not in (None, identifier):
            raise InitialAuthorityLockedError(f"{self.locking_authority} is locked in as the only authority")
        return replace(self, locking_authority=identifier)
