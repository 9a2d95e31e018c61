"""The reasons that a node may give, read from the specification."""

from __future__ import annotations

import re
from pathlib import Path

SPECIFICATION = Path(__file__).parents[2] / "docs" / "protocol.rst"
REASONS = {
    int(number): name.lower()
    for number, name in re.findall(r"^   \* - (\d+)\n     - ``(\w+)``", SPECIFICATION.read_text("utf-8"), re.MULTILINE)
}


def name_of(reason: int | None) -> str:
    """The name of a reason; ``silence`` if none was given.

    Raises:
        KeyError: it is not documented.
    """
    return "silence" if reason is None else REASONS[reason]
