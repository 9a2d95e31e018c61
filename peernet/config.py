"""NetworkConfig: every limit and timeout, one named value each, with its reason."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from peernet.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB

# A sender keeps no more packets unacknowledged, because a receiver remembers no more refusals (docs/protocol.rst).
MAX_UNACKNOWLEDGED = 8192
# The longest network name, so that a hello fits into the smallest frame. Bytes.
MAX_NETWORK_NAME = 255
# What a message shows of a value that is wrong. Characters.
MAX_SHOWN = 60
# How two ends of a TLS connection agree on a key (peernet.transport.tls).
KEY_EXCHANGES = ("hybrid", "x25519")


def _limit(default: float, unit: str, at_limit: str, *, least: float = 0, most: float = sys.float_info.max) -> Any:
    metadata = {"unit": unit, "at_limit": at_limit, "least": least, "most": most}
    return dataclasses.field(default=default, metadata=metadata)


def _choice(choices: tuple[str, ...], effect: str) -> Any:
    """One of some words; the first is the default."""
    return dataclasses.field(
        default=choices[0], metadata={"unit": " or ".join(choices), "at_limit": effect, "choices": choices}
    )


def _switch(default: bool, effect: str) -> Any:
    return dataclasses.field(default=default, metadata={"unit": "true or false", "at_limit": effect})


@dataclass(frozen=True)
class NetworkConfig:
    """Limits and timeouts of one network. Immutable; ``dataclasses.replace`` makes variants.

    Times are seconds and sizes bytes. :func:`limits` lists them with their units and
    with what happens at each.

    Raises:
        ConfigurationError: a value is of the wrong type, too small, or contradicts another.
    """

    # Frames. 1 MiB is what NATS and websockets allow; a control packet of 64 KiB
    # already costs up to 19 ms to parse when it is made of empty sub-messages. From
    # 2 GiB on protobuf itself gives up.
    max_frame: int = _limit(1 * MIB, "bytes", "connection closed: frame_too_big", least=4 * KIB, most=2048 * MIB - 1)
    max_control_packet: int = _limit(64 * KIB, "bytes", "connection closed: frame_too_big", least=1 * KIB)

    # A frame that is begun and not finished holds its buffer, so it has to come on: 1 KiB/s, averaged over this time.
    frame_timeout: float = _limit(30.0, "seconds", "connection closed if slower than 1 KiB/s: timeout", least=0.1)

    # Before the handshake is done a stranger gets next to nothing: one frame is looked at, and no more bytes are
    # read than it may have (RabbitMQ and libp2p allow 4 KiB frames there, libp2p 8 to 10 of them; 10 s is what
    # syncthing and RabbitMQ wait). Strangers are few (sshd: 10:30:100; libp2p: 32, and 8 for each source), and
    # nobody who comes is refused for somebody who has had the time for several round trips to the other end
    # of the world and is not done.
    max_handshake_frame: int = _limit(4 * KIB, "bytes", "connection closed: frame_too_big", least=512, most=16 * KIB)
    handshake_timeout: float = _limit(10.0, "seconds", "connection closed: handshake_timeout", least=0.1)
    max_handshakes: int = _limit(
        64,
        "connections not introduced yet",
        "the oldest gives way: handshake_gave_way; if none is old: refused_too_many_strangers",
        least=1,
    )
    early_drop_from: int = _limit(
        32, "connections not introduced yet", "more and more often as at max_handshakes: refused_early_drop", least=1
    )
    max_handshakes_per_address: int = _limit(
        8, "connections for each IPv4 address or IPv6 /56", "new connection closed: refused_address_limit", least=1
    )
    handshake_grace: float = _limit(0.5, "seconds", "a handshake may have to give way to another one", least=0)

    # A client that comes back at once after each refusal needs no more; the burst is for those who share an address.
    accept_rate: float = _limit(
        20.0,
        "connections a second for each IPv4 address or IPv6 /56",
        "new connection closed: refused_accept_rate",
        least=0.001,
    )
    accept_burst: int = _limit(40, "connections at once", "accept_rate holds", least=1)
    max_accept_sources: int = _limit(4096, "sources", "the one not seen for longest is forgotten", least=1)
    allow_loopback_burst: bool = _switch(False, "true: no limits for each address on 127.0.0.0/8 and ::1")

    # For the log, the files and other connections. Without descriptors nothing works any more.
    descriptor_reserve: int = _limit(
        64, "descriptors, or a quarter of all", "new connection closed: refused_no_descriptors", least=0
    )

    # Bitcoin allows 125 channels together, libp2p starts at 64 and 128.
    max_inbound: int = _limit(128, "channels", "new connection refused: busy", least=0)
    max_outbound: int = _limit(16, "channels that this side has dialled", "no more are dialled unasked", least=0)

    # A quantum computer could read recorded connections if their keys were agreed on with X25519 alone. The hybrid
    # needs ML-KEM-768 as well, which costs 7 KiB for each open connection and 2.3 KB more in its handshake.
    key_exchange: str = _choice(
        KEY_EXCHANGES, "x25519: smaller, but what is recorded may be read with a later quantum computer"
    )

    # Pending decisions hold a socket each.
    max_pending: int = _limit(64, "connections", "new connection refused: busy", least=1)
    decision_timeout: float = _limit(60.0, "seconds", "pending peer refused: decision_timeout", least=0.1)

    # The outbox, if no session is kept; else its limits hold. A slow reader may cost 4 MiB; the last
    # quarter is for packets that callbacks send, which must not wait on their own channel.
    outbox_packets: int = _limit(256, "packets", "send() waits; try_send() refuses", least=1)
    outbox_bytes: int = _limit(3 * MIB, "bytes", "send() waits; try_send() refuses", least=64 * KIB)
    outbox_reserve_packets: int = _limit(256, "packets", "send() in a callback raises OutboxFullError", least=1)
    outbox_reserve_bytes: int = _limit(1 * MIB, "bytes", "send() in a callback raises OutboxFullError", least=4 * KIB)
    send_timeout: float = _limit(10.0, "seconds", "send() raises SendTimeout", least=0)
    write_timeout: float = _limit(10.0, "seconds without progress", "connection closed: timeout", least=0.1)

    # Sessions. What a lost connection may keep waiting, and how much of it; acknowledgements
    # come behind what the peer has sent before, so that callbacks who answer every packet
    # need as much room again. A packet costs some bytes beside its own, so their number keeps a
    # slow reader below 4 MiB, however small they are. libp2p and NATS keep nothing.
    # Towards a peer that asks for the acknowledgements it waits for, the others come 40 to 80 times later.
    session_ttl: float = _limit(300.0, "seconds; 0 keeps no sessions", "channel closed: expired", least=0)
    session_packets: int = _limit(4096, "packets not acknowledged", "send() waits; try_send() refuses", least=1)
    session_bytes: int = _limit(3 * MIB, "bytes not acknowledged", "send() waits; try_send() refuses", least=64 * KIB)
    session_reserve_packets: int = _limit(4096, "packets", "send() in a callback raises OutboxFullError", least=1)
    session_reserve_bytes: int = _limit(5 * MIB, "bytes", "send() in a callback raises OutboxFullError", least=4 * KIB)
    acknowledge_after: float = _limit(0.025, "seconds", "an acknowledgement is sent on its own", least=0.001, most=0.05)

    # All channels together, because what one may keep times their number is more than a machine has. Beyond it for
    # some seconds, by a quarter, waiting has not helped.
    buffer_budget: int = _limit(
        256 * MIB,
        "bytes held for all channels",
        "send() waits, reading slows: buffers_exceeded; then the largest channel is closed: slow_peer",
        least=1 * MIB,
    )

    # The durable outbox: what may wait in its file, and how much of it is under way to one peer.
    # A receiver remembers as many ids to know repetitions. A removal waits for the disk, some ms.
    durable_packets: int = _limit(100_000, "packets", "send(durable=True) raises OutboxFullError", least=1)
    durable_bytes: int = _limit(256 * MIB, "bytes", "send(durable=True) raises OutboxFullError", least=64 * KIB)
    durable_packets_per_peer: int = _limit(10_000, "packets", "send(durable=True) raises OutboxFullError", least=1)
    durable_bytes_per_peer: int = _limit(64 * MIB, "bytes", "send(durable=True) raises OutboxFullError", least=64 * KIB)
    durable_window: int = _limit(256, "packets not acknowledged", "stored packets wait", least=1, most=4096)

    # A packet whose callback fails. The pauses double from backoff_base on, so that ten attempts take some nine
    # minutes: time enough for a database to come back, and little enough to tell somebody of a packet that never works.
    durable_attempts: int = _limit(10, "failed calls of the peer's callback", "the packet is set aside", least=1)
    durable_backoff_cap: float = _limit(
        600.0, "seconds", "longest wait before a packet is sent again whose callback failed", least=0.01
    )

    # Liveness: three missed half-intervals would be noise, thirty silent seconds are death.
    # A hello tells the interval in 32 bits of milliseconds.
    heartbeat_interval: float = _limit(15.0, "seconds", "a heartbeat is sent", least=0.05, most=30 * 86_400)
    dead_after: float = _limit(30.0, "seconds without a byte", "channel closed: timeout", least=0.1)

    # Fairness: without a pause one flooding peer froze the whole process; with one
    # every 64 frames an honest peer's p99 was 5.5 ms beside 1.6 M frames/s.
    frames_per_turn: int = _limit(64, "frames", "the reader lets other greenlets run", least=1)
    seconds_per_turn: float = _limit(0.005, "seconds", "the reader lets other greenlets run", least=0.0001)

    # Callbacks that block. As many as gevent itself keeps for names and files.
    callback_threads: int = _limit(10, "threads", "other callbacks with threadpool=True wait", least=1, most=1000)
    # Nobody who writes texts needs so many; a flooder costs a twentieth of a core. Each KiB counts as a frame more.
    untrusted_frame_rate: float = _limit(
        2000.0, "frames a second from an untrusted peer; 0 for no limit", "reading waits: throttled", least=0
    )
    untrusted_frame_burst: int = _limit(4000, "frames at once", "untrusted_frame_rate holds", least=1)

    # Dialling.
    connect_timeout: float = _limit(10.0, "seconds", "connect() raises ConnectTimeout", least=0.1)
    connect_attempts: int = _limit(3, "attempts", "connect() raises the last attempt's error", least=1)
    backoff_base: float = _limit(
        1.0, "seconds", "shortest wait between attempts; the longest doubles each time", least=0.01
    )
    backoff_cap: float = _limit(60.0, "seconds", "longest wait between two attempts", least=0.01)
    # Ten times in thirty of them, if no connection holds; see peernet.connections.dial_history.
    redial_interval: float = _limit(
        1.0, "seconds", "a lost peer, or an address that holds no connection, is dialled no more often", least=0.01
    )
    max_redials: int = _limit(8, "connections", "other lost peers wait for their turn", least=1, most=MIB)
    healthy_after: float = _limit(60.0, "seconds", "earlier failures to redial are forgotten", least=0)
    duplicate_patience: float = _limit(2.0, "seconds", "a silent connection gives way to a new one", least=0.05)

    # Goodbyes and stopping.
    close_timeout: float = _limit(2.0, "seconds", "what was not flushed is given up", least=0)

    # Misbehaviour. What is malformed counts 100 points, what is too much 10. Bitcoin Core
    # discourages at 100, and cometbft bans for 24 h; an address may be shared by many.
    ban_score: float = _limit(100.0, "points", "the peer is banned", least=1)
    score_decay: float = _limit(1.0, "points per minute", "so many points are forgiven", least=0)
    ban_time: float = _limit(86_400.0, "seconds", "a banned identifier may come back", least=1, most=365 * 86_400)
    address_ban_time: float = _limit(900.0, "seconds", "a banned address may come back", least=1, most=365 * 86_400)

    # Tables keyed by what peers say or do.
    max_bans: int = _limit(4096, "bans", "the ban met with least recently is lifted", least=1)
    max_scores: int = _limit(4096, "peers and addresses", "the oldest misbehaviour is forgotten", least=1)
    max_known_peers: int = _limit(4096, "peers", "the peer not seen for longest is forgotten", least=1)
    max_addresses_per_peer: int = _limit(8, "addresses", "the oldest address is forgotten", least=1)
    known_peer_ttl: float = _limit(30 * 86_400.0, "seconds not seen", "the peer is forgotten", least=1)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_value(field, getattr(self, field.name))
        _check_order(self, "max_handshake_frame", "max_control_packet", "max_frame")
        _check_order(self, "heartbeat_interval", "dead_after")
        _check_order(self, "backoff_base", "backoff_cap")
        _check_order(self, "backoff_base", "durable_backoff_cap")
        if self.outbox_bytes + self.outbox_reserve_bytes < self.max_frame:
            raise ConfigurationError("outbox_bytes + outbox_reserve_bytes must hold a frame of max_frame bytes")
        if self.session_bytes + self.session_reserve_bytes < self.max_frame:
            raise ConfigurationError("session_bytes + session_reserve_bytes must hold a frame of max_frame bytes")
        if self.session_packets + self.session_reserve_packets > MAX_UNACKNOWLEDGED:
            raise ConfigurationError(f"session_packets + session_reserve_packets must not exceed {MAX_UNACKNOWLEDGED}")
        if self.buffer_budget < self.max_frame:
            raise ConfigurationError("buffer_budget must hold a frame of max_frame bytes")

    @property
    def tick_interval(self) -> float:
        """Seconds between two looks at every channel. Each timeout is noticed within a quarter of it, or a second."""
        shortest = min(self.heartbeat_interval, self.dead_after, self.write_timeout, self.session_ttl or 4.0)
        return min(1.0, shortest / 4)

    @classmethod
    def from_mapping(cls, values: dict[str, Any], profile: str = "default") -> NetworkConfig:
        """A configuration from a mapping such as a TOML table.

        Args:
            values: by name.
            profile: where the values come from that are not in the mapping.

        Raises:
            ConfigurationError: an unknown name or an impossible value.
        """
        mistakes = find_mistakes(values, profile)
        if mistakes:
            raise ConfigurationError(mistakes[0])
        return cls(**(PROFILES[profile] | values))

    @classmethod
    def profile(cls, name: str, **changes: Any) -> NetworkConfig:
        """The configuration ``tiny``, ``default`` or ``server``, with some values changed.

        Raises:
            ConfigurationError: an unknown name or an impossible value.
        """
        return cls.from_mapping(changes, name)


def check_network_name(name: object) -> None:
    """
    Raises:
        ConfigurationError: this cannot be the name of a network.
    """
    try:
        size = len(name.encode()) if isinstance(name, str) else 0
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_NETWORK_NAME:
        raise ConfigurationError(
            f"network_name must be a text of 1 to {MAX_NETWORK_NAME} bytes of UTF-8, not {brief(name)}"
        )


def find_mistakes(values: dict[str, Any], profile: str = "default") -> list[str]:
    """A sentence for each thing that is wrong with what is to become a :class:`NetworkConfig`."""
    if profile not in PROFILES:
        return [f"there is no profile {profile!r}; there are {', '.join(PROFILES)}"]
    fields = {field.name: field for field in dataclasses.fields(NetworkConfig)}
    mistakes = [
        f"unknown limit {name!r}; `peernet-node limits` lists them all" for name in sorted(set(values) - set(fields))
    ]
    for name, field in fields.items():
        try:
            _check_value(field, values.get(name, field.default))
        except ConfigurationError as error:
            mistakes.append(str(error))
    if mistakes:
        return mistakes
    try:
        NetworkConfig(**(PROFILES[profile] | values))
    except ConfigurationError as error:  # values that contradict each other
        return [str(error)]
    return []


@dataclass(frozen=True)
class Limit:
    """One row of :func:`limits`."""

    name: str
    value: float | str
    default: float | str
    unit: str
    at_limit: str


def limits(config: NetworkConfig) -> list[Limit]:
    """Every limit with its value, default, unit and what happens when it is reached."""
    return [
        Limit(
            field.name,
            getattr(config, field.name),
            field.default,  # type: ignore[arg-type]  # _limit always gives one
            field.metadata["unit"],
            field.metadata["at_limit"],
        )
        for field in dataclasses.fields(config)
    ]


def brief(value: object) -> str:
    """A value as it is written, cut to what fits into a message."""
    try:
        text = repr(value)
    except ValueError:  # of a number with thousands of digits
        return "such a long number"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def _check_value(field: dataclasses.Field[Any], value: object) -> None:
    if isinstance(field.default, bool):
        if not isinstance(value, bool):
            raise ConfigurationError(f"{field.name} must be true or false, not {brief(value)}")
        return
    if isinstance(field.default, str):
        if value not in field.metadata["choices"]:
            raise ConfigurationError(f"{field.name} must be {field.metadata['unit']}, not {brief(value)}")
        return
    wanted = (int,) if isinstance(field.default, int) else (int, float)
    if not isinstance(value, wanted) or isinstance(value, bool):
        kind = "a whole number" if wanted == (int,) else "a number"
        raise ConfigurationError(f"{field.name} must be {kind} of {field.metadata['unit']}, not {brief(value)}")
    least, most, unit = field.metadata["least"], field.metadata["most"], field.metadata["unit"]
    if not value >= least:  # also refuses NaN
        raise ConfigurationError(f"{field.name} must be at least {least} {unit}, not {brief(value)}")
    if value > most:
        bound = f"at most {most:.0f} {unit}" if most < sys.float_info.max else f"a finite number of {unit}"
        raise ConfigurationError(f"{field.name} must be {bound}, not {brief(value)}")


def _check_order(config: NetworkConfig, *names: str) -> None:
    for smaller, larger in pairwise(names):
        if getattr(config, smaller) > getattr(config, larger):
            raise ConfigurationError(f"{smaller} must not exceed {larger}")


# Limits that fit together, for machines that are not the usual one. A profile names only what differs from the
# defaults. What a node holds at most for its peers, if all of them attack at once, is about `buffer_budget`, and
# 64 KiB for each channel.
PROFILES: dict[str, dict[str, Any]] = {
    # A Raspberry-like device: 512 MiB of memory, one slow core (20 ms for a handshake), a slow disk. Its 24
    # channels could keep 2.5 MiB each: 60 MiB, of which the budget is the half.
    "tiny": {
        "max_frame": 256 * KIB,
        "max_inbound": 16,
        "max_outbound": 8,
        "max_pending": 8,
        "max_handshakes": 16,
        "early_drop_from": 8,
        "max_handshakes_per_address": 4,
        "handshake_grace": 1.0,
        "accept_rate": 5.0,
        "accept_burst": 10,
        "max_accept_sources": 512,
        "descriptor_reserve": 32,
        "key_exchange": "x25519",
        "outbox_packets": 64,
        "outbox_bytes": 512 * KIB,
        "outbox_reserve_packets": 64,
        "outbox_reserve_bytes": 256 * KIB,
        "session_packets": 1024,
        "session_bytes": 512 * KIB,
        "session_reserve_packets": 1024,
        "session_reserve_bytes": 1280 * KIB,
        "buffer_budget": 32 * MIB,
        "untrusted_frame_rate": 200.0,
        "untrusted_frame_burst": 400,
        "max_redials": 2,
        "max_known_peers": 512,
    },
    # What NetworkConfig() is: a desktop, a laptop, or a part of another program.
    "default": {},
    # Thousands of channels: some GiB of memory, and a limit of descriptors of 8192 or more. Idle, 4,096 channels
    # need some 250 MiB. What each may keep is smaller than by default, so that 200 of them have room in the
    # budget.
    "server": {
        "max_inbound": 4096,
        "max_outbound": 256,
        "max_pending": 512,
        "max_handshakes": 256,
        "early_drop_from": 128,
        "max_accept_sources": 65_536,
        "descriptor_reserve": 256,
        "outbox_bytes": 1 * MIB,
        "session_bytes": 1 * MIB,
        "session_reserve_bytes": 2 * MIB,
        "buffer_budget": 1024 * MIB,
        "max_redials": 32,
        "max_known_peers": 65_536,
    },
}
