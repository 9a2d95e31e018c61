"""File descriptors: how many a process may have, and whether they run out."""

from __future__ import annotations

try:
    import resource
except ImportError:  # Windows: there sockets are no descriptors
    resource = None  # type: ignore[assignment]

# Of a small limit, this part is kept free.
SMALL_LIMIT_PART = 4


def are_scarce(newest: int, reserve: int) -> bool:
    """Whether fewer than ``reserve`` descriptors are free, or less than a quarter if there are but a few.

    Args:
        newest: the number of the descriptor opened last. The system gives out the lowest number that is free
            (POSIX, 2.6), so that all below it are in use, and nobody needs to count them.
        reserve: how many shall stay free.
    """
    limit = soft_limit()
    return limit is not None and newest >= limit - min(reserve, limit // SMALL_LIMIT_PART)


def soft_limit() -> int | None:
    """How many descriptors this process may have now; ``None`` if there is no limit."""
    if resource is None:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
