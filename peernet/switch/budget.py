"""Budget: how much all channels of a node may hold together. It only counts; what they hold is passed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

# Beyond this many times the limit, for so long, waiting has not helped, and somebody has to go. Seconds.
FAR_OVER = 1.25
PATIENCE = 3.0

T = TypeVar("T")


@dataclass(frozen=True)
class Holding(Generic[T]):
    """What one channel holds.

    Attributes:
        channel: whose it is.
        size: bytes, the contents included.
        contents: what of it other channels may hold as well: the same objects, which take up memory once.
        trusted: whether it is closed only when there is nobody else left to close.
    """

    channel: T
    size: int
    contents: Collection[bytes] = ()
    trusted: bool = False


@dataclass(frozen=True)
class Verdict(Generic[T]):
    """What to do about too much.

    Attributes:
        crowding: who holds more than an equal share of the budget.
        closed: whom to close, in this order.
    """

    crowding: list[T] = field(default_factory=list)
    closed: list[T] = field(default_factory=list)


class Budget:
    """The memory of one node for what is on its way from and to peers.

    Args:
        limit: bytes.

    Attributes:
        held: bytes held at the last count, and granted since.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._granted: Sequence[bytes] = ()
        self._far_over_since: float | None = None

    @property
    def exceeded(self) -> bool:
        """Whether more is held than may be."""
        return self.held > self.limit

    def grant(self, size: int, contents: Sequence[bytes] = ()) -> bool:
        """Whether somebody may hold so many bytes more. They count as held until the next count.

        Of ``contents``, which are among them, counts what was not among those of the last grant: a broadcast
        gives the same to one after the other.
        """
        again = sum(len(content) for content in contents if any(content is one for one in self._granted))
        size = max(0, size - again)
        if self.held + size > self.limit:
            return False
        self.held += size
        self._granted = contents
        return True

    def count(self, total: int) -> None:
        """Take note that ``total`` bytes are held, which is within the limit."""
        self.held = total
        self._granted = ()
        self._far_over_since = None

    def judge(self, holdings: Sequence[Holding[T]], now: float) -> Verdict[T]:
        """Count exactly, and say what to do if it is too much.

        Args:
            holdings: of all channels.
            now: monotonic seconds.
        """
        sizes = without_repetitions(holdings)
        self.held = sum(sizes)
        self._granted = ()
        waited = self._far_over_for(now)
        if not self.exceeded:
            return Verdict()
        share = self.limit / len(holdings)
        crowding = [holding.channel for holding, size in zip(holdings, sizes, strict=True) if size > share]
        return Verdict(crowding, self._largest(holdings, sizes) if waited >= PATIENCE else [])

    def _far_over_for(self, now: float) -> float:
        if self.held <= FAR_OVER * self.limit:
            self._far_over_since = None
            return 0.0
        if self._far_over_since is None:
            self._far_over_since = now
        return now - self._far_over_since

    def _largest(self, holdings: Sequence[Holding[T]], sizes: list[int]) -> list[T]:
        """Those without whom the budget would be kept: one after the other who holds most, the trusted last."""
        order = sorted(range(len(sizes)), key=lambda index: (holdings[index].trusted, -sizes[index]))
        closed, left = [], self.held
        for index in order:
            if left <= self.limit:
                break
            closed.append(holdings[index].channel)
            left -= sizes[index]
        return closed


def without_repetitions(holdings: Sequence[Holding[T]]) -> list[int]:
    """The bytes that each holding takes up, where a content that many hold counts for each with a part."""
    holders = Counter(map(id, chain.from_iterable(holding.contents for holding in holdings)))
    repeated = {key: count for key, count in holders.items() if count > 1}
    if not repeated:
        return [holding.size for holding in holdings]
    return [holding.size - _not_its_part(holding.contents, repeated) for holding in holdings]


def _not_its_part(contents: Iterable[bytes], repeated: dict[int, int]) -> int:
    """Of contents that so many hold: the bytes that count for the others."""
    shared = ((len(content), repeated[id(content)]) for content in contents if id(content) in repeated)
    return sum(size - size // count for size, count in shared)
