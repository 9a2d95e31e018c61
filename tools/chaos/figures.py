"""Figures: what was measured, and the limits it is held against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        what: what was measured; of one scenario, each is there once.
        value: the figure; ``None`` if it could not be measured here.
        unit: of the value and of the limits.
        at_most: the limit, if there is one from above.
        at_least: the limit, if there is one from below.
    """

    what: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def limit(self) -> str:
        """The limit as people read it; empty if there is none."""
        if self.at_most is not None and self.at_most == self.at_least:
            return f"= {show(self.at_most, self.unit)}"
        parts = [f"≥ {show(self.at_least, self.unit)}"] if self.at_least is not None else []
        parts += [f"≤ {show(self.at_most, self.unit)}"] if self.at_most is not None else []
        return ", ".join(parts)

    @property
    def verdict(self) -> str:
        """``met`` or ``missed``; ``not measured``; empty without a limit."""
        if self.value is None:
            return "not measured"
        if not self.limit:
            return ""
        return "missed" if self.missed else "met"

    @property
    def missed(self) -> bool:
        """Whether a limit is not kept."""
        if self.value is None:
            return False
        above = self.at_most is not None and self.value > self.at_most
        return above or (self.at_least is not None and self.value < self.at_least)


def figures_of(result: Sequence[Figure] | Mapping[str, Any], limits: Mapping[str, float]) -> list[Figure]:
    """What a scenario has returned: its figures, or a mapping whose numbers may have a limit from above."""
    if not isinstance(result, Mapping):
        return list(result)
    return [
        Figure(what, value, at_most=limits.get(what))
        for what, value in result.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def none_of(what: str, count: int) -> Figure:
    """A count that has to be 0."""
    return Figure(what, count, at_most=0, at_least=0)


def all_of(what: str, count: int, total: int) -> Figure:
    """A count that has to be ``total``."""
    return Figure(f"{what}, of {total}", count, at_most=total, at_least=total)


def show(value: float | None, unit: str = "") -> str:
    """A number with its unit, as precise as makes sense."""
    if value is None:
        return "-"
    number = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{number} {unit}".strip()


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of a hundred values do not exceed."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def combine(rounds: Iterable[Sequence[Figure]]) -> list[tuple[Figure, Figure]]:
    """For each figure the median of the rounds, and the worst of them."""
    by_name: dict[str, list[Figure]] = {}
    for figures in rounds:
        for figure in figures:
            by_name.setdefault(figure.what, []).append(figure)
    return [(_median(same), _worst(same)) for same in by_name.values()]


def _median(same: list[Figure]) -> Figure:
    measured = [figure.value for figure in same if figure.value is not None]
    value = median(measured) if measured else None
    return Figure(same[0].what, value, same[0].unit, same[0].at_most, same[0].at_least)


def _worst(same: list[Figure]) -> Figure:
    for figure in same:
        if figure.missed:
            return figure
    from_above = same[0].at_most is not None or same[0].at_least is None
    return (max if from_above else min)(same, key=lambda figure: figure.value if figure.value is not None else -1)
