from __future__ import annotations

import ast
import dataclasses
import inspect
from typing import Any

import pytest

from peernet.errors import (
    ConfigurationError,
    IdentityLockedError,
    InitialAuthorityLockedError,
    TrustPolicyConflictError,
)
from peernet.peers.ip_networks import IpNetworks
from peernet.trust import policy as trust_policy
from peernet.trust.bootstrap_policy import BootstrapTrustPolicy
from peernet.trust.identifier_policy import IdentifierOrigin, LocalIdentifierSetPolicy, PeerNetworkTrustPolicy
from peernet.trust.policy import CONTROL, DEFAULT_COMMUNICATION, Decision, IncomingPeerMode, IncomingPeerTrustPolicy
from peernet.wire.packets import KINDS
from tests.unit.sample_peers import ALICE, BOB, FakeChannel, peer_at

ENHANCED = set(KINDS) - CONTROL - DEFAULT_COMMUNICATION


def outcome(decision: Decision) -> tuple[bool, str]:
    assert bool(decision) is decision.allowed
    assert decision.why.endswith(".")
    return decision.allowed, decision.rule


# The gate on packets.


@pytest.mark.parametrize("kind", sorted(CONTROL))
@pytest.mark.parametrize("trusted", [False, True])
def test_control_packets_are_never_gated(kind: str, trusted: bool) -> None:
    policy = IncomingPeerTrustPolicy(allow_default_communication=False)
    assert outcome(policy.permits(kind, FakeChannel(trusted))) == (True, "control_packet")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - CONTROL))
def test_a_trusted_channel_may_send_everything(kind: str) -> None:
    policy = IncomingPeerTrustPolicy(allow_default_communication=False, allow_enhanced_packet_exchange=False)
    assert outcome(policy.permits(kind, FakeChannel(trusted=True))) == (True, "trusted_channel")


@pytest.mark.parametrize("allowed", [False, True])
def test_untrusted_text_is_decided_by_its_own_switch(allowed: bool) -> None:
    policy = IncomingPeerTrustPolicy(allow_default_communication=allowed, allow_enhanced_packet_exchange=not allowed)
    assert outcome(policy.permits("pure_message", FakeChannel())) == (allowed, "allow_default_communication")


@pytest.mark.parametrize("kind", sorted(ENHANCED))
@pytest.mark.parametrize("allowed", [False, True])
def test_every_other_untrusted_kind_is_decided_by_the_enhanced_switch(kind: str, allowed: bool) -> None:
    policy = IncomingPeerTrustPolicy(allow_default_communication=not allowed, allow_enhanced_packet_exchange=allowed)
    assert outcome(policy.permits(kind, FakeChannel())) == (allowed, "allow_enhanced_packet_exchange")


def test_a_kind_nobody_thought_of_is_an_enhanced_one() -> None:
    assert not IncomingPeerTrustPolicy().permits("brand_new", FakeChannel())


def test_by_default_strangers_may_only_talk() -> None:
    assert IncomingPeerTrustPolicy().permitted_kinds(FakeChannel()) == CONTROL | {"pure_message"}
    assert IncomingPeerTrustPolicy().permitted_kinds(FakeChannel(trusted=True)) == set(KINDS)


# The gate on connections.

