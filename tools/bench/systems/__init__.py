"""The systems that are compared: one module each, with ``listen_X`` and ``dial_X`` per scenario X.

An implementation is an object whose methods take a ``child.Side``. In the one-way
scenarios the listening side receives. What a module cannot do it simply has no
method for; the report then shows a dash for that scenario.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

STREAMS = ("small", "rtt", "bulk")
# What CPU time is compared with: the least that TLS on gevent takes.
BARE = "gevent-pyopenssl"


@dataclass(frozen=True)
class System:
    name: str
    target: str  # "module:object" below this package
    scenarios: tuple[str, ...]
    requires: tuple[str, ...]
    note: str

    def missing(self) -> list[str]:
        """The required modules that are not installed."""
        return [name for name in self.requires if find_spec(name) is None]

    def load(self) -> Any:
        module, _, name = self.target.partition(":")
        return getattr(import_module(f"{__name__}.{module}"), name)


_ALL = (
    System(
        "peernet-tls", "peernet_node:TLS", (*STREAMS, "idle", "broadcast"), ("gevent", "OpenSSL"),
        "peernet, mutual TLS 1.3; rtt: the callback that gets the answer sends the next ping",
    ),
    System(
        "peernet-tls-wait", "peernet_node:TLS_WAITING", ("rtt",), ("gevent", "OpenSSL"),
        "peernet, mutual TLS 1.3; rtt: the main greenlet sends and waits until a callback hands it the answer",
    ),
    System(
        "peernet-tls-unsure", "peernet_node:TLS_UNSURE", ("small",), ("gevent", "OpenSSL"),
        "peernet, mutual TLS 1.3, without sessions: nothing is acknowledged, kept or sent again",
    ),
    System(
        "peernet-tls-x25519", "peernet_node:TLS_X25519", ("idle",), ("gevent", "OpenSSL"),
        "peernet, mutual TLS 1.3 whose keys are agreed on with X25519 alone",
    ),
    System(
        "peernet-plain", "peernet_node:PLAIN", (*STREAMS, "idle", "broadcast"), ("gevent",),
        "peernet with insecure=True: plain TCP",
    ),
    System(
        "gevent", "raw_gevent:PLAIN", STREAMS, ("gevent",),
        "bare gevent sockets, one greenlet a side, varint frames; small frames leave 64 KiB at a time",
    ),
    System(
        "sockets", "raw_blocking:PLAIN", STREAMS, (),
        "bare blocking sockets, otherwise as above",
    ),
    System(
        "pyopenssl", "raw_blocking:TLS", STREAMS, ("OpenSSL",),
        "pyOpenSSL on blocking sockets, mutual TLS 1.3, Ed25519, otherwise as above",
    ),
    System(
        BARE, "raw_gevent:TLS", (*STREAMS, "idle"), ("gevent", "OpenSSL"),
        "pyOpenSSL on gevent sockets: tries first, waits on WantReadError",
    ),
    System(
        "pyzmq", "zmq_protobuf:PLAIN", STREAMS, ("zmq",),
        "pyzmq, blocking, no encryption: PUSH/PULL one way, REQ/REP round trip; nothing dropped",
    ),
    System(
        "asyncio", "asyncio_streams:ASYNCIO", STREAMS, (),
        "asyncio streams, no encryption, varint frames; small frames leave 64 KiB at a time",
    ),
    System(
        "uvloop", "asyncio_streams:UVLOOP", STREAMS, ("uvloop",),
        "as above on uvloop",
    ),
    System(
        "grpcio", "grpc_streams:PLAIN", STREAMS, ("grpc",),
        "grpcio, synchronous, insecure channel: client streaming one way, bidirectional round trip",
    ),
    System(
        "zerorpc", "zerorpc_calls:PLAIN", STREAMS, ("zerorpc",),
        "zerorpc, no encryption: Pusher/Puller one way, Client/Server round trip",
    ),
    System(
        "zenoh", "zenoh_peers:PLAIN", ("small", "rtt"), ("zenoh",),
        "zenoh (eclipse-zenoh), two peers, no encryption: publisher and subscriber, blocking when congested",
    ),
)  # fmt: skip

SYSTEMS = {system.name: system for system in _ALL}
