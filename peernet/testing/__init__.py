"""What tests of programs on peernet need: faults on the way, books that must agree, and transports without sockets.

It is as public as the rest of peernet; the documentation has a page on it.
"""

from __future__ import annotations

from peernet.testing.faults import Direction, Faults
from peernet.testing.ledger import Ledger, LedgerError, Rule, Violation
from peernet.testing.proxy import FaultProxy, ProxiedConnection
from peernet.testing.resources import Resources
from peernet.testing.simulation import Occurrence, SimulatedNetwork
from peernet.transport.memory import MemoryTransport, memory_pair

__all__ = [
    "Direction",
    "FaultProxy",
    "Faults",
    "Ledger",
    "LedgerError",
    "MemoryTransport",
    "Occurrence",
    "ProxiedConnection",
    "Resources",
    "Rule",
    "SimulatedNetwork",
    "Violation",
    "memory_pair",
]