BLOCKED_NETWORK = {"blocked_networks": {"10.0.0.0/8"}}
ALLOWED_NETWORK = {"allowed_networks": {"10.0.0.0/8"}}
ADMISSIONS: list[tuple[str, dict[str, Any], Any, tuple[bool, str]]] = [
    ("nobody is on a list", {}, peer_at(), (True, "no_allowlist")),
    ("only the address is known", {}, peer_at(identifier=""), (True, "address_admitted")),
    ("its network is blocked", BLOCKED_NETWORK, peer_at("10.1.2.3"), (False, "blocked_networks")),
    (
        "its network is blocked, before the handshake",
        BLOCKED_NETWORK,
        peer_at("10.1.2.3", ""),
        (False, "blocked_networks"),
    ),
    ("another network is blocked", BLOCKED_NETWORK, peer_at("11.1.2.3"), (True, "no_allowlist")),
    ("its network is allowed", ALLOWED_NETWORK, peer_at("10.1.2.3"), (True, "no_allowlist")),
    ("another network is allowed", ALLOWED_NETWORK, peer_at("11.1.2.3"), (False, "allowed_networks")),
    ("its network is both", BLOCKED_NETWORK | ALLOWED_NETWORK, peer_at("10.1.2.3"), (False, "blocked_networks")),
    ("it has no IP address and networks are allowed", ALLOWED_NETWORK, peer_at("memory"), (False, "allowed_networks")),
    ("it has no IP address and networks are blocked", BLOCKED_NETWORK, peer_at("memory"), (True, "no_allowlist")),
    ("it is blocked", {"blocked_identifiers": {ALICE}}, peer_at(), (False, "blocked_identifiers")),
    (
        "it only claims to be blocked",
        {"blocked_identifiers": {ALICE}},
        peer_at(proven=False),
        (False, "blocked_identifiers"),
    ),
    ("another is blocked", {"blocked_identifiers": {BOB}}, peer_at(), (True, "no_allowlist")),
    ("it is allowed", {"allowed_identifiers": {ALICE}}, peer_at(), (True, "allowed_identifiers")),
    (
        "it only claims to be allowed",
        {"allowed_identifiers": {ALICE}},
        peer_at(proven=False),
        (False, "unproven_identifier"),
    ),
    ("another is allowed", {"allowed_identifiers": {BOB}}, peer_at(), (False, "allowed_identifiers")),
    (
        "it is allowed and blocked",
        {"allowed_identifiers": {ALICE}, "blocked_identifiers": {ALICE}},
        peer_at(),
        (False, "blocked_identifiers"),
    ),
    (
        "it is allowed, in a blocked network",
        {"allowed_identifiers": {ALICE}} | BLOCKED_NETWORK,
        peer_at("10.1.2.3"),
        (False, "blocked_networks"),
    ),
]


@pytest.mark.parametrize(
    ("lists", "peer", "expected"), [row[1:] for row in ADMISSIONS], ids=[row[0] for row in ADMISSIONS]
)
def test_a_peer_is_admitted_unless_a_rule_forbids_it(lists: Any, peer: Any, expected: tuple[bool, str]) -> None:
    assert outcome(IncomingPeerTrustPolicy(**lists).admits(peer)) == expected


TRUSTED = IncomingPeerTrustPolicy(trusted_identifiers=frozenset({ALICE}))


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (peer_at(), (True, "trusted_identifiers")),
        (peer_at(proven=False), (False, "unproven_identifier")),
        (peer_at(identifier=BOB), (False, "not_in_trusted_identifiers")),
        (peer_at(identifier=""), (False, "not_in_trusted_identifiers")),
    ],
    ids=["proven", "claimed", "another", "nobody yet"],
)
def test_only_a_proven_identifier_on_the_list_is_trusted(peer: Any, expected: tuple[bool, str]) -> None:
    assert outcome(TRUSTED.trusts(peer)) == expected


def test_explain_tells_every_decision_with_its_rule() -> None:
    explained = TRUSTED.explain(peer_at(), FakeChannel())
    assert list(explained) == ["admitted", "trusted", *KINDS]
    assert explained["trusted"].rule == "trusted_identifiers"
    assert explained["data_transmission"].rule == "allow_enhanced_packet_exchange"


# IpNetworks.

MEMBERSHIP = [
    ("10.0.0.0/8", "10.255.0.1", True),
    ("10.0.0.0/8", "11.0.0.0", False),
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("0.0.0.0/0", "203.0.113.9", True),
    ("0.0.0.0/0", "2001:db8::1", False),
    ("::/0", "2001:db8::1", True),
    ("2001:db8::/32", "2001:db8:ffff::1", True),
    ("2001:db8::/32", "2001:db9::1", False),
    ("fe80::/10", "fe80::1%eth0", True),
    ("fe80::1%eth0", "fe80::1%eth1", True),
    ("fe80::%eth0/64", "fe80::7", True),
    ("fe80::1%eth0", "fe80::2%eth0", False),
    ("127.0.0.0/8", "::ffff:127.9.9.9", True),
    ("10.0.0.0/8", "::ffff:10.1.2.3", True),
    ("::ffff:10.0.0.0/104", "10.1.2.3", True),
    ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
    ("::ffff:192.0.2.1", "192.0.2.1", True),
    ("::ffff:10.0.0.0/104", "11.1.2.3", False),
    ("::ffff:0:0/96", "11.1.2.3", True),
    ("::/64", "11.1.2.3", False),
    ("10.0.0.0/8", "localhost", False),
    ("10.0.0.0/8", "", False),
]


@pytest.mark.parametrize(("cidr", "host", "inside"), MEMBERSHIP)
def test_an_address_is_in_a_network_however_it_is_written(cidr: str, host: str, inside: bool) -> None:
    assert (host in IpNetworks([cidr])) is inside


