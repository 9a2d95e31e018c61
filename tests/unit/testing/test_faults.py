from __future__ import annotations

import pytest

from peernet.errors import ConfigurationError
from peernet.testing import Faults


def test_by_default_nothing_happens() -> None:
    assert not any(getattr(Faults(), name) for name in Faults.__dataclass_fields__)


@pytest.mark.parametrize(
    "value",
    [
        {"latency": -1},
        {"jitter": -0.1},
        {"dribble": -1},
        {"cut_at": -1},
        {"flip_at": -1},
        {"bandwidth": 0},
        {"flip_probability": 1.1},
        {"flip_probability": float("nan")},
    ],
)
def test_impossible_values_are_refused(value: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(value))):
        Faults(**value)  # type: ignore[arg-type]
