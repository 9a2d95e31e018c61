"""Two peers talk while their connection breaks in every way: no packet may be lost, doubled or swapped."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gevent
from gevent.event import Event as Flag

from peernet.channel.channel import PeerChannel
from peernet.channel.receipts import Receipt
from peernet.config import NetworkConfig
from peernet.network import PeerNetwork
from peernet.runtime.greenlets import spawn
from peernet.testing import Direction, FaultProxy, Faults, Ledger, LedgerError, ProxiedConnection, Rule
from peernet.v1.packet_pb2 import PureMessagePacket
from tools.chaos.figures import Figure, all_of, none_of, percentile
from tools.chaos.traffic import LIMITS

LONG: dict[str, Any] = {"packets": 100_000, "cuts": 200}
SHORT: dict[str, Any] = {"packets": 3_000, "cuts": 10}

# Until packets pass again after a fault: a random moment below a second, and the handshake. Seconds.
RECOVERY_LIMIT = 3.0
# How long a broken connection stays as it is before it is healed or killed, and how long two peers may
# talk in between. Seconds, at most; the moment is random.
FAULT_LASTS = 1.0
CALM = 0.1
# A mid-frame cut comes after at most so many bytes.
CUT_WITHIN = 20_000
# Longer than any recovery may take: then the run is broken. Seconds.
PATIENCE = 60.0
# A talker pauses for so many seconds after so many packets, so that it talks all through the calm.
BURST = 25
PAUSE = 0.005

# What it means that a rule of the books is broken.
BROKEN = {
    Rule.ACCEPTED: "packets that nobody sent",
    Rule.ONCE: "packets delivered twice",
    Rule.ORDERED: "packets out of order",
    Rule.KEPT: "packets acknowledged and not delivered",
    Rule.RESOLVED: "packets left open",
    Rule.RESOLVED_ONCE: "packets that ended twice",
    Rule.RELEASED: "resources left behind",
}

SWALLOW = Faults(swallow_fin=True)
OTHER_WAY = {Direction.UPSTREAM: Direction.DOWNSTREAM, Direction.DOWNSTREAM: Direction.UPSTREAM}


class Scenario:
    """Two networks, the proxy between them, and the books.

    Args:
        seed: of everything that is random here.
        config: of both networks; the default if not given.
        insecure: without TLS.
    """

    def __init__(self, seed: int, config: NetworkConfig | None = None, *, insecure: bool = False) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.ledger = Ledger()
        self.kinds: Counter[str] = Counter()
        self.recoveries: list[float] = []
        self._options: dict[str, Any] = {
            "config": config or NetworkConfig(**LIMITS),
            "insecure": insecure,
            "network_name": "cuts",
        }
        self._more = Flag()
        self._allowed = 0

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Run both networks, and connect them through the proxy."""
        with ExitStack() as stack:
            bob = stack.enter_context(PeerNetwork(listen=["127.0.0.1:0"], **self._options))
            alice = stack.enter_context(PeerNetwork(**self._options))
            for network in (alice, bob):
                network.handlers["pure_message"] = lambda channel, packet: None  # the ledger looks at it before
            self.proxy = stack.enter_context(FaultProxy(bob.addresses[0], seed=self.seed))
            for network in (alice, bob):
                self.ledger.watch(network)
            self.near = alice.connect(self.proxy.address)
            wait_for(lambda: bob.channel_to(alice.identifier) is not None, "the channel of the other side")
            self.far = bob.active_peer_channels[0]
            yield

    def talk(self, packets: int, cuts: int) -> None:
        """Send so many numbered packets each way, a share of them around each cut."""
        talkers = [spawn("talker", self._send_all, channel, packets) for channel in (self.near, self.far)]
        try:
            for number in range(cuts):
                self._allow(packets * (number + 1) // cuts)
                self.cut()
            self._allow(packets)
            gevent.joinall(talkers)
        finally:
            gevent.killall(talkers)

    def cut(self) -> None:
        """One fault of a random kind, and the time until packets pass again both ways, from its end."""
        gevent.sleep(self.rng.uniform(0, CALM))
        fault = self.rng.choice(FAULTS)
        self.kinds[fault.__name__] += 1
        fault(self)
        began = time.monotonic()
        for receipt in self._probe():
            settled(receipt)
        self.recoveries.append(time.monotonic() - began)

    def fault_lasts(self) -> None:
        """Leave things as they are for a random time."""
        gevent.sleep(self.rng.uniform(0, FAULT_LASTS))

    def any_direction(self) -> Direction:
        """One of the two, at random."""
        return self.rng.choice(list(Direction))

    def _probe(self) -> list[Receipt]:
        """A packet each way, sent after the fault has ended."""
        number = len(self.recoveries)
        return [
            self.ledger.send(channel, PureMessagePacket(message=f"probe {number}"), timeout=PATIENCE)
            for channel in (self.near, self.far)
        ]

    def _allow(self, packets: int) -> None:
        self._allowed = packets
        self._more.set()
        self._more = Flag()

    def _send_all(self, channel: PeerChannel, packets: int) -> None:
        for number in range(packets):
            while number >= self._allowed:
                self._more.wait()
            self.ledger.send(channel, PureMessagePacket(message=str(number)), timeout=PATIENCE)
            if number % BURST == 0:
                gevent.sleep(PAUSE)


# The faults. Each returns when it has ended, and the connection has to recover.


def reset(scenario: Scenario) -> None:
    """Both sides are told at once."""
    scenario.proxy.reset()


def mid_frame(scenario: Scenario) -> None:
    """A reset after so many bytes of one direction, which lie in the middle of a frame most likely."""
    cuts = scenario.proxy.counters["cuts"]
    scenario.proxy.cut_after(scenario.rng.randrange(CUT_WITHIN), scenario.any_direction())
    ends = time.monotonic() + FAULT_LASTS
    while scenario.proxy.counters["cuts"] == cuts and time.monotonic() < ends:
        gevent.sleep(0.001)
    if scenario.proxy.counters["cuts"] == cuts:  # there was too little to say
        scenario.proxy.reset()


def half_reset(scenario: Scenario) -> None:
    """One side is told with a reset, and the other one is not."""
    connection, told = scenario.proxy.connections[0], scenario.any_direction()
    connection.reset(told)
    leave_half_open(scenario, connection, told)


def stall(scenario: Scenario) -> None:
    """Nothing passes for a while, in one direction or both; then everything does."""
    scenario.proxy.freeze(scenario.rng.choice([None, *Direction]))
    scenario.fault_lasts()
    scenario.proxy.thaw()


def half_open(scenario: Scenario) -> None:
    """Nothing passes for a while; then both sides are told that it was cut."""
    scenario.proxy.freeze()
    scenario.fault_lasts()
    scenario.proxy.reset()


def swallowed_fin(scenario: Scenario) -> None:
    """One side is told in order that the stream has ended, and the other one is not."""
    connection, told = scenario.proxy.connections[0], scenario.any_direction()
    connection.set_faults(SWALLOW, OTHER_WAY[told])
    connection.end(told)
    leave_half_open(scenario, connection, told)


def leave_half_open(scenario: Scenario, connection: ProxiedConnection, told: Direction) -> None:
    """The side that has dialled brings the connection back if it was told; else it has to be told after a while."""
    if told is Direction.UPSTREAM:
        scenario.fault_lasts()
        connection.reset()


FAULTS: list[Callable[[Scenario], None]] = [reset, mid_frame, half_reset, stall, half_open, swallowed_fin]


def settled(receipt: Receipt) -> None:
    """Wait until a packet has its end.

    Raises:
        RuntimeError: it has none in time.
    """
    if not receipt.wait(PATIENCE):
        raise RuntimeError(f"{receipt!r} after {PATIENCE} s: the connection did not recover")


def wait_for(predicate: Callable[[], object], what: str) -> None:
    """Let others run until ``predicate()`` is true.

    Raises:
        RuntimeError: it is not in time.
    """
    ends = time.monotonic() + PATIENCE
    while not predicate():
        if time.monotonic() >= ends:
            raise RuntimeError(f"waited {PATIENCE} s in vain for {what}")
        gevent.sleep(0.001)


def broken_rules(ledger: Ledger) -> Counter[Rule]:
    """How often each rule of the books is broken, when everything had the time to end."""
    try:
        ledger.check(timeout=5)
    except LedgerError as error:
        print(error, file=sys.stderr)
        return Counter(violation.rule for violation in error.violations)
    return Counter()


def run(
    *, seed: int, packets: int, cuts: int, config: NetworkConfig | None = None, insecure: bool = False
) -> list[Figure]:
    """Talk, cut, and check the books.

    Args:
        seed: of everything that is random here.
        packets: how many numbered packets each side sends.
        cuts: how many faults the connection suffers meanwhile.
        config: of both networks; ``None`` means the default.
        insecure: without TLS.

    Raises:
        RuntimeError: the connection did not recover.
    """
    gevent.get_hub().threadpool.apply(lambda: None)  # what gevent opens once and keeps is no leak
    scenario = Scenario(seed, config, insecure=insecure)
    scenario.ledger.measure_baseline()
    with scenario.connected():
        scenario.talk(packets, cuts)
        wait_for(lambda: not scenario.ledger.totals()["pending"], "the last acknowledgements")
    return figures(scenario, 2 * (packets + cuts))


def figures(scenario: Scenario, sent: int) -> list[Figure]:
    """What has come out of a run in which so many packets were sent."""
    totals, broken, recoveries = scenario.ledger.totals(), broken_rules(scenario.ledger), scenario.recoveries
    return [
        all_of("packets acknowledged", totals["acknowledged"], sent),
        all_of("packets delivered", totals["delivered"], sent),
        *(none_of(what, broken[rule]) for rule, what in BROKEN.items()),
        *(Figure(f"faults: {kind.replace('_', ' ')}", count) for kind, count in sorted(scenario.kinds.items())),
        Figure("connections", scenario.proxy.counters["accepted"], at_least=2),
        Figure("until packets pass again: median", percentile(recoveries, 50), "s"),
        Figure("until packets pass again: p99", percentile(recoveries, 99), "s", at_most=RECOVERY_LIMIT),
        Figure("until packets pass again: longest", max(recoveries), "s"),
    ]