def test_an_address_may_be_in_any_of_several_networks() -> None:
    several = IpNetworks(["10.0.0.0/8", "10.9.0.0/16", "192.0.2.0/24", "2001:db8::/32"])
    assert [host in several for host in ("10.9.1.1", "192.0.2.7", "2001:db8::7", "198.51.100.1")] == [True] * 3 + [
        False
    ]


def test_a_set_of_networks_is_false_when_it_is_empty() -> None:
    assert not IpNetworks([])
    assert IpNetworks(["10.0.0.0/8"])


@pytest.mark.parametrize("cidr", ["", "10.0.0.0/33", "10.0.0.1/8", "example.org", "300.0.0.1", "fe80::/129"])
def test_what_is_no_network_is_refused_with_an_example(cidr: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a network: .*; write 10\.0\.0\.0/8"):
        IncomingPeerTrustPolicy(blocked_networks=frozenset({cidr}))


# Making policies.


@pytest.mark.parametrize("name", ["trusted_identifiers", "allowed_identifiers", "blocked_identifiers"])
@pytest.mark.parametrize("entry", ["", "abc", ALICE.upper(), ALICE + "a", "1" * 52, 7, None])
def test_what_is_no_identifier_is_refused(name: str, entry: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"in {name} is not an identifier"):
        IncomingPeerTrustPolicy(**{name: {entry}})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["allowed_networks", "blocked_networks"])
@pytest.mark.parametrize("entry", [7, None, b"\x0a\x00\x00\x00"])
def test_a_network_that_is_no_text_is_refused(name: str, entry: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a network"):
        IncomingPeerTrustPolicy(**{name: {entry}})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["trusted_identifiers", "blocked_networks"])
def test_one_text_instead_of_a_set_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="takes a set of texts, not one text"):
        IncomingPeerTrustPolicy(**{name: ALICE})  # type: ignore[arg-type]


def test_lists_may_be_given_as_any_collection() -> None:
    policy = IncomingPeerTrustPolicy(allowed_identifiers=[ALICE, ALICE])
    assert policy.allowed_identifiers == frozenset({ALICE})


def test_an_identifier_cannot_be_trusted_and_blocked() -> None:
    both = frozenset({ALICE})
    with pytest.raises(TrustPolicyConflictError, match=f"{ALICE} is both trusted and blocked; remove it"):
        IncomingPeerTrustPolicy(trusted_identifiers=both, blocked_identifiers=both)


