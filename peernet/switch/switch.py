"""Switch: who is let in, which channels are open, and who is told when that changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from peernet.channel.acknowledger import AcknowledgeTimer
from peernet.channel.assembly import make_channel
from peernet.channel.channel import PeerChannel
from peernet.channel.control import ChannelControl
from peernet.channel.handlers import PacketHandleProtocol
from peernet.channel.link import Link
from peernet.channel.state import ChannelState
from peernet.config import NetworkConfig
from peernet.connections.handshake import HandshakeResult
from peernet.connections.refusal import Refusal
from peernet.connections.tiebreak import Claim
from peernet.errors import RemoteProtocolError
from peernet.peers.address_book import KnownPeers
from peernet.peers.peer import GenericPeer
from peernet.reasons import Reason
from peernet.runtime import clock
from peernet.runtime.greenlets import spawn
from peernet.runtime.logs import get_logger
from peernet.runtime.threads import CallbackThreads, HomeThread
from peernet.switch.arbiter import Arbiter
from peernet.switch.events import NetworkEvents
from peernet.switch.memory import MemoryGuard
from peernet.switch.pending import InboundConnectingPeersQueue, IncomingPeerConnectionAttempt
from peernet.switch.placement import Placement
from peernet.switch.table import ChannelTable
from peernet.trust.bans import Ban, Bans
from peernet.trust.policy import Decision, IncomingPeerTrustPolicy
from peernet.v1 import packet_pb2 as pb
from peernet.wire.disconnect import disconnect_packet
from peernet.wire.session import resumes

logger = get_logger(__name__)

# How long a peer that found no room is asked to stay away. Seconds.
BUSY_RETRY_AFTER = 5.0


class Switch:
    """The channels of one network, from the gate on the identity to ``peer_removed``.

    It alone adds a channel to the table and removes it, and so fires ``peer_added`` and
    ``peer_removed`` exactly once for each.

    Args:
        identifier: this node's own.
        config: limits and timeouts.
        policy: whom to let in and what to take from them.
        handlers: callbacks by kind of packet.
        events: fired when something happens.
        home: the native thread that all of it belongs to.

    Attributes:
        closing: whether nobody is let in any more, or nobody yet.
    """

    def __init__(
        self,
        identifier: str,
        config: NetworkConfig,
        policy: IncomingPeerTrustPolicy,
        handlers: PacketHandleProtocol,
        events: NetworkEvents,
        home: HomeThread,
    ) -> None:
        self.home = home
        self.identifier = identifier
        self.config = config
        self.handlers = handlers
        self.events = events
        self.packet_received = events.packet_received  # channels ask for it with each packet
        self.counters: Counter[str] = Counter()
        self.channels = ChannelTable()
        self.known_peers = KnownPeers(config, home)
        self.queue = InboundConnectingPeersQueue(home)
        self.trust_protocol: Callable[[PeerChannel], object] | None = None
        self.closing = True  # nobody is let in
        self.arbiter = Arbiter(identifier, config, self.channels)
        self.acknowledge_timer = AcknowledgeTimer(config.acknowledge_after)
        self.threads = CallbackThreads(config.callback_threads)
        self.greenlets = home.greenlets  # one for each channel that we dialled
        self._policy = policy
        self.bans = Bans(
            config,
            lambda: clock.monotonic(),
            lambda: clock.wall(),
            lambda: self._policy,
            self.known_peers.is_kept,
            home,
        )
        self.bans.banned.add(self._on_banned)
        self._placement = Placement(config, self.queue, events, lambda: self._policy)
        self.memory = MemoryGuard(config, self.counters, lambda: self.channels)

    @property
    def policy(self) -> IncomingPeerTrustPolicy:
        """The policy in force."""
        return self._policy

    @policy.setter
    def policy(self, policy: IncomingPeerTrustPolicy) -> None:
        before, self._policy = self._policy, policy
        for control in self.channels:
            decision = policy.admits(control.channel.peer)
            if decision:
                control.refresh_permissions()
                self._apply_trust(control.channel, before)
            else:
                self.greenlets.add(spawn("policy change", control.channel.close, reason_for(decision), decision.why))
        for attempt in self.queue:
            decision = policy.admits(attempt.peer)
            if not decision:
                attempt.reject(decision.why, reason=reason_for(decision))

    def _apply_trust(self, channel: PeerChannel, before: IncomingPeerTrustPolicy) -> None:
        """Follow a change of the list of trusted peers; what the application has decided itself stays."""
        trusts = bool(self._policy.trusts(channel.peer))
        if trusts and not before.trusts(channel.peer):
            channel.trust()
        elif before.trusts(channel.peer) and not trusts:
            channel.untrust()

    def rename(self, identifier: str) -> None:
        """Give the node another identifier; only while no channel is open."""
        self.identifier = identifier
        self.arbiter = Arbiter(identifier, self.config, self.channels)

    # The gates.

    def admits_address(self, peer: GenericPeer) -> Decision:
        """The gate on the address of somebody who has connected, before a word is said."""
        if self.bans.time_left(peer):
            return Decision(False, Reason.BANNED, f"The address {peer.address} is banned for a while.")
        return self._policy.admits(peer)

    def admit(self, peer: GenericPeer) -> None:
        """The gate on the identity.

        Raises:
            Refusal: the peer is not let in.
        """
        if self.closing:
            raise Refusal(Reason.SHUTDOWN)
        if peer.identifier == self.identifier:
            raise Refusal(Reason.SELF_CONNECTION)
        decision = self._policy.admits(peer)
        if not decision:
            raise Refusal(reason_for(decision), rule=decision.rule, why=decision.why)

    def admit_inbound(self, peer: GenericPeer) -> None:
        """The same for a peer that has dialled us.

        Raises:
            Refusal: the peer is not let in.
        """
        self.admit(peer)
        left = self.bans.time_left(peer)
        if left:
            raise Refusal(Reason.BANNED, retry_after=left)

    def knows(self, identifier: str) -> bool:
        """Whether a peer was here before."""
        return identifier in self.known_peers

    def blame(self, peer: GenericPeer, reason: str) -> None:
        """Take note of who was sent away before there was a channel, and why."""
        self.bans.blame(peer, reason)

    def complete_dial(self, identifier: str, ours: pb.HelloPacket) -> Claim | None:
        """Just before our hello to somebody we have dialled: say which session this may continue.

        Raises:
            Refusal: there is a better connection with this peer.
        """
        return self.arbiter.claim_dial(identifier, ours)

    def complete_answer(self, identifier: str, theirs: pb.HelloPacket, ours: pb.HelloPacket) -> Claim:
        """Just before our answer to a peer: say whether its hello continues a session.

        Raises:
            Refusal: there is a better connection with this peer, or no room.
        """
        claim = self.arbiter.claim_answer(identifier)
        try:
            existing = self.arbiter.make_way(identifier, theirs)
            if existing is None and self._is_full():
                raise Refusal(Reason.BUSY, retry_after=BUSY_RETRY_AFTER)
            self.arbiter.name_session(existing, ours)
        except BaseException:
            claim.release()
            raise
        return claim

    def welcome(self, introduced: HandshakeResult) -> ChannelControl | None:
        """Decide about an inbound peer. Returns its channel, open and not running yet, if it is let in."""
        self.bans.vouch(introduced.peer)
        try:
            if self._resume(introduced) is not None:
                return None  # the channel runs already
            attempt = IncomingPeerConnectionAttempt(make_channel(self, introduced, dialled=False), self.home)
            if self._placement.place(attempt):
                self._check_again(attempt)
            if attempt.verdict:
                self._open_inbound(attempt.control)
                return attempt.control
        finally:
            _release(introduced)
        self.counters[attempt.reason] += 1
        attempt.control.dismiss(attempt.reason, attempt.message, attempt.retry_after)
        return None

    def take_dialled(self, introduced: HandshakeResult) -> PeerChannel:
        """Open and run the channel to a peer we have dialled, unless this resumes one, or there is a better one."""
        try:
            resumed = self._resume(introduced)
            return self._begin(introduced) if resumed is None else resumed
        finally:
            _release(introduced)

    def _begin(self, introduced: HandshakeResult) -> PeerChannel:
        """A new channel on a connection that we have dialled, unless there is a better one by now."""
        control = make_channel(self, introduced, dialled=True)
        better = self.arbiter.find_better(introduced.peer, dialled=True)
        if better is not None:
            self.greenlets.add(spawn("duplicate", control.dismiss, Reason.DUPLICATE))
            return better.channel
        existing = self.channels.get(introduced.peer.identifier)
        if existing is not None and existing.channel.state is ChannelState.RECONNECTING:
            existing.end(Reason.SESSION_LOST)
        try:
            self._open(control)
        finally:
            # Even if a listener was interrupted: an open channel is one that somebody reads.
            self.greenlets.add(control.start())
        return control.channel

    def _open_inbound(self, control: ChannelControl) -> None:
        try:
            self._make_room()
            self._open(control)
        except BaseException:
            control.release()  # nobody is going to run it
            raise

    def _resume(self, introduced: HandshakeResult) -> PeerChannel | None:
        """The channel that a new connection continues, if it does.

        Raises:
            Refusal: what it was to continue is gone.
        """
        if not resumes(introduced.ours, introduced.hello):
            return None
        taken = False
        try:
            control = self.arbiter.find_resumed(introduced)
            taken = control.attach(introduced)
        except RemoteProtocolError as error:
            self.counters[error.reason] += 1
            self._send_away(introduced, error)
        finally:
            if not taken:
                introduced.transport.close()
        if not taken:
            raise Refusal(Reason.SESSION_LOST)
        self.counters["resumed"] += 1
        # Last: a listener may be interrupted, and the connection is the channel's.
        self.events.channel_resumed.fire(control.channel)
        return control.channel

    def _send_away(self, introduced: HandshakeResult, error: RemoteProtocolError) -> None:
        """Tell a peer why the connection, with which it is introduced already, will not be used."""
        link = Link(introduced.transport, introduced.connection, self.config)
        link.put_control(disconnect_packet(error.reason, str(error)))
        link.say_no_more()
        link.discard_until_end()

    def control_to(self, identifier: str) -> ChannelControl | None:
        """The control of the channel to a peer, if there is one."""
        return self.channels.get(identifier)

    def controls(self) -> list[ChannelControl]:
        """Those of all channels, the pending ones included."""
        return [*self.channels, *(attempt.control for attempt in self.queue)]

    def on_set_aside(self, peer: str, packet_id: bytes, attempts: int) -> None:
        """A durable packet is set aside; see :attr:`PeerNetwork.packet_set_aside`."""
        self.events.packet_set_aside.fire(peer, packet_id, attempts)

    # What channels ask and tell their network (ChannelOwner).

    def may_hold(self, size: int, contents: Sequence[bytes]) -> bool:
        return self.memory.grant(size, contents)

    def on_refused(self, channel: PeerChannel, kind: str, decision: Decision) -> None:
        self.events.packet_refused.fire(channel, kind, decision)

    def on_handler_failing(self, channel: PeerChannel, kind: str, error: BaseException) -> None:
        self.events.handler_failing.fire(channel, kind, error)

    def on_trust_changed(self, channel: PeerChannel) -> None:
        self.events.trust_changed.fire(channel)

    def on_reconnecting(self, channel: PeerChannel) -> None:
        self.counters["reconnecting"] += 1
        self.events.channel_reconnecting.fire(channel)

    def on_closed(self, channel: PeerChannel) -> None:
        self.channels.remove(channel)
        if channel.reason is not None and not channel.ended_by_peer:
            self.bans.blame(channel.peer, channel.reason, dialled=channel.dialled)
        if channel.opened_at is not None:
            self.known_peers.note(channel.peer, dialled=channel.dialled)
            self.events.peer_removed.fire(channel, channel.reason or Reason.CLOSED)

    def _on_banned(self, ban: Ban) -> None:
        logger.info("%s is banned for %.0f s: %s", ban.who, ban.expires - ban.since, ban.reason)
        channel = self.channels.channel_to(ban.who)
        if channel is not None:
            close = partial(channel.close, Reason.BANNED, retry_after=ban.expires - ban.since)
            self.greenlets.add(spawn("ban", close))
        if ban.who in self.queue:
            self.queue[ban.who].reject(reason=Reason.BANNED)
        self.events.peer_banned.fire(ban)

    def _open(self, control: ChannelControl) -> None:
        channel = control.channel
        control.open(trusted=bool(self._policy.trusts(channel.peer)))
        replaced = self.channels.add(control)
        if replaced is not None:
            replaced.supersede()
        self.known_peers.note(channel.peer, dialled=channel.dialled)
        self.events.peer_added.fire(channel)
        if self.trust_protocol is not None and self._policy.run_default_trust_protocol:
            channel.spawn(self.trust_protocol, channel)

    def _is_full(self) -> bool:
        config = self.config
        # Those about whom a listener takes its time are neither in the queue nor in the table.
        undecided = self.arbiter.undecided > config.max_handshakes + config.max_pending
        return undecided or not self._has_room() or len(self.queue) >= config.max_pending

    def _has_room(self) -> bool:
        """Whether another inbound peer may come: a session without a connection keeps nobody out who is there."""
        channels, most = self.channels, self.config.max_inbound
        return channels.inbound < most or (most > 0 and bool(channels.detached))

    def _make_room(self) -> None:
        """Have a session without a connection give way to a peer that is let in."""
        # Another one may be let in while those are told who listen; each turn ends a session, so there is an end.
        while self.channels.inbound >= self.config.max_inbound and (detached := self.channels.detached):
            detached[0].expire()

    def _check_again(self, attempt: IncomingPeerConnectionAttempt) -> None:
        """A decision takes time; what was true before it may not be true after it."""
        decision = self._policy.admits(attempt.peer)
        if attempt.channel.state is not ChannelState.PENDING:
            attempt.overrule(attempt.channel.reason or Reason.CONNECTION_LOST)
        elif self.closing:
            attempt.overrule(Reason.SHUTDOWN)
        elif not decision:
            attempt.overrule(reason_for(decision))
        elif self.bans.time_left(attempt.peer):
            attempt.overrule(Reason.BANNED)
        elif self.arbiter.find_better(attempt.peer, dialled=False) is not None:
            attempt.overrule(Reason.DUPLICATE)
        elif not self._has_room():
            attempt.overrule(Reason.BUSY)


def reason_for(decision: Decision) -> Reason:
    """What a peer is told that the policy does not admit."""
    return Reason.BLOCKED if decision.rule.startswith("blocked") else Reason.NOT_ALLOWED


def _release(introduced: HandshakeResult) -> None:
    if introduced.claim is not None:
        introduced.claim.release()
