"""The relay of counted round trips is dialled in place of the listening side."""

from __future__ import annotations

from typing import Any

import pytest

from tools.bench.lockstep import redirect


@pytest.mark.parametrize(
    ("address", "redirected"),
    [
        (["127.0.0.1", 4000], ["127.0.0.1", 5000]),
        ("127.0.0.1:4000", "127.0.0.1:5000"),
        ("4000@127.0.0.1:4000", "4000@127.0.0.1:5000"),
        ("tcp://127.0.0.1:4000/4000", "tcp://127.0.0.1:5000/4000"),
    ],
)
def test_an_address_keeps_everything_but_its_port(address: Any, redirected: Any) -> None:
    assert redirect(address, 5000) == (4000, redirected)