def test_type_checkers_are_told_the_arguments_that_there_are() -> None:
    (policy,) = [
        one
        for one in ast.parse(inspect.getsource(trust_policy)).body
        if isinstance(one, ast.ClassDef) and one.name == "IncomingPeerTrustPolicy"
    ]
    (told,) = [one for one in ast.walk(policy) if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    there_are = list(inspect.signature(IncomingPeerTrustPolicy).parameters.values())
    assert [one.arg for one in told.args.args] == ["self", *(one.name for one in there_are)]
    defaults = [eval(compile(ast.Expression(one), "", "eval"), vars(trust_policy)) for one in told.args.defaults]
    assert defaults == [one.default for one in there_are]


def test_a_policy_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TRUSTED.trusted_identifiers = frozenset()  # type: ignore[misc]


def test_adding_and_removing_make_new_policies() -> None:
    more = TRUSTED.adding(trusted_identifiers=BOB, blocked_networks="10.0.0.0/8")
    assert more.trusted_identifiers == {ALICE, BOB}
    assert more.blocked_networks == {"10.0.0.0/8"}
    assert more.removing(trusted_identifiers=BOB, blocked_networks="10.0.0.0/8") == TRUSTED
    assert TRUSTED.trusted_identifiers == {ALICE}


def test_removing_what_is_not_there_changes_nothing() -> None:
    assert TRUSTED.removing(trusted_identifiers=BOB) == TRUSTED


def test_blocking_an_identifier_ends_its_trust() -> None:
    policy = TRUSTED.blocking(ALICE)
    assert (policy.trusted_identifiers, policy.blocked_identifiers) == (frozenset(), frozenset({ALICE}))
    assert outcome(policy.admits(peer_at())) == (False, "blocked_identifiers")
    assert policy.unblocking(ALICE).admits(peer_at())


def test_blocking_a_network_refuses_its_addresses() -> None:
    policy = IncomingPeerTrustPolicy().blocking("192.0.2.0/24")
    assert not policy.admits(peer_at())
    assert policy.unblocking("192.0.2.0/24") == IncomingPeerTrustPolicy()


def test_allowing_an_identifier_shuts_out_all_others() -> None:
    policy = IncomingPeerTrustPolicy().allowing(ALICE)
    assert policy.admits(peer_at())
    assert not policy.admits(peer_at(identifier=BOB))
    assert policy.disallowing(ALICE) == IncomingPeerTrustPolicy()


def test_allowing_a_network_shuts_out_all_others() -> None:
    policy = IncomingPeerTrustPolicy().allowing("192.0.2.0/24")
    assert policy.admits(peer_at())
    assert not policy.admits(peer_at("198.51.100.1"))
    assert policy.disallowing("192.0.2.0/24") == IncomingPeerTrustPolicy()


def test_placements_are_named_as_the_command_line_names_them() -> None:
    assert [mode.value for mode in IncomingPeerMode] == ["event", "queue", "both"]


# Who may set the local identifier.

LOCAL, REMOTE = IdentifierOrigin
SETTERS = {
    LocalIdentifierSetPolicy.STRICT_LOCAL_ONLY: ({LOCAL}, True),
    LocalIdentifierSetPolicy.LOCAL_ONLY: ({LOCAL}, False),
    LocalIdentifierSetPolicy.LOCAL_AND_REMOTE: ({LOCAL, REMOTE}, False),
    LocalIdentifierSetPolicy.REMOTE_ONLY: ({REMOTE}, False),
    LocalIdentifierSetPolicy.STRICT_REMOTE_ONLY: ({REMOTE}, True),
}


@pytest.mark.parametrize("already_set", [False, True])
@pytest.mark.parametrize("origin", IdentifierOrigin)
@pytest.mark.parametrize("policy", LocalIdentifierSetPolicy)
def test_the_local_identifier_is_set_by_whom_the_policy_names(
    policy: LocalIdentifierSetPolicy, origin: IdentifierOrigin, already_set: bool
) -> None:
    origins, once = SETTERS[policy]
    check = PeerNetworkTrustPolicy(policy).check_identifier_set
    assert (set(policy.origins), policy.strict) == (origins, once)
    if origin in origins and not (once and already_set):
        assert check(origin, already_set=already_set) is None
        return
    why = "lets the identifier be set once" if origin in origins else f"lets no {origin.value} caller"
    with pytest.raises(IdentityLockedError, match=f"{policy.value} {why}"):
        check(origin, already_set=already_set)


def test_by_default_only_this_program_sets_the_identifier() -> None:
    assert PeerNetworkTrustPolicy().local_identifier_set_policy is LocalIdentifierSetPolicy.LOCAL_ONLY


# Bootstrap.


@pytest.mark.parametrize(
    ("values", "needs"),
    [
        ({"must_be_authority": True}, "allow_authority=True"),
        ({"must_be_authority": True, "allow_authority": True}, "allow_trustless=False"),
        ({"first_single_locking_authority": True}, "allow_authority=True"),
        ({"locking_authority": ALICE}, "first_single_locking_authority=True"),
    ],
)
def test_bootstrap_values_that_contradict_each_other_are_refused(values: dict[str, Any], needs: str) -> None:
    with pytest.raises(TrustPolicyConflictError, match=f"needs {needs}"):
        BootstrapTrustPolicy(**values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"allow_authority": True},
        {"allow_authority": True, "must_be_authority": True, "allow_trustless": False},
        {"allow_authority": True, "first_single_locking_authority": True, "locking_authority": ALICE},
    ],
)
def test_bootstrap_values_that_fit_are_taken(values: dict[str, Any]) -> None:
    policy = BootstrapTrustPolicy(**values)
    assert {name: getattr(policy, name) for name in values} == values


def test_the_first_authority_is_locked_in_for_good() -> None:
    policy = BootstrapTrustPolicy(allow_authority=True, first_single_locking_authority=True)
    locked = policy.locked_to(ALICE)
    assert locked.locking_authority == ALICE
    assert locked.locked_to(ALICE) == locked
    with pytest.raises(InitialAuthorityLockedError, match=f"{ALICE} is locked in"):
        locked.locked_to(BOB)


def test_a_policy_that_locks_no_authority_cannot_be_locked() -> None:
    with pytest.raises(TrustPolicyConflictError, match="first_single_locking_authority=True"):
        BootstrapTrustPolicy(allow_authority=True).locked_to(ALICE)


@pytest.mark.parametrize("wrong", [{"allow_enhanced_packet_exchange": "no"}, {"incoming_peer_placement": "queue"}])
def test_a_text_where_a_switch_is_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="takes a"):
        IncomingPeerTrustPolicy(**wrong)
