"""Directives that make tables from the code, so that the documentation cannot drift from it.

They are the keys of ``TABLES``, and take neither arguments nor content.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from peernet.channel.state import TRANSITIONS as CHANNEL_TRANSITIONS
from peernet.config import PROFILES, NetworkConfig, limits
from peernet.reasons import Reason
from peernet.runtime.services import TRANSITIONS as NETWORK_TRANSITIONS
from peernet.wire.connection import TRANSITIONS as CONNECTION_TRANSITIONS
from peernet.wire.connection import ConnectionState, Direction
from peernet.wire.disconnect import OUTCOMES, TIMEOUTS, Phase

ROOT = Path(__file__).resolve().parents[2]
Row = tuple[str, ...]


def connection_states() -> Iterator[Row]:
    """One row per state, one column per kind that matters."""
    columns = ("hello", "disconnect", "other")
    yield ("state", "hello", "disconnect", "any other kind")
    for state in ConnectionState:
        yield (f"``{state.name}``", *(_next_states(state, what) for what in columns))


def _next_states(state: ConnectionState, what: str) -> str:
    found = {way: CONNECTION_TRANSITIONS.get((state, way, what)) for way in Direction}
    if len(set(found.values())) == 1:
        return _state_name(found[Direction.SENT])
    return "; ".join(f"{way.value}: {_state_name(after)}" for way, after in found.items())


def _state_name(state: ConnectionState | None) -> str:
    return "error" if state is None else f"``{state.name}``"


def channel_states() -> Iterator[Row]:
    """One row per state."""
    return _following(CHANNEL_TRANSITIONS)


def network_states() -> Iterator[Row]:
    """One row per state."""
    return _following(NETWORK_TRANSITIONS)


def _following(transitions: Mapping[Any, frozenset[Any]]) -> Iterator[Row]:
    yield ("state", "may become")
    for state, following in transitions.items():
        names = [f"``{after.name}``" for after in transitions if after in following]
        yield (f"``{state.name}``", ", ".join(names) or "nothing: it has ended")


def disconnect_outcomes() -> Iterator[Row]:
    """One row per reason, one column per phase."""
    yield ("reason", *(phase.value for phase in Phase))
    for reason, outcomes in OUTCOMES.items():
        name = "no disconnect" if reason is Reason.CONNECTION_LOST else f"``{reason.name}``"
        yield (name, *(outcome.value for outcome in outcomes))


def timeouts() -> Iterator[Row]:
    """One row per timeout that ends a connection or a session."""
    yield ("limit", "seconds", "in which", "the other side is told", "then")
    for name, timeout in TIMEOUTS.items():
        told = f"``{timeout.reason.name}``" if timeout.reason is not None else "nothing"
        yield (f"``{name}``", _shown(getattr(NetworkConfig(), name)), timeout.passed, told, timeout.outcome.value)


def rooms() -> Iterator[Row]:
    """One row per room, as ``tools/check_layers --table`` prints them."""
    yield ("row", "room", "what it owns")
    for row, name, what in runpy.run_path(str(ROOT / "tools" / "check_layers"))["table"]():
        yield (row, f"``{name}``", what)


def limit_rows() -> Iterator[Row]:
    """One row per limit."""
    yield ("name", "default", "unit", "what happens there")
    for limit in limits(NetworkConfig()):
        yield (f"``{limit.name}``", _shown(limit.default), limit.unit, limit.at_limit)


def profile_rows() -> Iterator[Row]:
    """One row per limit that some profile changes."""
    yield ("name", *PROFILES)
    changed = {name for profile in PROFILES.values() for name in profile}
    configs = [NetworkConfig.profile(profile) for profile in PROFILES]
    for limit in limits(NetworkConfig()):
        if limit.name in changed:
            yield (f"``{limit.name}``", *(_shown(getattr(config, limit.name)) for config in configs))


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"{value:,}"


class TableDirective(Directive):
    """A list-table of rows that a function makes; the first row is the header."""

    @staticmethod
    def rows() -> Iterable[Row]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
        for row in self.rows():
            lines += [f"   {'*' if not number else ' '} - {cell}" for number, cell in enumerate(row)]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, source="tables"), self.content_offset, parent)
        return list(parent.children)


TABLES = {
    "connection-states": connection_states,
    "channel-states": channel_states,
    "disconnect-outcomes": disconnect_outcomes,
    "timeouts": timeouts,
    "network-states": network_states,
    "rooms": rooms,
    "limits": limit_rows,
    "profiles": profile_rows,
}


def setup(app: Any) -> dict[str, bool]:
    for name, rows in TABLES.items():
        app.add_directive(name, type("Table", (TableDirective,), {"rows": staticmethod(rows)}))
    return {"parallel_read_safe": True}
