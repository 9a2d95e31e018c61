"""DialHistory: how often each address was dialled of late without a connection that held, for all who dial."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from peernet.config import NetworkConfig
from peernet.connections.retry import EndedConnection, has_held

# The time from one dial to the next, unless `redial_interval` is shorter; a longer one binds only those who dial on
# their own. Seconds.
INTERVAL = 1.0
# An address is dialled no more than MOST times in WINDOW intervals, and each time GAP after the last. Thirty and one
# are promised; the rest makes up for dials of which the other side learns a little late.
MOST = 10
WINDOW = 31
GAP = 1.2
# As many addresses are remembered, those dialled last: a program may dial as many as it likes.
REMEMBERED = 4096

Endpoint = tuple[str, int]
"""Host and port."""


@dataclass
class _Record:
    """The dials to one address since a connection has held there: when the last ones were, and how many in all."""

    dials: deque[float] = field(default_factory=lambda: deque(maxlen=MOST))
    failures: int = 0

    def clear(self) -> None:
        self.dials.clear()
        self.failures = 0


class DialHistory:
    """Remembers the dials of one network, so that nobody is dialled too often, whoever dials.

    A dial counts as failed until :meth:`note_end` says that its connection has held: a listener that answers the hello
    and leaves, or refuses each time, is dialled no more often than a port that nobody listens on. Time is passed in,
    in monotonic seconds.

    Args:
        config: ``redial_interval`` and ``healthy_after``.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._interval = min(INTERVAL, config.redial_interval)
        self._records: OrderedDict[Endpoint, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def time_left(self, where: Endpoint, now: float) -> float:
        """The seconds until an address may be dialled; 0 if it may be dialled now."""
        record = self._records.get(where)
        if record is None or not record.dials:
            return 0.0
        ends = record.dials[-1] + GAP * self._interval
        if len(record.dials) == MOST:
            ends = max(ends, record.dials[0] + WINDOW * self._interval)
        return max(0.0, ends - now)

    def failures(self, where: Endpoint) -> int:
        """How many dials to an address there were since a connection has held there."""
        record = self._records.get(where)
        return 0 if record is None else record.failures

    def note_dial(self, where: Endpoint, now: float) -> None:
        """An address is dialled now."""
        record = self._records.get(where) or _Record()
        self._remember(where, record)
        record.dials.append(now)
        record.failures += 1

    def note_name(self, where: Endpoint, found: Endpoint) -> None:
        """A dial to an address has led to another one, because its host is a name: what is known of both is the same.

        Somebody dials the name, and somebody else the address that a channel has been dialled at.
        """
        record = self._records.get(where)
        if record is None or where == found:
            return
        other = self._records.get(found)
        if other is not None and other is not record:
            record.dials = deque(sorted([*other.dials, *record.dials]), MOST)
            record.failures += other.failures
        self._remember(found, record)

    def note_end(self, connection: EndedConnection) -> None:
        """A connection is over; if this side has dialled it and it has held, its address has a clean record again.

        What is told again, when a channel ends that was reconnecting in vain, changes nothing: it was dialled since.
        """
        where = (connection.peer.address, connection.peer.port)
        record = self._records.get(where)
        if record is None or not connection.dialled or not has_held(connection, self._config):
            return
        if not record.dials or record.dials[-1] <= connection.connected_at:
            record.clear()

    def forgive(self, where: Endpoint) -> None:
        """Forget the dials to an address: its peer is there."""
        record = self._records.get(where)
        if record is not None:
            record.clear()

    def _remember(self, where: Endpoint, record: _Record) -> None:
        """An address is dialled, by itself or by a name: of all it is the last that is forgotten."""
        self._records[where] = record
        self._records.move_to_end(where)
        if len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
