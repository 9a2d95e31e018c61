"""HomeKeeper: keeps in a home folder what a network remembers, in the files that ``peernet-node`` uses too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import gevent

from peernet.errors import ConfigurationError, HomeInUseError
from peernet.peers.address_book import KnownPeer
from peernet.peers.identity import Identity, key_exposure
from peernet.runtime.deadline import Deadline
from peernet.runtime.greenlets import spawn
from peernet.runtime.interruptions import OwnedGreenlet
from peernet.runtime.logs import get_logger
from peernet.runtime.routines import NetworkRoutines
from peernet.state.files import remove_leftovers
from peernet.state.home import PATIENCE, Home
from peernet.state.savers import KeptFile
from peernet.switch.stores import BANS, PEERS, TRUST, address_book_file, bans_file
from peernet.switch.switch import Switch
from peernet.trust.bans import Ban
from peernet.trust.policy import LISTS, IncomingPeerTrustPolicy

logger = get_logger(__name__)

# How often somebody who waits for the lock looks whether it is free. Seconds.
LOOK_EVERY = 0.02


def open_home(
    home: Home, identity: Identity | None, policy: IncomingPeerTrustPolicy
) -> tuple[Identity, IncomingPeerTrustPolicy]:
    """The identity of a home, which is made if there is none, and a policy with the lists that are kept there.

    Args:
        home: the folder; made if need be.
        identity: the one that was given beside the home; there should be none.
        policy: the other rules.

    Raises:
        ConfigurationError: an identity is given, or the policy has lists of its own.
        HomeInUseError: another process uses the home.
        HomeError: the home cannot be used.
        IdentityError: the key in it cannot be used.
    """
    if identity is not None:
        raise ConfigurationError("a home keeps the identity; give PeerNetwork an identity or a home, not both")
    if any(policy.to_lists().values()):
        raise ConfigurationError(
            "the lists of the policy are kept in the home; give a policy without lists, and change them with trust(), "
            "untrust() and network.policy"
        )
    with _locked(home):
        return identity_of(home), _with_lists(policy, TRUST.load(home.trust_file))


def identity_of(home: Home) -> Identity:
    """The identity of a home that the caller has locked; made if there is none. Saves that were cut short are removed.

    Raises:
        IdentityError: the key cannot be used or made.
    """
    identity = Identity.load_or_create(home.folder)
    remove_leftovers((home.trust_file, home.peers_file, home.bans_file))
    exposure = key_exposure(home.folder)
    if exposure:
        logger.warning("%s", exposure)
    return identity


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    """As :meth:`~peernet.state.home.Home.locked`, with a little patience, while others run."""
    deadline = Deadline(PATIENCE)
    with ExitStack() as stack:
        while True:  # ends with the deadline
            try:
                stack.enter_context(home.locked())
                break
            except HomeInUseError:
                if deadline.expired:
                    raise
            gevent.sleep(LOOK_EVERY)
        yield


class HomeKeeper:
    """Keeps whom a network trusts, whom it knows, and who is banned.

    The lists of the policy are written with every change, the rest every ten seconds and at the end. While the network
    runs the home is its own. At other times somebody else may change what is there: what has changed here since then
    is put into that.

    Args:
        home: the folder.
        switch: of the network. Its policy has the lists of the home already.
        routines: of the network.
    """

    def __init__(self, home: Home, switch: Switch, routines: NetworkRoutines) -> None:
        self._home = home
        self._switch = switch
        self._kept = switch.policy  # its lists are those in the file
        self._hold: ExitStack | None = None  # the lock, while it is ours
        self._ending: OwnedGreenlet | None = None
        self._kept_peers: set[str] = set()
        self._kept_bans: set[str] = set()
        with _locked(home):
            self._restore()
        self._lists = KeptFile(home.trust_file, self._write_lists, lambda: switch.policy)
        self._book = address_book_file(home, switch.known_peers)
        self._bans = bans_file(home, switch.bans)
        self._book.start(routines)
        self._bans.start(routines)

    def start(self) -> None:
        """Take the home, and adopt what others have changed in it.

        Raises:
            HomeInUseError: another process uses it.
            HomeError: it cannot be used.
            TrustPolicyConflictError: somebody is trusted here and blocked there, or the other way round.
        """
        if self._ending is not None:
            self._ending.join()
        hold = ExitStack()
        hold.enter_context(_locked(self._home))
        self._hold = hold
        self._merge_lists()
        self._restore()

    def stop(self, timeout: float, /) -> None:
        """Write what has changed, and leave the home to others. It waits for the disk, and goes on if it is killed."""
        self._ending = spawn("end of the home", self._end)
        self._ending.join()

    def keep_lists(self) -> None:
        """Write the lists of the policy if they have changed. Waits for the disk, but in the hub, which cannot wait.

        Raises:
            HomeInUseError: the network does not run, and another process uses the home.
            HomeError: they cannot be written. They hold all the same until the network stops.
        """
        if isinstance(gevent.getcurrent(), gevent.hub.Hub):
            spawn("keep the lists", self.keep_lists)
            return
        self._lists.settle()  # or what is written just now would pass for what stands there
        if self._switch.policy.to_lists() == self._kept.to_lists():
            return
        if self._hold is not None:
            self._lists.save()
        else:
            with _locked(self._home):
                self._merge_lists()

    def _merge_lists(self) -> None:
        """Put the changes since the file was read or written last into what stands there now. The home is ours."""
        there, here = TRUST.load(self._home.trust_file), self._switch.policy
        merged = _with_lists(here, _merged(self._kept, here, there))
        if merged != here:
            self._switch.policy = merged
        if merged.to_lists() != there.to_lists():
            TRUST.save(self._home.trust_file, merged)
        self._kept = merged

    def _write_lists(self, path: Path, policy: IncomingPeerTrustPolicy) -> None:
        TRUST.save(path, policy)
        self._kept = policy

    def _restore(self) -> None:
        """Put what stands in the files to what is here, without what either side has removed. The home is ours."""
        self._restore_peers(PEERS.load(self._home.peers_file))
        self._restore_bans(BANS.load(self._home.bans_file))
        self._note_kept()

    def _restore_peers(self, there: list[KnownPeer]) -> None:
        book = self._switch.known_peers
        forgotten = {identifier for identifier in self._kept_peers if identifier not in book}
        for identifier in self._kept_peers - {peer.identifier for peer in there}:
            book.forget(identifier)
        book.restore(peer for peer in there if peer.identifier not in forgotten)

    def _restore_bans(self, there: list[Ban]) -> None:
        bans = self._switch.bans
        lifted = {who for who in self._kept_bans if who not in bans}
        for who in self._kept_bans - {ban.who for ban in there}:
            bans.unban(who)
        for ban in there:
            if ban.who not in lifted:
                bans.restore(ban)

    def _note_kept(self) -> None:
        self._kept_peers = {peer.identifier for peer in self._switch.known_peers}
        self._kept_bans = {ban.who for ban in self._switch.bans}

    def _end(self) -> None:
        if self._hold is None:  # another process had it when we wanted to start
            return
        try:
            with self._hold:
                self._book.save()
                self._bans.save()
                self._note_kept()
                self._lists.settle()
        finally:
            self._hold = None


def _merged(
    before: IncomingPeerTrustPolicy, here: IncomingPeerTrustPolicy, there: IncomingPeerTrustPolicy
) -> IncomingPeerTrustPolicy:
    """What stands ``there``, with what was added and removed ``here`` since ``before``."""

    def entries(name: str) -> frozenset[str]:
        was, now, other = (getattr(policy, name) for policy in (before, here, there))
        merged: frozenset[str] = (other - (was - now)) | (now - was)
        return merged

    return IncomingPeerTrustPolicy.from_lists({name: entries(name) for name in LISTS})


def _with_lists(policy: IncomingPeerTrustPolicy, lists: IncomingPeerTrustPolicy) -> IncomingPeerTrustPolicy:
    """A policy with the lists of another one."""
    entries: dict[str, frozenset[str]] = {name: getattr(lists, name) for name in LISTS}
    return replace(policy, **entries)  # type: ignore[arg-type]
