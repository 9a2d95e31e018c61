from __future__ import annotations

import os
import resource

import pytest

from peernet.transport import descriptors
from peernet.transport.descriptors import are_scarce, soft_limit


@pytest.mark.parametrize(
    ("limit", "first_refused"),
    [(1024, 960), (256, 192), (100, 75), (64, 48)],
)
def test_the_reserve_is_kept_and_a_quarter_of_a_small_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int, first_refused: int
) -> None:
    monkeypatch.setattr(descriptors, "soft_limit", lambda: limit)
    assert not are_scarce(first_refused - 1, 64)
    assert are_scarce(first_refused, 64)


def test_without_a_limit_they_are_never_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "soft_limit", lambda: None)
    assert not are_scarce(10**9, 64)


def test_the_limit_is_that_of_the_system() -> None:
    assert soft_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_no_limit_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert soft_limit() is None


def test_the_number_of_a_new_descriptor_tells_how_many_are_in_use_at_least() -> None:
    """What the module relies on."""
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    newest = os.dup(opened[0])
    in_use = len(os.listdir("/proc/self/fd")) - 1  # the one that lists
    for descriptor in (*opened, newest):
        os.close(descriptor)
    assert newest < in_use
